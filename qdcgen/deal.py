"""Dealing without repeats: the n-th of many, each once before any comes twice, in an order that a seed decides.

Any card can be asked for by its number, in any order and in constant time and memory, because the rows of a mix are
made side by side and on several machines: nothing is shuffled, nothing is remembered. Pure.
"""

from __future__ import annotations

import random
from functools import lru_cache
from hashlib import sha256
from math import isqrt

__all__ = ["nth", "pair", "pairs"]

ROUNDS = 4
"""Rounds of the Feistel network; 3 pass for random (Luby and Rackoff 1988), one is to spare."""
FEW = 256
"""Things that are simply shuffled: a network that small is visibly uneven, by up to 30 % in a place of 5."""


def nth(number: int, count: int, seed: int) -> int:
    """Which of `count` things the row `number` gets: every one once in each `count` rows, each time in another order.

    Many are dealt by a Feistel network over the next power of 4, walked on until it falls below `count` (Black and
    Rogaway 2002): fewer than four steps on average, some 5 µs.
    """
    turn, place = divmod(number, count)
    if count <= FEW:
        return _shuffled(count, seed, turn)[place]
    half = ((count - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    digest = sha256(f"{seed}/{turn}/{count}".encode()).digest()
    keys = [int.from_bytes(digest[8 * i : 8 * i + 8], "big") for i in range(ROUNDS)]
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        place = left << half | right
        if place < count:
            return place


@lru_cache(maxsize=1024)
def _shuffled(count: int, seed: int, turn: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(f"{seed}/{turn}").shuffle(order)
    return tuple(order)


def _mixed(x: int) -> int:
    """64 bits in which each depends on all of x (the finaliser of MurmurHash3)."""
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & 0xFFFFFFFFFFFFFFFF
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & 0xFFFFFFFFFFFFFFFF
    return x ^ x >> 33


def pairs(count: int) -> int:
    """How many unordered pairs of two different ones there are among `count`."""
    return count * (count - 1) // 2


def pair(number: int) -> tuple[int, int]:
    """The pair of that number, lower first: 0 is (0, 1), 1 is (0, 2), 2 is (1, 2), 3 is (0, 3), and so on."""
    high = (1 + isqrt(1 + 8 * number)) // 2
    return number - pairs(high), high

"""How far each of many vectors of unit length is from its nearest others: exact, in blocks, on a GPU if there is one.

All is compared with all that is asked for; there is no index, so nothing is missed. On two cores 2,000 texts are asked
for among 1,000,000; on a GPU (torch with CUDA, if it happens to be installed) every text is.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

__all__ = ["by_torch", "card", "nearest"]

CHUNK = 8_192
"""Vectors gathered at once: 8 MB at 256 numbers, so that no copy of all of them is ever made."""
BLOCK = 256
"""Vectors asked at once: their products with a chunk take 8 MB."""

CELLS = 2**31
"""Products that a card holds at once, of which a quarter of its free memory is the most: 8 GB."""
GROUP = 64
SPARE = 22
"""Candidates beyond k whose products are worked out again: 32 for the 10 nearest."""
SHORT = 1e-3
"""Most that a product of unit vectors in 19 bits (TF32) is off: each factor is rounded by 2⁻¹¹."""


def nearest(
    vectors: Vectors, asked: NDArray[np.int64], k: int, among: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Mean cosine distance from each asked vector to its k nearest others, (len(asked),) in [0, 2]; exact.

    `among` is the rows that are looked among, all without it; `asked` are places in `among`. A vector is never its own
    neighbour, but an equal one in another row is.

    Raises:
        ValueError: there are no k others.
    """
    import numpy as np

    n = len(vectors) if among is None else len(among)
    if k >= n:
        message = f"{k} neighbours among {n} vectors"
        raise ValueError(message)
    best = np.full((len(asked), k), -np.inf, dtype=np.float32)
    for start in range(0, n, CHUNK):
        stop = min(start + CHUNK, n)
        chunk = vectors[start:stop] if among is None else vectors[among[start:stop]]
        for first in range(0, len(asked), BLOCK):
            places = asked[first : first + BLOCK]
            rows = vectors[places if among is None else among[places]]
            cosines = rows @ chunk.T
            own = np.flatnonzero((places >= start) & (places < stop))
            cosines[own, places[own] - start] = -np.inf
            held = best[first : first + BLOCK]
            # After a few chunks most hold nothing nearer than what is known: the largest is found ten times faster
            # than the k largest.
            better = np.flatnonzero(cosines.max(axis=1) > held.min(axis=1))
            some = np.concatenate([held[better], cosines[better]], axis=1)
            some.partition(some.shape[1] - k, axis=1)
            held[better] = some[:, -k:]
    found: NDArray[np.float64] = 1 - best.mean(axis=1, dtype=np.float64)
    return np.clip(found, 0.0, 2.0)


def card(vectors: Vectors) -> str | None:
    """The torch device that these vectors fit on three times over; None without torch, without CUDA, or where not."""
    if find_spec("torch") is None:
        return None
    torch: Any = __import__("torch")
    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    return "cuda" if free > 3 * vectors.nbytes else None


def by_torch(
    vectors: Vectors, asked: NDArray[np.int64], k: int, device: str, among: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """The same as `nearest`, to 1e-5, through torch on `device`.

    Products are taken in TF32, seven times as fast as in 32 bits and off by less than 0.001. The k + 22 that look
    nearest are worked out again in 32 bits; where the k-th of them does not beat the last by that error, one that was
    passed over could be nearer, and the vector is looked up again in 32 bits throughout. The largest of a row lie in
    as many groups of 64 as have the largest maxima, which is quicker to know than to sort the row.
    """
    import numpy as np

    torch: Any = __import__("torch")
    n = len(vectors) if among is None else len(among)
    if k >= n:
        message = f"{k} neighbours among {n} vectors"
        raise ValueError(message)
    padded = -(-n // GROUP) * GROUP
    whole = torch.zeros((padded, vectors.shape[1]), dtype=torch.float32, device=device)
    for start in range(0, n, CHUNK * 8):
        rows = slice(start, start + CHUNK * 8) if among is None else among[start : start + CHUNK * 8]
        part = torch.from_numpy(np.ascontiguousarray(vectors[rows]))
        whole[start : start + len(part)] = part.to(device)
    cells = CELLS if device == "cpu" else min(CELLS, torch.cuda.mem_get_info()[0] // 16)
    block = max(1, min(4_096 if device != "cpu" else BLOCK, cells // padded))
    wanted = torch.from_numpy(np.ascontiguousarray(asked)).to(device)
    found = torch.empty(len(asked), dtype=torch.float64, device=device)
    fast = torch.backends.cuda.matmul.allow_tf32
    try:
        for start in range(0, len(asked), block):
            places = wanted[start : start + block]
            torch.backends.cuda.matmul.allow_tf32 = True
            best, floor = _best(torch, whole, places, n, min(n - 1, k + SPARE))
            best = best[:, :k]
            unsure = (best[:, -1] < floor + SHORT) & (best[:, -1] < 1 - 1e-6)
            again = torch.nonzero(unsure).flatten() if n - 1 > k + SPARE else []
            if len(again):
                torch.backends.cuda.matmul.allow_tf32 = False
                best[again] = _best(torch, whole, places[again], n, k)[0]
            found[start : start + block] = 1 - best.double().mean(dim=1)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = fast
    mean: NDArray[np.float64] = found.clamp(0.0, 2.0).cpu().numpy()
    return mean


def _best(torch: Any, whole: Any, places: Any, n: int, most: int) -> tuple[Any, Any]:
    """(rows, most) largest cosines with others, worked out again in 32 bits, and the least that the fast ones gave."""
    rows = whole[places]
    products = rows @ whole.T
    products[:, n:] = -torch.inf
    products[torch.arange(len(places), device=whole.device), places] = -torch.inf
    tops = products.view(len(places), -1, GROUP).amax(dim=2)
    groups = tops.topk(min(most, tops.shape[1]), dim=1).indices
    within = torch.arange(GROUP, device=whole.device)
    cells = (groups[:, :, None] * GROUP + within).flatten(1)
    values, at = products.gather(1, cells).topk(most, dim=1)
    del products
    others = cells.gather(1, at)
    # Some hundred rows at a time: gathered all at once, 4,096 × 32 vectors of 384 numbers would take 200 MB.
    exact = torch.empty_like(values)
    for first in range(0, len(places), 512):
        some = slice(first, first + 512)
        exact[some] = (whole[others[some]] * rows[some][:, None, :]).sum(dim=2)
    return exact.sort(dim=1, descending=True).values, values[:, -1]

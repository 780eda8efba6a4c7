"""Embedder `wordllama`: 256 numbers a text, looked up rather than computed; ships in the install."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdcgen.parts import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

CHUNK = 2_048
"""Texts tokenised at once: 60-word texts hold 60 MB meanwhile."""

LONGEST = 100_000
"""Letters of a text that are read; the mean over 20,000 tokens does not change with more."""


class Wordllama(Embedder):
    """Mean of static token vectors (256-d, from the input layer of a large model): no download, 20,000 texts a second.

    Source: the package wordllama (MIT), weights l2_supercat_256. Tokens outside its vocabulary of 32,000 fall back to
    bytes, so any script has a vector. What makes it lie: it is a bag of tokens, so word order, negation and who did
    what to whom are invisible: "dog bites man" and "man bites dog" have distance 0.
    """

    @property
    def label(self) -> str:
        """`wordllama 0.4.0 l2_supercat 256d`."""
        return f"wordllama {version('wordllama')} l2_supercat 256d"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 256) float32, rows of unit length; a text without a token gets the first unit vector.

        Each row depends on its own text only, bit for bit, whatever stands beside it.
        """
        import numpy as np
        from scipy.sparse import csr_array

        tokenizer, table = _model()
        size, width = table.shape
        vectors = np.zeros((len(texts), width), dtype=np.float32)
        for start in range(0, len(texts), CHUNK):
            chunk = [_clean(text) for text in texts[start : start + CHUNK]]
            ids = [found.ids for found in tokenizer.encode_batch_fast(chunk, add_special_tokens=False)]
            # A sparse count of tokens times the table: padding every text to the longest, as the library does, takes
            # 6 GB as soon as one text of 100,000 letters is among 64.
            ends = np.cumsum([0, *map(len, ids)])
            flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(ends[-1]))
            flat = np.minimum(flat, size - 1)
            counts = csr_array((np.ones(len(flat), dtype=np.float32), flat, ends), shape=(len(chunk), size))
            vectors[start : start + len(chunk)] = counts @ table
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]  # norm() would copy all of them once
        empty = lengths[:, 0] == 0
        vectors[empty, 0] = 1.0
        lengths[empty] = 1.0
        vectors /= lengths
        return vectors


def _clean(text: str) -> str:
    """The text as the tokenizer takes it: bounded, and without lone surrogates, which it refuses with a TypeError."""
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@cache
def _model() -> tuple[Any, NDArray[np.float32]]:
    """Tokenizer and (32000, 256) table, read from the installed package: never from the network."""
    import logging

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    import wordllama

    # Importing it calls logging.basicConfig(level=INFO): every library's INFO lines would land on our stderr.
    for added in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(added)
    root.setLevel(level)
    # The plain load() looks for the tokenizer in `tokenizer/`, which the wheel calls `tokenizers/`, and then asks the
    # network; as a cache the package's own folder has the right name.
    package = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
    model.tokenizer.no_padding()
    return model.tokenizer, model.embedding

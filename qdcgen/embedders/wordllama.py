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

CHUNK = 256
"""Texts tokenised at once: 60-word texts hold 8 MB meanwhile; 2,048 at once took 60 MB and was 1.7 times slower."""

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
            used, columns = np.unique(np.minimum(flat, size - 1), return_inverse=True)
            counts = csr_array((np.ones(len(flat), dtype=np.float32), columns, ends), shape=(len(chunk), len(used)))
            vectors[start : start + len(chunk)] = counts @ table[used].astype(np.float32)
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
def _model() -> tuple[Any, NDArray[np.float16]]:
    """Tokenizer and (32000, 256) table, read from the installed package's own files: never from the network.

    The table stays in 16 bits, as it lies in the file: 16 MB instead of 32.

    Without importing the package: that takes 18 MB and 0.1 s more, and calls logging.basicConfig(level=INFO), which
    would land every library's INFO lines on our stderr.
    """
    from importlib.util import find_spec

    from safetensors import safe_open
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package wordllama is not installed; type: pip install --force-reinstall qdcgen")
    package = Path(spec.origin).parent
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    with safe_open(str(package / "weights" / "l2_supercat_256.safetensors"), "np") as weights:
        return tokenizer, weights.get_tensor("embedding.weight")

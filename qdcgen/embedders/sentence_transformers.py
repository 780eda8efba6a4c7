"""Embedder `sentence_transformers`: any model of that library, local or from its hub."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from qdcgen.errors import MissingExtra
from qdcgen.parts import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class SentenceTransformers(Embedder):
    """A sentence-transformers model by name or folder; uses a GPU where there is one. Needs the extra of that name.

    What makes it lie: texts beyond the model's own limit (often 256 tokens) are cut without a word.

    Raises:
        MissingExtra: the extra `sentence-transformers` is not installed.
    """

    short: ClassVar[str | None] = "name"

    name: str = Field(default="all-MiniLM-L6-v2", min_length=1)
    """Model name on the hub, or a folder."""

    @property
    def label(self) -> str:
        """`all-MiniLM-L6-v2 (sentence-transformers 5.1.0)`."""
        _installed()
        return f"{self.name} (sentence-transformers {version('sentence-transformers')})"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, rows of unit length; a text that the model maps to 0 gets the first unit vector."""
        import numpy as np

        model = _model(self.name)
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        if not clean:
            return np.zeros((0, model.get_sentence_embedding_dimension() or 1), dtype=np.float32)
        vectors: NDArray[np.float32] = np.array(
            model.encode(clean, convert_to_numpy=True, normalize_embeddings=False, show_progress_bar=False),
            dtype=np.float32,
        )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        empty = ~(lengths[:, 0] > 0)
        vectors[empty] = 0.0
        vectors[empty, 0] = 1.0
        lengths[empty] = 1.0
        vectors /= lengths
        return vectors


def _installed() -> None:
    if find_spec("sentence_transformers") is None:
        what = "the embedder sentence_transformers"
        raise MissingExtra(what, "sentence-transformers")


@cache
def _model(name: str) -> Any:
    _installed()
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(name)

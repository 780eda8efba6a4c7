"""Embedder `provider`: an embedding model behind an API, by litellm's name for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.parts import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BATCH = 256
"""Texts a request: hosts take 96 (Cohere) to 2,048 (OpenAI); those that take fewer say so."""


class Provider(Embedder):
    """An embedding model of a provider, such as `openai/text-embedding-3-small`. Costs money, and sends texts out.

    What makes it lie: a provider may change the model behind a name; the label cannot see that.

    Raises:
        ModelRefused: key, quota or permission.
        RunError: the provider fails, or its reply does not fit.
    """

    short: ClassVar[str | None] = "model"

    model: str = Field(min_length=1)
    """litellm's name of the model, provider first."""

    batch: int = Field(default=BATCH, ge=1, le=2_048)
    """Texts a request."""

    @property
    def label(self) -> str:
        """`openai/text-embedding-3-small`."""
        return self.model

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, rows of unit length; an empty text is sent as one full stop, for providers refuse it."""
        import numpy as np

        from qdcgen.model.vectors import embed

        rows = [
            row
            for start in range(0, len(texts), self.batch)
            for row in embed(self.model, [text.strip() or "." for text in texts[start : start + self.batch]])
        ]
        if not rows:
            return np.zeros((0, 1), dtype=np.float32)
        vectors = np.array(rows, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        empty = ~(lengths[:, 0] > 0)
        vectors[empty] = 0.0
        vectors[empty, 0] = 1.0
        lengths[empty] = 1.0
        vectors /= lengths
        return vectors

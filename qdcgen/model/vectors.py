"""Embeddings from a provider, by litellm. The only place outside the transports that imports it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qdcgen.errors import ModelRefused, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["embed"]


def embed(model: str, texts: Sequence[str]) -> list[list[float]]:
    """One vector a text, in order, as the provider gives them.

    Raises:
        ModelRefused: key, quota or permission.
        RunError: the provider cannot be reached, answers an error, or gives another number of vectors.
    """
    # Before the import: it otherwise fetches its price list from the network, and waits for it.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm
    from litellm import exceptions as failed

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    try:
        reply = litellm.embedding(model=model, input=list(texts), num_retries=4, timeout=120)
    except (failed.AuthenticationError, failed.PermissionDeniedError, failed.NotFoundError) as error:
        message = f"{model}: {_plain(error)}"
        raise ModelRefused(message) from None
    except (
        failed.APIConnectionError,
        failed.APIError,
        failed.BadRequestError,
        failed.InternalServerError,
        failed.RateLimitError,
        failed.ServiceUnavailableError,
        failed.Timeout,
    ) as error:
        message = f"{model}: no embeddings: {_plain(error)}"
        raise RunError(message) from None
    found = sorted(reply.data, key=lambda item: item["index"])
    if len(found) != len(texts):
        message = f"{model}: {len(found)} vectors for {len(texts)} texts"
        raise RunError(message)
    return [list(item["embedding"]) for item in found]


def _plain(error: Exception) -> str:
    """First line of an error, at most 300 letters: providers echo whole requests, keys included."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

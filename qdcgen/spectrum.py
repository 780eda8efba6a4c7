"""The Vendi score: the effective number of a spectrum of similarities. Pure.

The metric `vendi`, the curve of a filter and the table of attrition all take it from here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["effective", "spectrum_of", "vendi", "vendi_of_vectors"]

ROUNDING = 1e-12
"""Eigenvalues up to this are nothing but rounding."""


def effective(spectrum: NDArray[np.floating[Any]], q: float) -> float:
    """Effective number of an eigenvalue spectrum that sums to 1: the Hill number of order q ≥ 0, in [1, len]."""
    import numpy as np

    kept = spectrum[spectrum > ROUNDING]
    kept = kept / kept.sum()
    if q == 1:
        return float(np.exp(-(kept * np.log(kept)).sum()))
    if math.isinf(q):
        return float(1 / kept.max())
    return float((kept**q).sum() ** (1 / (1 - q)))


def vendi(kernel: Any, q: float = 1.0) -> float:
    """Vendi score of an (n, n) similarity matrix with ones on its diagonal, in [1, n].

    Raises:
        ValueError: the matrix is empty, not square, not symmetric, or its diagonal is not 1.
    """
    import numpy as np

    k = np.asarray(kernel, dtype=np.float64)
    square = k.size > 0 and k.shape == (len(k), len(k))
    if not square or not np.allclose(k, k.T) or not np.allclose(np.diag(k), 1):
        message = "a similarity matrix is square and symmetric, with ones on its diagonal"
        raise ValueError(message)
    return effective(np.linalg.eigvalsh(k / len(k)), q)


def vendi_of_vectors(vectors: Any, q: float = 1.0) -> float:
    """Vendi score of (n, d) unit vectors under cosine similarity, in [1, min(n, d)]. O(min(n, d)³ + n·d·min(n, d)).

    Raises:
        ValueError: there are no vectors.
    """
    import numpy as np

    found = np.asarray(vectors, dtype=np.float64)
    if not found.size:
        message = "no vectors"
        raise ValueError(message)
    return effective(spectrum_of(found), q)


def spectrum_of(vectors: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Eigenvalues of K/n, ascending; of the smaller of the n×n and the d×d matrix, which share all that are not 0."""
    import numpy as np

    found = vectors.astype(np.float64)
    small = found.T @ found if found.shape[0] > found.shape[1] else found @ found.T
    return np.linalg.eigvalsh(small / len(found))

"""Metric `formats`: the shapes that texts have, and which of them the filters let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.forms import FORMS, forms
from qdcgen.intervals import FEW, canonical, clamp, rarefied, wilson
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Codes = NDArray[np.int64]

SHOWN = 0.02
"""Share from which a form has a line of its own."""


class Formats(Metric):
    """Effective number of surface forms, the share of texts of each, and how many of each the filters kept.

    A text has the first form that fits: blank, JSON, code, table, dialogue, named fields, headings, letter, numbered
    list, list, paragraphs, lines, question, one sentence, one paragraph; told by rules, see qdcgen/forms.py. Effective
    number = exp(-Σ p ln p) over the shares p, from 1 (all alike) to 15, at equal n, by subsampling without replacement.
    Shares (forms from 2 % on) and the share accepted of those made of a form have Wilson intervals; the latter is told
    where something was turned down. Read on at most `texts` texts chosen by seed.

    What makes it lie: rules on the surface, with English greetings: a poem is "lines", a turn of a conversation
    without its speaker's name is prose. One form may be all that was asked for.

    Source: training can pull a model to one format and drop the others (arXiv 2504.07912); rules and forms are ours.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = (
        "effective_forms",
        *(key for form in FORMS for key in (form.lower().replace(" ", "_"), f"{form.lower().replace(' ', '_')}_kept")),
    )
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=20_000, ge=FEW, le=1_000_000)
    """Texts that are looked at, at most: their shares are sure to 0.7 %."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The effective number, then the shares of forms, then what was kept of each."""
        import numpy as np

        n = len(sample.texts)
        span = (1.0, float(len(FORMS)))
        if n < FEW:
            note = f"too few: {plural(n, 'text')}, needs {FEW}"
            return [
                Measure("diversity", "effective forms", None, range=span, n=n, of=sample.of, axis="form", note=note)
            ]
        chosen = canonical(sample.texts)
        if n > self.texts:
            chosen = chosen[np.random.default_rng(sample.seed).choice(n, self.texts, replace=False)]
        codes = forms([sample.texts[i] for i in chosen.tolist()]).astype(np.int64)
        return [self._effective(sample, codes, span), *_shares(sample, codes), *_kept(sample, codes, chosen)]

    def _effective(self, sample: Sample, codes: Codes, span: tuple[float, float]) -> Measure:
        import numpy as np

        read = len(codes)
        at = min(read, sample.equal_n or read)
        ordered = np.sort(codes)  # by form: the order of the rows must not matter

        def figure(rows: Codes) -> list[float]:
            shares = np.bincount(ordered[rows]) / len(rows)
            shares = shares[shares > 0]
            return [float(np.exp(-(shares * np.log(shares)).sum()))]

        (value,), (interval,) = rarefied(read, at, figure, seed=sample.seed, most=at)
        return Measure(
            "diversity",
            "effective forms",
            value,
            range=span,
            n=at,
            interval=clamp(interval, *span) if interval else None,
            of=sample.of,
            axis="form",
            note=f"forms below {100 * SHOWN:.0f} % of the texts have no line",
        )


def _shares(sample: Sample, codes: Codes) -> Iterator[Measure]:
    n = len(codes)
    for form, hits in _common(codes):
        share = wilson(hits, n)
        yield Measure("diversity", form, hits / n, n=n, interval=share, of=sample.of, axis="form")


def _kept(sample: Sample, codes: Codes, chosen: Codes) -> Iterator[Measure]:
    """Of each form that was made, how much was accepted; nothing where all of it was, or one form is all there is."""
    import polars as pl

    history, frame = sample.attempts, sample.frame
    if sample.of != "raw" or history is None or "_id" not in frame.columns or "_kept" not in history.columns:
        return
    said = frame.select("_id").join(history.select("_id", "_kept"), on="_id", how="left", maintain_order="left")
    kept = said["_kept"].fill_null(value=False).to_numpy()[chosen]
    common = _common(codes)
    if kept.all() or len(common) < 2:  # noqa: PLR2004  (with one form there is nothing to compare)
        return
    states = history["_state"] if "_state" in history.columns else pl.Series([], dtype=pl.String)
    surplus = bool((states == "surplus").any())
    for form, made in common:
        hits = int(kept[codes == FORMS.index(form)].sum())
        enough = made >= FEW
        told = f"{hits} of {made} made" + (", those not needed counted as not kept" if surplus else "")
        yield Measure(
            "diversity",
            f"{form}, kept",
            hits / made if enough else None,
            n=made,
            interval=wilson(hits, made) if enough else None,
            control=float(kept.mean()),
            control_of="all forms",
            of="raw",
            axis="form",
            note=told if enough else f"too few: {plural(made, 'text')} of this form, needs {FEW}",
        )


def _common(codes: Codes) -> list[tuple[str, int]]:
    """Forms from `SHOWN` on and their texts, in the order of `FORMS`."""
    import numpy as np

    counts = np.bincount(codes, minlength=len(FORMS)).tolist()
    return [(form, count) for form, count in zip(FORMS, counts, strict=True) if count >= SHOWN * len(codes)]

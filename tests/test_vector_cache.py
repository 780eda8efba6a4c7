"""What a run embedded is embedded once; what was remembered badly is embedded again."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from qdcgen import review
from qdcgen.embedders.wordllama import Wordllama
from qdcgen.intervals import canonical
from qdcgen.judge import chain
from qdcgen.measure import samples_of
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.store import Store
from qdcgen.vector_cache import FOLDER, Remembered, remembering

TEXTS = [f"message number {number} about {number * 7 % 13} things" for number in range(300)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that wordllama was really given, the probes of the filter `duplicates` left out."""
    given: list[str] = []
    real = Wordllama.embed

    def counted(self: Wordllama, texts: Any) -> Any:
        given.extend(text for text in texts if "card?" not in text and "transfer" not in text and "€" not in text)
        return real(self, texts)

    monkeypatch.setattr(Wordllama, "embed", counted)
    return given


def file(tmp_path: Any, ending: str) -> Any:
    (found,) = (tmp_path / FOLDER).glob(f"*.{ending}")
    return found


def test_another_process_finds_every_vector_as_it_was(tmp_path: Any, asked: list[str]) -> None:
    first = Remembered(Wordllama(), tmp_path).embed(TEXTS)
    assert len(asked) == len(TEXTS)
    later = Remembered(Wordllama(), tmp_path)
    assert np.array_equal(later.embed(TEXTS[::-1]), first[::-1])
    assert np.array_equal(later.embed(TEXTS[40:50] * 2), np.concatenate([first[40:50]] * 2))
    assert len(asked) == len(TEXTS)
    assert np.array_equal(first, Wordllama().embed(TEXTS))


def test_only_what_is_new_is_embedded_and_a_repeat_once(tmp_path: Any, asked: list[str]) -> None:
    part = Remembered(Wordllama(), tmp_path)
    part.embed(TEXTS[:100])
    del asked[:]
    mixed = [*TEXTS[90:120], *TEXTS[110:120], "\ud800 alone", ""]
    found = part.embed(mixed)
    assert asked == [*TEXTS[100:120], "\ud800 alone", ""]
    assert np.array_equal(found, Wordllama().embed(mixed))
    assert part.embed([]).shape[0] == 0


def test_a_changed_byte_is_noticed_and_that_vector_made_again(tmp_path: Any, asked: list[str]) -> None:
    first = Remembered(Wordllama(), tmp_path).embed(TEXTS)
    path, size = file(tmp_path, "vectors"), 4 * first.shape[1]
    content = bytearray(path.read_bytes())
    content[17 * size + 5] ^= 0x40
    path.write_bytes(content)
    for again in (1, 0):  # what was made again is found the second time
        del asked[:]
        assert np.array_equal(Remembered(Wordllama(), tmp_path).embed(TEXTS), first)
        assert asked == [TEXTS[17]][:again]


def test_vectors_that_stand_at_anothers_place_are_not_taken_for_theirs(tmp_path: Any, asked: list[str]) -> None:
    first = Remembered(Wordllama(), tmp_path).embed(TEXTS)
    path, size = file(tmp_path, "vectors"), 4 * first.shape[1]
    path.write_bytes(path.read_bytes()[size:])
    del asked[:]
    assert np.array_equal(Remembered(Wordllama(), tmp_path).embed(TEXTS), first)
    assert set(asked) == set(TEXTS)


@pytest.mark.parametrize("ending", ["vectors", "keys"])
@pytest.mark.parametrize("left", [0, 1, 7, 700])
def test_half_a_file_is_cut_where_it_is_whole_and_gone_on_with(
    tmp_path: Any, asked: list[str], ending: str, left: int
) -> None:
    first = Remembered(Wordllama(), tmp_path).embed(TEXTS[:200])
    path = file(tmp_path, ending)
    path.write_bytes(path.read_bytes()[:left])
    expected = np.concatenate([first, Wordllama().embed(TEXTS[200:])])
    assert np.array_equal(Remembered(Wordllama(), tmp_path).embed(TEXTS), expected)
    del asked[:]
    assert np.array_equal(Remembered(Wordllama(), tmp_path).embed(TEXTS), expected)
    assert asked == []


def test_two_that_write_at_once_do_not_spoil_each_other(tmp_path: Any, asked: list[str]) -> None:
    one, other = Remembered(Wordllama(), tmp_path), Remembered(Wordllama(), tmp_path)
    one.embed(TEXTS[:10])
    other.embed(TEXTS[5:20])
    one.embed(TEXTS[:40])
    del asked[:]
    assert np.array_equal(one.embed(TEXTS[:40]), other.embed(TEXTS[:40]))
    again = Remembered(Wordllama(), tmp_path)
    del asked[:]
    again.embed(TEXTS[:40])
    assert asked == []


def test_a_folder_that_cannot_be_written_to_keeps_nobody_from_embedding(tmp_path: Any) -> None:
    (tmp_path / FOLDER).write_text("no folder")
    part = Remembered(Wordllama(), tmp_path)
    for _ in range(2):
        assert np.array_equal(part.embed(TEXTS), Wordllama().embed(TEXTS))


class Wavering(Wordllama):
    """Its vectors move with what is embedded beside them, and have as many numbers as it is told."""

    width: int = 8
    alone: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """Always the same."""
        return "wavering"

    def embed(self, texts: Any) -> Any:
        """(n, width), turned by how many texts there are."""
        found = super().embed(texts)[:, : self.width] + np.float32(0.01 * len(texts))
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_vector_depends_on_its_text_alone_whatever_is_embedded_beside_it(tmp_path: Any) -> None:
    alone = np.concatenate([Wavering().embed([text]) for text in TEXTS[:9]])
    assert np.array_equal(Remembered(Wavering(), tmp_path).embed(TEXTS[:9]), alone)


def test_another_width_under_the_same_label_begins_anew(tmp_path: Any) -> None:
    Remembered(Wavering(), tmp_path).embed(TEXTS[:9])
    wider = Remembered(Wavering(width=12), tmp_path)
    assert wider.embed(TEXTS[:12]).shape == (12, 12)
    assert Remembered(Wavering(width=12), tmp_path).embed(TEXTS[:12]).shape == (12, 12)


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE = """\
recipe: 1
name: cached
models: {{writer: {{model: openai/test, api_base: "{url}"}}}}
taxonomy: {{topic: [lost card, fees, limits, closing, transfers]}}
generate: [{{write: {{fields: {{message: string}}, prompt: "About {{{{ topic }}}}"}}}}]
filters: [{{duplicates: {{field: message, meaning: 0.999}}}}]
target: {{rows: {rows}}}
"""


def test_a_run_embeds_each_text_once_for_its_filters_and_its_report(
    tmp_path: Any, server: Any, asked: list[str]
) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(RECIPE.format(url=server.url, rows=40))
    assert run(load(path), out, quiet=True).exit_code in {0, 4}
    first = list(asked)
    assert len(first) >= 40
    assert len(first) == len(set(first))
    del asked[:]
    (out / "measures.json").unlink(missing_ok=True)
    store = Store(out).peek()
    assert [line for line in store.verify() if FOLDER in line] == []
    told = review.of_run(store, review.recipe_at(store, out), "", ask=False)
    assert asked == []
    path.write_text(RECIPE.format(url=server.url, rows=60))
    run(load(path), out, quiet=True)
    assert 20 <= len(asked) == len(set(asked))
    assert not set(asked) & set(first)
    assert told.measures


def test_a_remembering_recipe_judges_and_resolves_as_it_did(tmp_path: Any, server: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(url=server.url, rows=40))
    recipe = load(path)
    remembered = remembering(recipe, tmp_path)
    assert remembering(remembered, tmp_path) is remembered
    assert chain(remembered) == chain(recipe)
    assert remembered.measure.embedder.part.label == recipe.measure.embedder.part.label


# ── one report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_populations_share_vectors_and_strings_and_a_repeat_is_embedded_once(asked: list[str]) -> None:
    raw = pl.DataFrame({"text": [*TEXTS[:150], *TEXTS[:50], *TEXTS[150:]]})
    anchor = pl.DataFrame({"text": ["a real one", *TEXTS[5:8], "a real one"]})
    frames = {"raw": raw, "kept": raw[::2], "anchor": anchor}
    samples = {one.of: one for one in samples_of(frames, "text", Wordllama())}
    found = {of: one.vectors() for of, one in samples.items()}
    assert len(asked) == len(set(asked)) == len(TEXTS) + 1
    for of, frame in frames.items():
        assert list(samples[of].texts) == frame["text"].to_list()
        assert np.array_equal(found[of], Wordllama().embed(frame["text"].to_list()))
    assert samples["raw"].vectors().base is found["raw"].base  # no copy
    assert samples["kept"].texts[3] is samples["raw"].texts[6]
    assert canonical(samples["raw"].texts) is canonical(samples["raw"].texts)


def test_a_population_without_texts_has_no_vectors() -> None:
    (sample,) = samples_of({"rows": pl.DataFrame({"text": []}, schema={"text": pl.String})}, "text", Wordllama())
    assert sample.vectors().shape == (0, 256)

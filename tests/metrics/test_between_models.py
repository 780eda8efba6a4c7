"""How alike models write: planted copies, repeats and strangers, and eight real models."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qdcgen.errors import UsageError
from qdcgen.foreign import written
from qdcgen.metrics.between_models import NAMES, BetweenModels
from qdcgen.parts import Sample

DATA = Path(__file__).parents[2] / "../shared/data/self_instruct/multi_model_outputs.jsonl"
BETWEEN, WITHIN, FAR, STYLE, SHARE = NAMES


def planted(texts, *, models=3, mixes=60, each=2, dim=48, seed=0, of="kept"):
    """A sample of `models` models with `each` texts a mix; `texts(rng, topic, model, turn, before)` gives a vector."""
    rng = np.random.default_rng(seed)
    rows, vectors = [], []
    for mix in range(mixes):
        topic, before = rng.normal(size=dim), {}
        for model in range(models):
            for turn in range(each):
                vector = texts(rng, topic, model, before)
                before.setdefault(model, []).append(vector)
                vectors.append(vector / np.linalg.norm(vector))
                rows.append((f"text {mix} {model} {turn}", f"m{model}", f"mix{mix}"))
    frame = pl.DataFrame(rows, schema=["text", "_writer", "_mix"], orient="row")
    kept = np.array(vectors, dtype=np.float32)
    return Sample(of, frame["text"].to_list(), frame, lambda: kept, "planted")


def measured(sample):
    found = BetweenModels().measure(sample)
    return {one.name: one for one in found if not one.axis}, {one.axis: one for one in found if one.axis}


def strangers(rng, _topic, _model, _before):
    return rng.normal(size=48)


def on_topic(rng, topic, _model, _before):
    return topic + rng.normal(size=48)


def test_strangers_are_no_more_alike_in_a_mix_than_random_pairs():
    found, pairs = measured(planted(strangers))
    for name in (BETWEEN, WITHIN):
        low, high = found[name].interval
        assert low <= found[name].control <= high
    low, high = found[SHARE].interval
    assert low <= 0.05 <= high
    assert found[SHARE].control == 0.05
    assert len(pairs) == 6
    assert all(abs(one.value) < 0.1 for one in pairs.values())


def test_two_models_that_copy_each_other_are_found_and_the_third_is_not():
    def copying(rng, topic, model, before):
        return before[0][len(before.get(1, []))] + 0.05 * rng.normal(size=48) if model == 1 else on_topic(
            rng, topic, model, before
        )  # fmt: skip

    _, pairs = measured(planted(copying))
    ranked = sorted(pairs, key=lambda axis: -pairs[axis].value)
    assert ranked[0] == "m0 × m1"
    assert pairs["m0 × m1"].interval[0] > pairs["m0 × m2"].interval[1]
    assert pairs["m0 × m1"].control < 0.1, "in other mixes they have nothing to copy"


def test_a_model_that_repeats_itself_is_alike_within_and_not_between():
    def repeating(rng, topic, model, before):
        if model == 2 and before.get(2):
            return before[2][0]
        return on_topic(rng, topic, model, before)

    plain, _ = measured(planted(on_topic))
    found, pairs = measured(planted(repeating))
    assert pairs["m2 × m2"].value == pytest.approx(1, abs=1e-5)
    assert found[WITHIN].value > plain[WITHIN].value + 0.1
    assert found[WITHIN].interval[0] > found[BETWEEN].interval[1]
    assert plain[WITHIN].interval[0] < plain[BETWEEN].value < plain[WITHIN].interval[1]


def test_a_models_own_style_is_seen_in_other_mixes():
    styles = np.random.default_rng(1).normal(size=(3, 48))

    def styled(rng, topic, model, _before):
        return topic + styles[model] + rng.normal(size=48)

    found, _ = measured(planted(styled, each=1))
    assert found[WITHIN].value is None
    assert "no mixes" in found[WITHIN].note
    assert found[STYLE].interval[0] > found[FAR].interval[1]
    assert found[STYLE].control == pytest.approx(found[FAR].value)
    assert found[BETWEEN].interval[0] > found[BETWEEN].control


def test_a_busy_model_and_a_full_mix_weigh_no_more():
    sample = planted(on_topic, seed=2)
    often = sample.frame.with_row_index().filter(pl.col("_writer") == "m0")
    again = np.concatenate([np.arange(len(sample.texts)), often["index"].to_numpy()])
    vectors = sample.vectors()[again]
    frame = sample.frame[again.tolist()]
    busy = Sample("kept", frame["text"].to_list(), frame, lambda: vectors, "planted")
    plain, full = measured(sample)[0], measured(busy)[0]
    assert full[BETWEEN].value == pytest.approx(plain[BETWEEN].value, abs=1e-5)
    assert full[FAR].value == pytest.approx(plain[FAR].value, abs=1e-5)


def test_the_order_of_the_rows_changes_nothing():
    sample = planted(on_topic, seed=3)
    order = np.random.default_rng(9).permutation(len(sample.texts))
    vectors, frame = sample.vectors()[order], sample.frame[order.tolist()]
    moved = Sample("kept", frame["text"].to_list(), frame, lambda: vectors, "planted")
    assert BetweenModels().measure(moved) == BetweenModels().measure(sample)


def test_the_interval_holds_what_other_mixes_give():
    held = {BETWEEN: 0, WITHIN: 0, FAR: 0}
    whole = measured(planted(on_topic, mixes=1_500))[0]
    for seed in range(20):
        found, _ = measured(planted(on_topic, mixes=40, seed=100 + seed))
        for name in held:
            low, high = found[name].interval
            held[name] += low <= whole[name].value <= high
    assert all(count >= 16 for count in held.values()), held


def test_few_mixes_one_model_and_blank_texts():
    found, pairs = measured(planted(on_topic, mixes=12))
    assert all(one.value is None and one.note == "too few: 12 mixes, needs 20" for one in found.values())
    assert not pairs
    assert BetweenModels().measure(planted(on_topic, models=1)) == []
    frame = pl.DataFrame({"text": ["a"]})
    assert BetweenModels().measure(Sample("kept", ["a"], frame, lambda: None, "none")) == []
    sample = planted(on_topic, models=2)
    blank = Sample(
        "kept", ["" if text.endswith("0 0") else text for text in sample.texts], sample.frame, sample.vectors, "x"
    )
    assert "blank" in measured(blank)[0][FAR].note


def test_writers_of_a_run_are_those_of_its_history():
    sample = planted(on_topic)
    frame = sample.frame.with_columns(pl.int_range(pl.len()).cast(pl.String).alias("_id"))
    history = frame.select("_id", "_writer").sample(fraction=1, shuffle=True, seed=4)
    run = Sample("kept", sample.texts, frame.drop("_writer"), sample.vectors, "planted", attempts=history)
    assert BetweenModels().measure(run) == BetweenModels().measure(sample)


def test_what_models_and_prompts_are_is_recognised_or_asked_for():
    frame = pl.DataFrame(
        {
            "model": ["a", "b"] * 40,
            "prompt": [n // 2 for n in range(80)],
            "id": range(80),
            "text": [f"t{n}" for n in range(80)],
        }
    )
    made, fact, remarks = written(frame, "f", model=None, group=None, axes=["model"], text=["text"])
    assert fact == {"models": "model, compared within prompt"}
    assert made["_mix"].n_unique() == 40
    assert not remarks
    assert written(frame, "f", model=None, group=None, axes=["prompt"], text=["text"])[0] is frame
    _, fact, remarks = written(frame.drop("prompt"), "f", model="model", group=None, axes=[], text=["text"])
    assert not fact
    assert "--group" in remarks[0]
    with pytest.raises(UsageError, match="--group prompt needs --model"):
        written(frame, "f", model=None, group="prompt", axes=[], text=["text"])
    with pytest.raises(UsageError, match="did you mean 'model'"):
        written(frame, "f", model="modle", group=None, axes=[], text=["text"])
    with pytest.raises(UsageError, match="that is the model"):
        written(frame, "f", model="model", group="model", axes=[], text=["text"])


def test_eight_real_models_are_told_from_random_pairs_and_from_each_other(qdcgen):
    if not DATA.exists():
        pytest.skip(f"no {DATA}")
    import json

    done = qdcgen("report", DATA, "--text", "output", "--axis", "model", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    found = {one["name"]: one for one in said["measures"] if not one["axis"]}
    assert said["facts"]["models"] == "model, compared within pid"
    assert found[BETWEEN]["interval"][0] > 10 * found[BETWEEN]["control"]
    assert found[STYLE]["interval"][0] > found[FAR]["interval"][1]
    assert found[WITHIN]["value"] is None
    assert found[SHARE]["interval"][0] > 0.6
    pairs = {one["axis"]: one for one in said["measures"] if one["name"] == "alike"}
    assert len(pairs) == 36
    ranked = sorted((axis for axis in pairs if pairs[axis]["value"] is not None), key=lambda a: -pairs[a]["value"])
    assert ranked[0] == "text-davinci-002 × text-davinci-003"
    assert all("davinci × " in axis for axis in ranked[-5:]), "the one that was never tuned is like no other"


RECIPE = """\
recipe: 1
name: pair
seed: 5
models:
  small: {{model: openai/small, api_base: "{url}"}}
  large: {{model: openai/large, api_base: "{url}"}}
taxonomy: {{topic: [{topics}]}}
layers: {{writer: {{models: [small, large]}}}}
generate:
  - write: {{fields: {{text: string}}, prompt: "On {{{{ topic }}}}."}}
filters:
  - pattern: {{field: text, must_not: ["^- soup 3"]}}
target: {{rows: 144}}
measure: {{text: text}}
"""
TOPICS = (
    "rain, boats, bread, shoes, bees, maps, soup, chess, salt, wool, rust, tea, glass, bridges, owls, clocks, paint, "
    "drums, ferns, ice, bricks, kites, roses, trains"
)


def test_a_run_tells_how_alike_its_writers_are_and_what_shapes_their_texts_have(server, tmp_path):
    from qdcgen.recipe import load
    from qdcgen.report.terminal import terminal
    from qdcgen.run import run

    def answer(body):
        topic = str(body["messages"][-1]["content"]).split("On ")[-1].split(".")[0]
        number = body["seed"] % 1000
        if body["model"].endswith("small"):
            return '{"text": "- TOPIC NUMBER\\n- all about TOPIC"}'.replace("TOPIC", topic).replace(
                "NUMBER", str(number)
            )
        return f'{{"text": "I like {topic} for {number} reasons."}}'

    server.answer = answer
    path = tmp_path / "pair.yaml"
    path.write_text(RECIPE.format(url=server.url, topics=TOPICS))
    outcome = run(load(path), tmp_path / "run", quiet=True)
    found = {one.name: one for one in outcome.report.measures if one.of == "kept" and not one.axis}
    assert found[BETWEEN].value > found[BETWEEN].control + 0.2
    assert found[WITHIN].value > found[BETWEEN].value, "each writer has a phrase of its own"
    assert found[STYLE].interval[0] > found[FAR].interval[1]
    shapes = {one.name: one for one in outcome.report.measures if one.axis == "form" and one.of == "kept"}
    assert shapes["list"].value == pytest.approx(0.5, abs=0.1)
    assert shapes["one sentence"].value == pytest.approx(1 - shapes["list"].value)
    assert ("list, kept", "raw") in {(one.name, one.of) for one in outcome.report.measures if one.axis == "form"}
    said = terminal(outcome.report, colour=False)
    assert "models most and least alike" in said
    assert "large × small" in said
    assert not any(len(line) > 80 for line in said.splitlines())

"""The layer `subtopics`: what a leaf of a taxonomy can be about, asked of a model once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from qdcgen.deal import nth
from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Layer, Position, Problem, Scene, Tools
from qdcgen.passages import clean, cut, unlike
from qdcgen.prompts import DATA, fenced, unknown_alias
from qdcgen.rows import Node, Taxonomy
from qdcgen.together import together

WORDS = 20
"""Words of one subtopic; what follows is left out."""
LETTERS = 0.8
"""Similarity of letters at which two subtopics are one: "late fee" and "late fees" have 0.8."""
CALLS = 2
"""Calls for a leaf at most: all at once, then once more for what was left out."""

SYSTEM = (
    "You divide a topic into subtopics for a data set. A subtopic is a phrase of two to eight words that names one "
    "concrete case, question or situation inside the topic: narrow enough that texts about two of them cannot be "
    "mistaken for each other, and together covering the topic, its rare corners included. No numbering, no overlap, "
    "no renaming of the topic itself. Reply with JSON: subtopics, a list of such phrases. " + DATA
)


class Subtopics(Layer):
    """One of the subtopics of the row's node: `{subtopics: {of: topic, count: 8}}`.

    Before the first row a model is asked once for each leaf of the taxonomy for all its subtopics; near-duplicates
    among them are left out, and it is asked once more for as many. They are frozen in the run folder as
    `axes/<axis>.json`, with what was left out and why: look at it, prune it, run again. The rows of a mix take a
    leaf's subtopics in turn, so that none comes twice before all came once. A leaf that no reply could be used for
    has itself as its only subtopic, and is named.

    Source: topics to subtopics in DiaSynth (Suresh et al. 2024, arXiv 2409.19020 §3).
    """

    short: ClassVar[str | None] = "of"

    of: str
    """Taxonomy whose leaves are divided."""
    count: int = Field(default=8, ge=1, le=100)
    """Subtopics of each leaf."""
    model: str | None = None
    """Alias of the model; default: the first one."""
    similarity: float = Field(default=0.85, gt=0, le=1)
    """Cosine of two subtopics' embeddings from which the later one is a near-duplicate, and left out."""

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The taxonomy and the alias exist."""
        trees = [name for name, axis in scene.axes.items() if isinstance(axis, Taxonomy)]
        if self.of not in trees:
            yield Problem(("of",), f"no taxonomy called {self.of!r}{nearest(self.of, trees)}")
        yield from unknown_alias(scene, model=self.model)

    def preparing(self) -> float:
        """Calls for each leaf at most."""
        return float(CALLS)

    async def prepare(self, tools: Tools) -> dict[str, Any]:
        """Leaf id → its subtopics, as plain data: `leaves` (`path`, `subtopics`, `dropped`)."""
        return await self.mend({"leaves": {}}, tools)

    async def mend(self, prepared: Any, tools: Tools) -> dict[str, Any]:
        """What was frozen, with the leaves that have come since; those that are there are not asked for again."""
        tree = tools.taxonomies[self.of]
        known = prepared["leaves"]
        planned = [leaf for leaf in tree.leaves if all(node.weight > 0 for node in tree.line(leaf.id))]
        lacking = [leaf for leaf in planned if leaf.id not in known]
        made = await together(self._divided(leaf, tools) for leaf in lacking)
        return {"leaves": known | {leaf.id: said for leaf, said in zip(lacking, made, strict=True)}}

    async def _divided(self, leaf: Node, tools: Tools) -> dict[str, Any]:
        found: list[str] = []
        dropped: list[dict[str, Any]] = []
        for turn in range(CALLS):
            said = await self._asked(leaf, turn, found, tools)
            kept, left = unlike(found, said, tools.embed, letters=LETTERS, meaning=self.similarity)
            found += kept
            dropped += [one._asdict() for one in left]
            if len(found) >= self.count:
                break
        return {"path": leaf.path, "subtopics": found, "dropped": dropped}

    async def _asked(self, leaf: Node, turn: int, found: Sequence[str], tools: Tools) -> list[str]:
        """The subtopics of one reply; none where it does not fit."""
        count = self.count - len(found)
        form = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": count}
        given: dict[str, Any] = {"topic": leaf.path}
        if leaf.text:
            given["meaning"] = cut(clean(leaf.text), 100)
        if found:
            given["already there"] = list(found)
        words = f"Give {count} subtopics" + (" unlike those that are already there." if found else ".")
        try:
            reply = await tools.ask(
                self.model or "",
                [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": f"{words}\n{fenced(given)}"},
                ],
                schema={
                    "type": "object",
                    "properties": {"subtopics": form},
                    "required": ["subtopics"],
                    "additionalProperties": False,
                },
                seed=f"{leaf.id}/{turn}",  # a second try must not be told what the first was
            )
        except RowFault:
            return []
        listed = (" ".join(cut(clean(one), WORDS).split()) for one in reply.parsed["subtopics"][:count])
        return [one for one in listed if one]

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, Any] | None:
        """The next subtopic of the row's leaf; none where the row's strategy does not draw that taxonomy."""
        node = names.get(self.of)
        if node is None:
            return None
        if at.prepared is None:
            number = nth(at.replicate, self.count, at.mix_seed)
            return {"text": f"subtopic {number + 1} of {node}", "number": number}
        listed = at.prepared["leaves"].get(node.id, {}).get("subtopics") or [str(node)]
        number = nth(at.replicate, len(listed), at.mix_seed)
        return {"text": listed[number], "number": number}

    def column(self) -> Mapping[str, str]:
        """A struct: the subtopic, and its place in the leaf's list, from 0."""
        return {"text": "String", "number": "Int64"}

    def remarks(self, prepared: Mapping[str, Any]) -> Sequence[str]:
        """How many there are, and leaves that got fewer than were wanted."""
        leaves = prepared["leaves"].values()
        total, dropped = (sum(len(one[key]) for one in leaves) for key in ("subtopics", "dropped"))
        said = [f"{total:,} subtopics of {len(leaves):,} leaves; {dropped:,} near-duplicates left out"]
        bare = [one["path"] for one in leaves if not one["subtopics"]]
        short = sum(0 < len(one["subtopics"]) < self.count for one in leaves)
        if short:
            said.append(f"{short:,} leaves have fewer than {self.count}")
        if bare:
            said.append(f"{len(bare):,} leaves have none, and stand for themselves: {', '.join(bare[:5])}")
        return said

"""The layer `tool_graph`: tools that go together, as a walk over a graph of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import orjson
from pydantic import Field

from qdcgen.deal import nth
from qdcgen.errors import UsageError
from qdcgen.parts import Layer, Position, Tools

if TYPE_CHECKING:
    from qdcgen.tool_walks import Graph


class ToolGraph(Layer):
    """A few tools that go together for each row: `{tool_graph: {file: tools.json, walk: 3}}`.

    The file is told by its content: a list of OpenAI functions (JSON, or JSONL with one a line), an MCP `tools/list`
    reply, an OpenAPI 3 document (JSON or YAML), or lists as benchmarks have them. One tool can follow another where a
    parameter of it matches a parameter or a return of the other, by name and description; or where `transitions`
    says so. A row's tools are a random walk along these steps, no tool twice; the rows of a mix begin at each tool in
    turn. Tools that nothing can follow begin no walk, and isolated ones are in none: they are named in the plan.
    `{{ axis }}` prints the tools as JSON, one a line; `{{ axis.names }}` lists their names in order.

    Source: graph sampling in ToolFlow (Wang et al. 2024, arXiv 2410.18447 §3.1), with its threshold. What makes it
    lie: a parameter that everything has (a city, a date) links what nobody would use together. On the 88 tools of SGD,
    19 % of the steps that the default finds are ones people took, against 5 % of all pairs.
    """

    short: ClassVar[str | None] = "file"

    file: str
    """The tools, in the recipe's folder: `.json`, `.jsonl`, `.yaml`."""
    walk: int = Field(default=3, ge=1, le=20)
    """Tools of a row; fewer where no more hang together."""
    threshold: float = Field(default=0.82, gt=0, le=1)
    """Cosine of two parameters' embeddings from which they match."""
    transitions: str | None = None
    """A table `from,to,count` of steps instead of matching: only these are taken, by their counts; `count` may be left
    out."""

    async def prepare(self, tools: Tools) -> Laid:
        """Read the tools and link them.

        Raises:
            UsageError, RecipeError: a file cannot be read or is broken; or no tool can follow another.
        """
        from qdcgen import tool_lists, tool_walks

        path = tools.file(self.file)
        listed = tool_lists.read(path)
        if self.transitions is not None:
            graph = tool_walks.linked(listed.tools, *tool_walks.counted(tools.file(self.transitions), listed.tools))
        else:
            graph = tool_walks.linked(listed.tools, tool_walks.matched(listed.tools, tools.embed, self.threshold))
        if self.walk > 1 and not graph.starts:
            where = self.transitions or f"threshold {self.threshold:g}"
            raise UsageError(
                f"{path}: none of its {len(listed.tools):,} tools can follow another ({where}); lower the threshold, "
                "list the steps under transitions:, or take one tool a row: walk: 1"
            )
        return Laid(graph, listed.repeats)

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, Any]:  # noqa: ARG002  (looks at no other axis)
        """A walk from the mix's next tool."""
        if at.prepared is None:
            shown = [{"name": "tool", "description": "", "parameters": {"type": "object", "properties": {}}}]
            return {"text": orjson.dumps(shown[0]).decode(), "names": ["tool"], "tools": shown}
        from qdcgen.tool_walks import walk

        graph: Graph = at.prepared.graph
        starts = graph.starts if self.walk > 1 else range(len(graph.tools))
        way = walk(graph, starts[nth(at.replicate, len(starts), at.mix_seed)], self.walk, at.rng)
        records = [graph.tools[place].record() for place in way]
        text = "\n".join(orjson.dumps(record).decode() for record in records)
        return {"text": text, "names": [record["name"] for record in records], "tools": records}

    def column(self) -> Mapping[str, str]:
        """A struct: the tools as a prompt shows them, their names in order, and as data."""
        return {"text": "String", "names": "List", "tools": "JSON"}

    def remarks(self, prepared: Laid) -> Sequence[str]:
        """Components and isolated tools."""
        from qdcgen.tool_walks import in_words

        again = f"{prepared.repeats:,} tools stand twice in {self.file} with one schema, and are one"
        return [*in_words(prepared.graph, self.walk), *([again] if prepared.repeats else [])]


class Laid(NamedTuple):
    """The graph, and how many tools stood in the file twice."""

    graph: Graph
    repeats: int

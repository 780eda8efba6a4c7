"""What a model call costs beyond the wire: `python -m benchmarks.calls`.

2,000 rows of two calls each, 64 in flight, against the loopback server in a process of its own: qdcgen's whole line
(templates, journal, schema check, Parquet) beside a bare aiohttp loop that sends such bodies and parses the replies.
Ratios of one run belong together; absolute figures are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = """
recipe: 1
name: bench
seed: 1
models: {{writer: {{model: openai/bench, api_base: "{url}", max_in_flight: {flight}, price: {{input: 1, output: 1}}}}}}
taxonomy: {{topic: [{leaves}], tone: [calm, angry, brief, long]}}
layers: {{words: {{range: {{min: 5, max: 40}}}}}}
generate:
  - write: {{fields: {{draft: string}}, prompt: "Draft {{{{ words }}}} words about {{{{ topic }}}}, {{{{ tone }}}}."}}
  - write: {{fields: {{text: string, rank: {{type: integer}}}}, prompt: "Improve on {{{{ topic }}}}: {{{{ draft }}}}"}}
filters: [schema]
target: {{rows: {rows}}}
measure: {{text: text}}
"""


def serve(pipe: Any, latency: float) -> None:
    """Run the server until told to stop."""
    from qdcgen.testing import Server

    with Server(latency=latency) as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send((server.asked, len(server.seen)))


async def bare(url: str, calls: int, flight: int) -> float:
    """Seconds that a plain aiohttp loop takes for as many calls."""
    import aiohttp
    import orjson

    schema = {"type": "object", "properties": {"draft": {"type": "string"}}, "required": ["draft"]}
    form = {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}
    connector = aiohttp.TCPConnector(limit=flight)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:
        numbers = iter(range(calls))

        async def worker() -> None:
            for number in numbers:
                body = {
                    "model": "bench",
                    "messages": [{"role": "user", "content": f"Draft {number} words about topic {number % 50}, calm."}],
                    "temperature": 0.8,
                    "max_tokens": 1024,
                    "seed": number,
                    "response_format": form,
                }
                async with session.post(f"{url}/chat/completions", data=orjson.dumps(body)) as answer:
                    said = orjson.loads(await answer.read())
                    orjson.loads(said["choices"][0]["message"]["content"])

        begin = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(flight)))
        return time.perf_counter() - begin


def qdcgen(url: str, rows: int, flight: int, folder: Path) -> dict[str, float]:
    """Run the line in a process of its own; seconds, CPU seconds, peak MiB and calls."""
    leaves = ", ".join(f"topic {number}" for number in range(50))
    recipe = folder / f"bench-{rows}-{flight}-{time.monotonic_ns()}.yaml"
    recipe.write_text(RECIPE.format(url=url, rows=rows, flight=flight, leaves=leaves))
    probe = (
        "import sys, time, resource, json; t = time.perf_counter()\n"
        "from pathlib import Path\nfrom qdcgen.recipe import load\nfrom qdcgen import run as line\n"
        "from qdcgen.line import Line\n"
        "from qdcgen.model.openai import OpenAI\n"
        "first, ends = [], []\nasked, connected = Line._make_and_judge, OpenAI._connected\n"
        "def seen(self):\n"
        "    found = connected(self)\n"
        "    if not first: first.append((time.perf_counter(), time.process_time()))\n"
        "    return found\n"
        "async def timed(self):\n"
        "    await asked(self)\n"
        "    ends.append((time.perf_counter(), time.process_time()))\n"
        "OpenAI._connected, Line._make_and_judge = seen, timed\n"
        f"outcome = line.run(load({str(recipe)!r}), Path({str(recipe)!r} + '.run'), quiet=True)\n"
        "(a, c), (b, d) = first[0], ends[-1]\n"
        "print(json.dumps({'exit': outcome.exit_code, 'start': a - t, 'seconds': b - a, 'cpu': d - c,"
        " 'whole': time.perf_counter() - t, 'calls': outcome.results['calls']['made'],"
        " 'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))\n"
    )
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=1800)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the figures, case by case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 0.2])
    parser.add_argument("--flight", type=int, nargs="*", default=[64, 256])
    given = parser.parse_args()
    print(f"{'latency':>8}{'flight':>8}{'rows/s':>9}{'bare':>9}{'bound':>9}{'of bare':>9}{'of bound':>9}", end="")
    print(f"{'ms CPU/call':>13}{'start s':>9}{'peak MiB':>10}")
    for latency in given.latency:
        for flight in given.flight:
            if not latency and flight != given.flight[0]:
                continue
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, latency))
            process.start()
            url = ours.recv()
            plain = asyncio.run(bare(url, 2 * given.rows, flight))
            with tempfile.TemporaryDirectory() as folder:
                found = qdcgen(url, given.rows, flight, Path(folder))
            ours.send("stop")
            ours.recv()
            process.join()
            rate, simple = given.rows / found["seconds"], given.rows / plain
            bound = flight / (2 * latency) if latency else float("nan")
            print(f"{latency * 1000:>6.0f}ms{flight:>8}{rate:>9.0f}{simple:>9.0f}{bound:>9.0f}", end="")
            print(f"{rate / simple:>9.2f}{rate / bound:>9.3f}{found['cpu'] / found['calls'] * 1000:>13.3f}", end="")
            print(f"{found['start']:>9.2f}{found['peak']:>10.0f}", flush=True)


if __name__ == "__main__":
    main()

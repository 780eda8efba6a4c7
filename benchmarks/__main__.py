"""How fast qdcgen is on this machine: `make bench`, or `python -m benchmarks`.

Each part runs in a process of its own, so that peak memory is its own. The figures of one run belong together; two runs
on a busy machine differ by a factor of up to two.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "quickstart.yaml"


def start_up() -> None:
    """Seconds of a whole process, and of a bare interpreter beside it: median of seven after one warm-up."""

    def seconds(*command: str) -> float:
        times = []
        for _ in range(8):
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        return statistics.median(times[1:])

    bare = seconds(sys.executable, "-c", "pass")
    print(f"{'start-up':<34}{'ms':>8}{'× bare python':>16}")
    qdcgen = str(Path(sys.executable).parent / "qdcgen")
    for name, command in {
        "python -c pass": (sys.executable, "-c", "pass"),
        "qdcgen --help": (qdcgen, "--help"),
        "qdcgen check quickstart": (qdcgen, "check", str(RECIPE)),
        "qdcgen plan quickstart": (qdcgen, "plan", str(RECIPE)),
    }.items():
        took = seconds(*command)
        print(f"{name:<34}{took * 1000:>8.0f}{took / bare:>16.1f}")


def big_plan() -> None:
    """1,000,000 rows over a 1,000-leaf taxonomy and three layers, through the command line."""
    leaves = ", ".join(f"leaf {number}" for number in range(1000))
    recipe = (
        f"recipe: 1\nname: big\nmodels: {{writer: {{model: embedded}}}}\ntaxonomy: {{topic: [{leaves}]}}\n"
        "layers:\n  mood: {choice: {calm: 2, angry: 1}}\n  words: {range: {min: 5, max: 90}}\n  day: {choice: [a, b]}\n"
        "generate: [{write: {fields: {text: string}, prompt: '{{ topic }} {{ mood }} {{ words }} {{ day }}'}}]\n"
        "target: {rows: 1000000}\n"
    )
    begin = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    qdcgen = str(Path(sys.executable).parent / "qdcgen")
    subprocess.run([qdcgen, "plan", "/dev/stdin"], input=recipe.encode(), check=True, capture_output=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{'qdcgen plan, 1,000,000 rows':<34}{'s':>8}{'CPU s':>8}{'peak MiB':>10}")
    took, cpu = time.perf_counter() - begin, usage.ru_utime - before
    print(f"{'1,000 leaves, 3 layers':<34}{took:>8.2f}{cpu:>8.2f}{usage.ru_maxrss / 1024:>10.0f}")


def main() -> None:
    """Every benchmark, one after another; `--quick` leaves out the long ones, `--million` adds the longest."""
    quick = "--quick" in sys.argv[1:]
    start_up()
    big_plan()
    for module, options in {
        "benchmarks.plan": ["--quick"] if quick else [],
        "benchmarks.calls": ["--rows", "500" if quick else "2000"],
        "benchmarks.report": ["--rows", "10000" if quick else "100000"],
        "benchmarks.tools": [],
        "benchmarks.landing": ["--texts", "10000" if quick else "100000"],
        "benchmarks.levels": ["--critics", "3" if quick else "10"],
        "benchmarks.duplicates": ["--texts", "10000" if quick else "100000"],
    }.items():
        print(f"\n{module}", flush=True)
        subprocess.run([sys.executable, "-m", module, *options], check=True, cwd=ROOT)
    if "--million" in sys.argv[1:]:  # 6 minutes of one core and 4 GiB
        subprocess.run([sys.executable, "-m", "benchmarks.report", "--rows", "1000000"], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()

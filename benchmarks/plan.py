"""What planning costs and covers: `python -m benchmarks.plan [--quick]`.

Each line runs in a process of its own, so that peak memory is its own; two runs on a busy 2-core machine differ by a
factor of up to 2 in seconds and by nothing in coverage. Pairs and triples: by the plan, and expected of drawing as many
rows at random.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

CASES = (
    # leaves per axis, rows, how leaves are weighted
    ("1000", 1_000_000, "equal"),
    ("1000", 1_000_000, "1..1000"),
    ("1000,1000", 1_000_000, "equal"),
    ("1000,1000", 1_000_000, "1..1000"),
    ("1000,1000,1000,1000", 1_000_000, "equal"),
    ("1000", 10_000_000, "equal"),
    ("1000,1000", 10_000_000, "equal"),
    *(("30,30,30,30", int(900 * part), "equal") for part in (0.1, 0.3, 0.5, 1, 1.5, 2, 3)),
    *(("200,200,200", int(40_000 * part), "equal") for part in (0.1, 0.3, 0.5, 1, 1.5, 2, 3)),
    ("30,30,30,30", 8_100, "equal"),
    ("30,30,30,30", 27_000, "equal"),
    ("30,30,30,30", 81_000, "equal"),  # 0.1 x mixes: all pairs either way
    ("200,200,200", 800_000, "equal"),  # 0.1 x mixes: all pairs either way
    ("30,30,30,30", 900, "quotas"),
    ("200,200,200", 40_000, "quotas"),
    ("1000,1000,1000,1000", 1_000_000, "quotas"),
    ("30,12,50,7", 750, "equal"),
    ("30,12,50,7", 1500, "equal"),
    ("30,30,30,30", 1_000_000, "equal"),
)


def one(sizes: str, rows: int, weights: str) -> None:
    """Plan one case and print its line."""
    from qdcgen.plan import Plan
    from qdcgen.rows import Node, Taxonomy
    from qdcgen.taxonomy import apportioned

    def weight(number: int) -> float:
        return float(number * 7919 % 1000 + 1) if weights == "1..1000" else 1.0

    trees: dict[str, Taxonomy] = {}
    for axis, size in enumerate(map(int, sizes.split(","))):
        names = [f"{axis}.{number}" for number in range(size)]
        nodes = (Node(name, name, name, 0, weight=weight(n) if axis == 0 else 1.0) for n, name in enumerate(names))
        trees[f"axis{axis}"] = Taxonomy(f"axis{axis}", tuple(nodes))
    if weights == "quotas":  # a tenth of the leaves of the first two axes get half of the rows
        for axis in list(trees)[:2]:
            trees[axis] = apportioned(trees[axis], rows, None, {"*0": "50%"}, _impossible)
    start = time.perf_counter()
    plan = Plan(trees, seed=1)
    plan.slots(0, rows)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = ""
    if len(trees) > 1:
        seen = plan.coverage(rows).all_pairs
        told = f"{seen.planned / seen.total:9.2%} {seen.at_random / seen.total:9.2%}"
    if len(trees) > 2:
        triples = plan.triples(rows).values()
        total = sum(one.total for one in triples)
        told += f" {sum(one.planned for one in triples) / total:9.3%}"
        told += f" {sum(one.at_random for one in triples) / total:9.3%}"
    print(f"{sizes:22} {weights:8} {rows:>10,} {seconds:8.2f} {peak:8.0f} {told}", flush=True)


def _impossible(path: tuple[str, ...], message: str) -> None:
    raise ValueError(path, message)


def main() -> None:
    """Print the table."""
    print(
        f"{'leaves':22} {'weights':8} {'rows':>10} {'seconds':>8} {'peak MiB':>8} {'pairs':>9} {'random':>9} "
        f"{'triples':>9} {'random':>9}",
        flush=True,
    )
    for sizes, rows, weights in CASES:
        if "--quick" in sys.argv and rows > 100_000:
            continue
        subprocess.run([sys.executable, "-m", "benchmarks.plan", "--one", sizes, str(rows), weights], check=True)


if __name__ == "__main__":
    if "--one" in sys.argv:
        one(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()

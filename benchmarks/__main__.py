"""How fast this is, beside stable-baselines3's and RLlib's PPO and beside the least possible.

How to run:
    python -m benchmarks            some minutes on an otherwise idle machine
    python -m benchmarks --quick    a smoke test, whose figures mean nothing
Results to expect: tables on the screen, experiment_data/benchmarks/<date>.json and
images/benchmark.png; a quick run's files are called quick.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

EXIT_BAD_INPUT = 2


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--output-root", type=Path, default=Path("experiment_data"))
    parser.add_argument("--images-root", type=Path, default=Path("images"))
    arguments = parser.parse_args()
    if find_spec("stable_baselines3") is None:
        message = "stable-baselines3 is missing: pip install -e '.[bench]' -c constraints.txt."
        print(message, file=sys.stderr)
        return EXIT_BAD_INPUT
    run(arguments.quick, arguments.output_root, arguments.images_root)
    return 0


def run(quick: bool, output_root: Path, images_root: Path) -> None:
    """Measures, prints and writes.

    Args:
        quick: whether it is a smoke test.
        output_root: where `benchmarks/<date>.json` goes.
        images_root: where `benchmark.png` goes.
    """
    # Imported here because every contender's process imports this file, and its memory counts.
    from rich.console import Console

    from benchmarks import report, suite
    from benchmarks.figure import draw
    from benchmarks.progress import Progress
    from benchmarks.rllib_training import METHODS, display
    from metairn.results.run_record import write_atomically

    plan = suite.QUICK if quick else suite.FULL
    with Progress(plan.steps) as progress:
        results = suite.run(plan, progress.advance)
    content = report.as_dictionary(plan, results)
    Console(width=None if sys.stdout.isatty() else 120).print(report.as_tables(content))

    date = content["provenance"]["started"].split("T")[0]
    path = output_root / "benchmarks" / f"{'quick' if quick else date}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    figure_path = images_root / f"benchmark{'_quick' if quick else ''}.png"
    figure_path.parent.mkdir(parents=True, exist_ok=True)
    draw(content, {method: display(method) for method in METHODS}).savefig(figure_path)
    print(f"figures: {path}, drawn: {figure_path}")


if __name__ == "__main__":
    sys.exit(main())

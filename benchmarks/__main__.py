"""How fast this is, beside stable-baselines3's and RLlib's PPO and beside the least possible.

How to run:
    python -m benchmarks             everything; some minutes on an otherwise idle machine
    python -m benchmarks training    one part: training, sampling, lengths or start_up
    python -m benchmarks --quick     a smoke test, whose figures mean nothing
Results to expect: tables on the screen and, of everything, experiment_data/benchmarks/<date>.json
and images/benchmark.png; a quick run's files are called quick.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

EXIT_BAD_INPUT = 2


def main(arguments_given: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments_given: words of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", metavar="part", help="what to measure")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--output-root", type=Path, default=Path("experiment_data"))
    parser.add_argument("--images-root", type=Path, default=Path("images"))
    arguments = parser.parse_args(arguments_given)
    if find_spec("stable_baselines3") is None:
        message = "stable-baselines3 is missing: pip install -e '.[bench]' -c constraints.txt."
        print(message, file=sys.stderr)
        return EXIT_BAD_INPUT
    # Only now: it takes seconds, which --help shall not.
    from benchmarks.suite import PARTS

    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        allowed = ", ".join(PARTS)
        print(f"part={unknown[0]} is not allowed: it must be one of {allowed}.", file=sys.stderr)
        return EXIT_BAD_INPUT
    parts = arguments.parts or list(PARTS)
    run(parts, arguments.quick, arguments.output_root, arguments.images_root)
    return 0


def run(parts: Sequence[str], quick: bool, output_root: Path, images_root: Path) -> None:
    """Measures and prints; writes if everything was measured.

    Args:
        parts: what to measure.
        quick: whether it is a smoke test.
        output_root: where `benchmarks/<date>.json` goes.
        images_root: where `benchmark.png` goes.
    """
    from rich.console import Console

    from benchmarks import report, suite
    from benchmarks.figure import draw
    from benchmarks.progress import Progress
    from benchmarks.rllib_training import METHODS, display
    from metairn.results.run_record import write_atomically

    plan = suite.QUICK if quick else suite.FULL
    with Progress(suite.count_steps(plan, parts)) as progress:
        results = suite.run(plan, parts, progress.advance)
    content = report.as_dictionary(plan, results)
    Console(width=None if sys.stdout.isatty() else 120).print(report.as_tables(content))
    if set(parts) != set(suite.PARTS):
        return

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

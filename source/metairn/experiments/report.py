"""metairn-report: the table and the figure of a study.

How to run:
    metairn-report study=demo
Results to expect: a table on the screen, images/<study>_sample_efficiency.png.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metairn.experiments.command_help import report_help_text
from metairn.experiments.train import run_command

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.table import Table

    from metairn.results.load import Study


def report(composed: DictConfig) -> None:
    """Reads a study's runs, prints its table and writes its figure.

    Raises:
        BadInput: if the study has no finished runs or they cannot be compared.
    """
    from rich.console import Console

    from metairn.experiments.settings import BadInput
    from metairn.results.figures import sample_efficiency
    from metairn.results.load import NoRuns, load_study

    try:
        study = load_study(Path(composed.output_root), composed.study)
        table, figure = _table(study), sample_efficiency(study)
    except (NoRuns, ValueError) as error:
        raise BadInput(str(error)) from error
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if study.unfinished:
        print(f"{len(study.unfinished)} runs have not ended and are left out.")
    path = Path(composed.images_root) / f"{study.name}_sample_efficiency.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"figure: {path}")


def _table(study: Study) -> Table:
    """Final score and env steps to 90%, per task and method."""
    from rich.table import Table

    from metairn.results.statistics import env_steps_to_90pct, estimate

    table = Table(title=f"{study.name}: interquartile mean over seeds, 95% bootstrap interval")
    headers = ["task", "method", "seeds", f"final {study.score}", "env steps to 90% (median)"]
    for header in headers:
        table.add_column(header)
    for keys, rows in study.tasks():
        for method, of_method in rows.groupby("method"):
            curve = estimate(of_method, study.score)
            final = f"{curve.iqm[-1]:.2f} [{curve.low[-1]:.2f}, {curve.high[-1]:.2f}]"
            reached = "-"
            if study.score == "optimality":
                steps = env_steps_to_90pct(of_method)
                reached = "never" if math.isinf(steps) else f"{steps:.0f}"
            task = " ".join(f"{key}={value}" for key, value in keys.items())
            label = study.display[str(method)].label
            table.add_row(task, label, str(curve.num_runs), final, reached)
    return table


def main() -> None:
    """The console script; exits with 0, 1 (failed) or 2 (bad input)."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(report_help_text())
        return
    sys.exit(run_command("report", report))


if __name__ == "__main__":
    main()

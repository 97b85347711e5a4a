"""metairn-report: the table and the figure of a study.

How to run:
    metairn-report study=demo
Results to expect: a table on the screen, images/<study>_sample_efficiency.png and
experiment_data/<study>/table.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metairn.experiments.command_help import report_help_text
from metairn.experiments.train import run_command

if TYPE_CHECKING:
    import pandas as pd
    from omegaconf import DictConfig
    from rich.table import Table


def report(composed: DictConfig) -> None:
    """Reads a study's runs, prints its table and writes its figure.

    Raises:
        BadInput: if the study has no finished runs or they cannot be compared.
    """
    from rich.console import Console

    from metairn.experiments.settings import BadInput
    from metairn.results.figures import sample_efficiency
    from metairn.results.load import NoRuns, load_study
    from metairn.results.statistics import final_table

    try:
        study = load_study(Path(composed.output_root), composed.study)
        table, figure = final_table(study), sample_efficiency(study)
    except (NoRuns, ValueError) as error:
        raise BadInput(str(error)) from error
    title = f"{study.name}: interquartile mean over seeds, 95% bootstrap interval"
    Console(width=None if sys.stdout.isatty() else 120).print(_shown(table, title))
    if study.unfinished:
        print(f"{len(study.unfinished)} runs have not ended and are left out.")
    path = Path(composed.images_root) / f"{study.name}_sample_efficiency.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    table_path = Path(composed.output_root) / study.name / "table.csv"
    table.to_csv(table_path, index=False, float_format="%.4g")
    print(f"figure: {path}, table: {table_path}")


def _shown(table: pd.DataFrame, title: str) -> Table:
    """A data frame for the screen."""
    from rich.table import Table

    shown = Table(title=title)
    for name in table.columns:
        shown.add_column(str(name))
    for row in table.itertuples(index=False):
        shown.add_row(*(_number(v) if isinstance(v, float) else str(v) for v in row))
    return shown


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def main() -> None:
    """The console script; exits with 0, 1 (failed) or 2 (bad input)."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(report_help_text())
        return
    sys.exit(run_command("report", report))


if __name__ == "__main__":
    main()

"""metairn-report: a study's runs as figures, tables and one page to look at.

How to run:
    metairn-report study=demo
Results to expect: a table on the screen, images/<study>_*.png and .pdf, and in
experiment_data/<study>/ report.html, which needs no other file, and table.csv.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metairn.experiments.command_help import report_help_text
from metairn.experiments.train import run_command

if TYPE_CHECKING:
    import pandas as pd
    from omegaconf import DictConfig
    from rich.table import Table

    from metairn.results.analysis import Analysis
    from metairn.results.credit_maps import CreditMap
    from metairn.results.load import Study
    from metairn.results.pictures import Picture

# Too wide for a terminal.
ON_PAGE_ONLY = (
    "of its mode",
    "P(better than PPO)",
    "P(sooner than PPO)",
    "credit on cause",
    "env steps/s",
)


def report(composed: DictConfig) -> None:
    """Reads a study's runs and writes its report.

    Raises:
        BadInput: if the study has no finished runs, or they cannot be compared.
    """
    import matplotlib as mpl
    from rich.console import Console

    from metairn.experiments.settings import BadInput
    from metairn.results.analysis import analyse, answer_table, results_table, shown_table
    from metairn.results.consistency import check_consistency
    from metairn.results.credit_maps import load_credit_maps
    from metairn.results.load import StudyError, load_study
    from metairn.results.page import notes_of, render_page
    from metairn.results.run_record import write_atomically

    mpl.use("Agg")  # No display is needed.
    folder, images = Path(composed.output_root) / composed.study, Path(composed.images_root)
    try:
        with Console(stderr=True).status("reading runs") as status:
            study = load_study(Path(composed.output_root), composed.study)
            for note in notes_of(study):
                print(note, file=sys.stderr)
            check_consistency(study, _planned_methods())
            status.update("computing statistics")
            analysis = analyse(study)
            table = results_table(study, analysis)
            maps = {task: load_credit_maps(study, task) for task in study.tasks}
            status.update("drawing figures")
            sections = _draw(study, analysis, maps, images)
            _animate(study, maps, images)
            status.update("writing the page")
            page = render_page(
                study, analysis, table, sections, maps, composed.get("question") or ""
            )
    except StudyError as error:
        raise BadInput(str(error)) from error
    write_atomically(folder / "report.html", page)
    write_atomically(folder / "table.csv", table.to_csv(index=False, float_format="%.4g"))
    shown = shown_table(study, table)
    console = Console(width=None if sys.stdout.isatty() else 120)
    same = {"environment"} if table["environment"].nunique() == 1 else set()
    console.print(_for_screen(shown.drop(columns=[*same, *ON_PAGE_ONLY], errors="ignore")))
    console.print(_for_screen(answer_table(study, analysis)))
    print(f"page: {folder / 'report.html'}, table: {folder / 'table.csv'}, figures: {images}")


def _planned_methods() -> list[str]:
    """Methods that the study's file sweeps over, if it has a file."""
    from hydra.core.hydra_config import HydraConfig

    params = HydraConfig.get().sweeper.get("params") or {}
    names = (name.strip() for name in str(params.get("method", "")).split(","))
    return [name for name in names if name.isidentifier()]


def _draw(
    study: Study, analysis: Analysis, maps: dict[str, dict[str, list[CreditMap]]], images: Path
) -> dict[str, list[tuple[str, str]]]:
    """Saves every figure; returns per heading of the page the pictures as SVG, and their words."""
    from metairn.results.page import CREDIT
    from metairn.results.pictures import (
        comparison_pictures,
        credit_pictures,
        performance_pictures,
    )

    headings = {
        "How well, how soon": performance_pictures(study, analysis),
        CREDIT: credit_pictures(study, analysis, maps),
        "Against each other": comparison_pictures(study, analysis),
    }
    return {
        heading: [(_save(picture, images / study.name), picture.words) for picture in pictures]
        for heading, pictures in headings.items()
    }


def _animate(study: Study, maps: dict[str, dict[str, list[CreditMap]]], images: Path) -> None:
    """Saves the credit matrices over training, where there are any, as a moving picture."""
    from matplotlib import rc_context
    from matplotlib.animation import PillowWriter

    from metairn.results.credit_figures import credit_over_training
    from metairn.results.pictures import task_of_maps

    task = task_of_maps(study, maps)
    if task is None:
        return
    animation = credit_over_training(study, maps[task])
    path = images / f"{study.name}_credit_over_training.gif"
    temporary = path.with_suffix(".tmp.gif")  # Pillow goes by the last suffix.
    with rc_context({"savefig.dpi": "figure"}):
        animation.save(temporary, writer=PillowWriter(fps=2))
    temporary.replace(path)


def _save(picture: Picture, prefix: Path) -> str:
    """Writes <prefix>_<name>.png and .pdf, each in one step; returns the figure as SVG."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    # Without dates: the same runs give the same files.
    for kind, metadata in (("png", {}), ("pdf", {"CreationDate": None})):
        path = prefix.with_name(f"{prefix.name}_{picture.name}.{kind}")
        temporary = path.with_suffix(f".{kind}.tmp")
        picture.figure.savefig(temporary, format=kind, metadata=metadata)
        temporary.replace(path)
    svg = io.StringIO()
    picture.figure.savefig(svg, format="svg", metadata={"Date": None})
    picture.close()
    return svg.getvalue()


def _for_screen(table: pd.DataFrame) -> Table:
    """A data frame of texts for the terminal."""
    from rich.table import Table

    shown = Table()
    for name in table.columns:
        shown.add_column(str(name))
    for row in table.itertuples(index=False):
        shown.add_row(*map(str, row))
    return shown


def main() -> None:
    """The console script; exits with 0, 1 (failed) or 2 (bad input)."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(report_help_text())
        return
    sys.exit(run_command("report", report))


if __name__ == "__main__":
    main()

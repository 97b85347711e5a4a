"""A study's report as one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from importlib import resources
from string import Template

import pandas as pd

from metairn.results.analysis import Analysis, answer_table, shown_table
from metairn.results.comparisons import incomplete_seeds
from metairn.results.credit_explorer import explorer_data
from metairn.results.credit_maps import CreditMap
from metairn.results.load import Study
from metairn.results.provenance import origin_table, settings_table

EXPLORER = """<div id="explorer"><div class="controls">
<label>task <select></select></label><button type="button">play</button>
<input type="range" min="0" step="1" aria-label="moment of training"><output></output></div>
<div class="rows"></div><p id="reading">Point at a map to read its values.</p></div>"""


def render_page(
    study: Study,
    analysis: Analysis,
    table: pd.DataFrame,
    sections: dict[str, list[tuple[str, str]]],
    maps: dict[str, dict[str, list[CreditMap]]],
    question: str,
) -> str:
    """The page.

    Args:
        study: whose runs.
        analysis: of it.
        table: `results_table` of it.
        sections: per heading, its pictures: SVG text and words.
        maps: per task, `load_credit_maps` of it.
        question: that the study asks; may be empty.
    """
    template = Template(resources.files("metairn.results").joinpath("report.html").read_text())
    explorer = explorer_data(study, maps)
    colours = {shown.label: shown.colour for shown in study.display.values()}
    parts = []
    for heading, pictures in sections.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        if heading == CREDIT and explorer["tasks"]:
            parts.append(EXPLORER)
        parts += [_figure(svg, words) for svg, words in pictures]
    return template.substitute(
        study=html.escape(study.name),
        question=html.escape(question),
        facts=_facts(study, table),
        notes=_notes(study),
        answer=_table(answer_table(study, analysis), colours),
        sections="\n".join(parts),
        table_words="Interquartile mean of scores, median of env steps; 95% stratified bootstrap "
        "intervals in brackets. Also as table.csv beside this page.",
        table=_table(shown_table(study, table), colours),
        provenance=_table(origin_table(study), {})
        + "<details><summary>settings in which methods differ</summary>"
        + _table(settings_table(study), {})
        + "</details>",
        # A closing tag in a name would end the script that holds it.
        maps=json.dumps(explorer).replace("</", "<\\/"),
    )


CREDIT = "What is credited"


def notes_of(study: Study) -> list[str]:
    """What a reader has to know about the runs: which are left out, and why."""
    notes = [f"{run.folder} is left out: {run.reason}." for run in study.left_out]
    for method, seeds in incomplete_seeds(study).items():
        named = ", ".join(map(str, seeds))
        notes.append(
            f"Comparisons over all tasks leave out seed {named} of {study.display[method].label}, "
            "which has not finished every task."
        )
    dirty = sum(bool(run.provenance.get("git_changes")) for run in study.runs)
    if dirty:
        notes.append(f"{dirty} of {len(study.runs)} runs had uncommitted changes in their code.")
    return notes


def _notes(study: Study) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes_of(study))
    return f'<ul class="notes">{items}</ul>' if items else ""


def _facts(study: Study, table: pd.DataFrame) -> str:
    failed = sum(run.reason.startswith("failed") for run in study.left_out)
    training = study.runs[0].config["training"]
    facts = {
        "runs": len(study.runs),
        "left out": len(study.left_out),
        "of these failed": failed,
        "methods": len(study.display),
        "tasks": len(study.tasks),
        "env steps per run": f"{training['budget_env_steps']:,}",
        "seeds": "-".join(map(str, sorted({table["seeds"].min(), table["seeds"].max()}))),
    }
    return "".join(f"<span><b>{value}</b> {name}</span>" for name, value in facts.items())


def _figure(svg: str, words: str) -> str:
    # An image of its own, for figures inlined side by side would share ids.
    data = base64.b64encode(svg.encode()).decode()
    text = html.escape(words)
    image = f'<img alt="{text}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _table(table: pd.DataFrame, colours: dict[str, str]) -> str:
    """A data frame, with a dot of its colour before each method; a line where a group begins."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    rows, before = [], None
    groups = list(table.columns[: list(table.columns).index("method")]) if colours else []
    for _, row in table.iterrows():
        group = [row[name] for name in groups]
        first = ' class="first"' if before is not None and group != before else ""
        before = group
        rows.append(f"<tr{first}>{''.join(_cells(row, colours))}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _cells(row: pd.Series, colours: dict[str, str]) -> Iterable[str]:
    for name, value in row.items():
        colour = colours.get(value) if name == "method" else None
        dot = f'<i style="background:{html.escape(colour)}"></i>' if colour else ""
        yield f"<td>{dot}{html.escape(str(value))}</td>"

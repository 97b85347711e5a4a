"""How figures look, in one place."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from metairn.results.load import REFERENCE, UPPER_BRACKET, Study

# In inches; text is sized for a figure shown at its own size.
PANEL_WIDTH, PANEL_HEIGHT = 2.6, 2.4
LEGEND_ENTRY_WIDTH = 1.3
BRACKET_COLOUR = "#999999"
CREDIT_COLOURS, ATTENTION_COLOURS = "RdBu", "viridis"
MARKERS = "osD^vPX*<>"
ENV_STEPS = EngFormatter(sep="")  # 20k

LABELS = {
    "optimality": "optimality",
    "evaluation_return_mean": "evaluation return",
    "credit_on_cause": "credit on the cause",
}

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    # The same study gives the same files.
    "svg.hashsalt": "metairn",
}


def use_style() -> None:
    """Applies the style."""
    mpl.rcParams.update(STYLE)


def line_of(study: Study, method: str) -> dict[str, Any]:
    """Keyword arguments of a method's line: the brackets are dashed, what is studied is not."""
    shown = study.display[method]
    bracket = method in (REFERENCE, UPPER_BRACKET)
    return {
        "color": shown.colour,
        "label": shown.label,
        "linestyle": "--" if bracket else "-",
        "linewidth": 1.5,
    }


def marker_of(study: Study, method: str) -> str:
    """A method's marker, for readers who cannot tell colours apart."""
    return MARKERS[list(study.display).index(method) % len(MARKERS)]


def draw_brackets(axis: Axes, score: str) -> None:
    """The random and the best policy, where the score knows them."""
    if score == "optimality":
        for height, name in ((0.0, "random"), (1.0, "best")):
            axis.axhline(height, color=BRACKET_COLOUR, linestyle=":", linewidth=1)
            axis.annotate(
                name,
                (1.0, height),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="right",
                size=7,
                color=BRACKET_COLOUR,
            )


def legend(figure: Figure, axis: Axes) -> None:
    """One legend above all panels, of what is drawn in one of them."""
    handles, labels = axis.get_legend_handles_labels()
    fit = max(1, int(figure.get_figwidth() / LEGEND_ENTRY_WIDTH))
    figure.legend(handles, labels, loc="outside upper center", ncols=min(fit, len(labels)))

"""How figures look, in one place."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

# Widths in inches of a panel; text is sized for a figure shown at its own size.
PANEL_WIDTH, PANEL_HEIGHT = 3.0, 2.5
BRACKET_COLOUR = "#999999"

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
}


def use_style() -> None:
    """Applies the style and draws without a display."""
    mpl.use("Agg")
    mpl.rcParams.update(STYLE)

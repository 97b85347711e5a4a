"""Credit maps as data for the report page, where a slider moves them through training."""

from __future__ import annotations

import base64
from typing import Any

import matplotlib as mpl
import numpy as np

from metairn.results.credit_maps import CreditMap
from metairn.results.load import REFERENCE, Study
from metairn.results.style import ATTENTION_COLOURS, CREDIT_COLOURS

# Wider matrices are shown in blocks, or a page of long episodes would be too large to open.
LARGEST_SIDE = 100


def explorer_data(study: Study, maps: dict[str, dict[str, list[CreditMap]]]) -> dict[str, Any]:
    """Everything that the page's script draws, ready for JSON.

    Args:
        study: for the methods' names.
        maps: per task, `load_credit_maps` of it.
    """
    tasks = [_task(study, task, by_method) for task, by_method in maps.items() if by_method]
    colours = {"signed": CREDIT_COLOURS, "positive": ATTENTION_COLOURS}
    return {"tasks": tasks, "colours": {kind: _palette(name) for kind, name in colours.items()}}


def _task(study: Study, task: str, maps: dict[str, list[CreditMap]]) -> dict[str, Any]:
    steps = sorted({snapshot.env_steps for snapshots in maps.values() for snapshot in snapshots})
    truth = [(0, next(iter(maps.values()))[0].truth)]
    credit, beyond, attention = [_panel("ground truth", truth)], [], []
    for method, snapshots in maps.items():
        label = study.display[method].label
        moments = [(s.env_steps, s.credit) for s in snapshots]
        credit.append(_panel(label, moments))
        if method != REFERENCE:
            # The reference learns no credit: its last is its only one.
            base = maps[REFERENCE][-1].credit
            beyond.append(_panel(label, [(steps, matrix - base) for steps, matrix in moments]))
        attended = [(s.env_steps, s.attention) for s in snapshots if s.attention is not None]
        if attended:
            attention.append(_panel(label, attended))
    rows = [
        {"title": "credit", "colours": "signed", "panels": credit},
        {
            "title": f"credit that {study.display[REFERENCE].label} does not give",
            "colours": "signed",
            "panels": beyond,
        },
    ]
    if attention:
        optimal = _panel("optimal attention", truth)
        rows.append({"title": "attention", "colours": "positive", "panels": [optimal, *attention]})
    return {"name": task, "steps": steps, "rows": [row for row in rows if row["panels"]]}


def _panel(label: str, moments: list[tuple[int, np.ndarray]]) -> dict[str, Any]:
    """One method's matrices as bytes: 128 is zero, 255 the largest value of all moments."""
    shrunk = [(env_steps, shrink(matrix, LARGEST_SIDE)) for env_steps, matrix in moments]
    largest = max(float(np.abs(matrix).max()) for _, matrix in shrunk) or 1.0
    frames = []
    for env_steps, matrix in shrunk:
        levels = np.rint(128 + 127 * matrix / largest).astype(np.uint8)
        frames.append(
            {"env_steps": env_steps, "levels": base64.b64encode(levels.tobytes()).decode()}
        )
    side = len(shrunk[0][1])
    return {
        "label": label,
        "largest": largest,
        "side": side,
        "block": -(-len(moments[0][1]) // side),
        "frames": frames,
    }


def shrink(matrix: np.ndarray, side: int) -> np.ndarray:
    """A square matrix in at most side x side blocks, each shown by its largest entry.

    A mean would make a single spike, which is what matters, invisible.
    """
    block = -(-len(matrix) // side)
    rest = -len(matrix) % block
    blocks = np.pad(matrix, (0, rest)).reshape(len(matrix) // block + (rest > 0), block, -1, block)
    flat = blocks.transpose(0, 2, 1, 3).reshape(*blocks.shape[::2], -1)
    largest = np.abs(flat).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(flat, largest, axis=-1)[..., 0]


def _palette(name: str) -> list[str]:
    return [mpl.colors.to_hex(mpl.colormaps[name](level)) for level in range(256)]

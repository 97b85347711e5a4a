"""metrics.jsonl as rows: every whole line has to be one iteration, in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run so far; what follows the last line break was cut off by a crash.

    Raises:
        ValueError: naming the line that is no JSON or is not of the next iteration.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            iteration = row["iteration"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"line {number} is no row of figures") from error
        if iteration != len(rows):
            raise ValueError(f"line {number} is of iteration {iteration}, not {len(rows)}")
        rows.append(row)
    return rows

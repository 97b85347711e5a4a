"""Where a study's numbers come from: code, machines, versions and settings of its runs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from metairn.results.configuration import flat_settings
from metairn.results.load import Study


def origin_table(study: Study) -> pd.DataFrame:
    """What the runs' provenance files say: every value, with how many runs have it.

    Columns: of the runs, what it is and its value.
    """
    counts: dict[str, dict[str, int]] = {}
    for run in study.runs:
        told = dict(run.provenance)
        versions = told.pop("versions", {})
        started = told.pop("started", None)
        told.pop("wall_time_s", None)
        told |= {f"{name} version": value for name, value in versions.items()}
        told["started on"] = str(started)[:10]
        for name, value in told.items():
            values = counts.setdefault(name, {})
            values[str(value)] = values.get(str(value), 0) + 1
    hours = sum(run.summary["wall_time_s"] for run in study.runs) / 3600
    rows = [{"what": "time of all runs", "value": f"{hours:.2f} hours"}]
    for name, values in counts.items():
        whole = len(values) == 1
        text = ", ".join(v if whole else f"{v} ({n} runs)" for v, n in sorted(values.items()))
        rows.append({"what": name.replace("_", " "), "value": text})
    return pd.DataFrame(rows)


def settings_table(study: Study) -> pd.DataFrame:
    """Settings of the method and of training in which the study's methods differ.

    Columns: setting, then one per method, by its label.
    """
    settings: dict[str, dict[str, Any]] = {}
    for method, shown in study.display.items():
        run = next(run for run in study.runs if run.keys["method"] == method)
        kept = {key: run.config[key] for key in ("method", "training")}
        settings[shown.label] = flat_settings(kept)
    names = sorted({name for of_method in settings.values() for name in of_method})
    rows = [
        {"setting": name} | {label: of.get(name, "") for label, of in settings.items()}
        for name in names
        if len({str(of.get(name)) for of in settings.values()}) > 1
    ]
    return pd.DataFrame(rows, columns=["setting", *settings])

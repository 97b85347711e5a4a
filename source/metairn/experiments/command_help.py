"""The text of --help, read from the comments of the yaml files: each key is explained once."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
GROUPS = ("method", "environment", "training")

EXAMPLES = """\
Examples
  metairn-train method=meta_irn environment=umbrella_chain environment.length=20 seed=3
  metairn-train -m method=ppo,meta_irn environment.length=2,5,10,20,50 'seed=range(10)'

Everything is a Hydra override: key=value, or group=option. --cfg job prints the configuration,
-m runs every combination of comma-separated values (quote range(...) in a shell).
Exit codes: 0 done, or finished before; 1 a run failed; 2 bad input."""


def options(group: str) -> list[str]:
    """Names of a config group's options."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def keys(group: str, option: str) -> list[str]:
    """Keys that an option's file sets, without what describes the option itself."""
    lines = _lines(CONFIGS / group / f"{option}.yaml")
    names = [line.split(":", 1)[0] for line in lines if line[0].isalpha()]
    return [name for name in names if name not in ("name", "display", "partition_by")]


def help_text() -> str:
    """Every config group, option and key with its explanation, and two examples."""
    parts = ["metairn-train: trains one agent with one method on one environment", "", EXAMPLES]
    parts += ["", "Keys", *_explained(CONFIGS / "train.yaml", indent="  ", skip=("hydra",))]
    for group in GROUPS:
        parts += ["", f"{group}={'|'.join(options(group))}"]
        for option in options(group):
            lines = _lines(CONFIGS / group / f"{option}.yaml")
            about = " ".join(line[2:] for line in lines if line.startswith("# "))
            parts.append(f"  {group}={option}: {about}")
            parts += _explained(CONFIGS / group / f"{option}.yaml", f"    {group}.")
    return "\n".join(parts)


def report_help_text() -> str:
    """Every key of metairn-report with its explanation."""
    about = "metairn-report: figures, tables and a page of a study's finished runs"
    example = "Example\n  metairn-report study=demo"
    return "\n".join([about, "", example, "", "Keys", *_explained(CONFIGS / "report.yaml", "  ")])


def _explained(path: Path, indent: str, skip: tuple[str, ...] = ()) -> list[str]:
    """Lines 'key: default  # explanation' of a yaml file, aligned."""
    rows = []
    for line in _lines(path):
        if line[0].isalpha() and "  # " in line and line.split(":", 1)[0] not in skip:
            setting, _, about = line.partition("  # ")
            key, _, default = setting.partition(": ")
            rows.append((f"{indent}{key}={default}", about))
    width = max((len(left) for left, _ in rows), default=0)
    return [f"{left:<{width}}  {about}" for left, about in rows]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line]

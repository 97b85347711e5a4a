"""The text of --help, read from the comments of the yaml files: each key is explained once."""

from __future__ import annotations

import re
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
TUNED_GROUPS = ("method", "environment", "training")
GROUPS = (*TUNED_GROUPS, "lifetimes")
TUNE_GROUPS = (*TUNED_GROUPS, "tuner")
LAUNCHERS = "hydra/launcher"

EXAMPLES = """\
Examples
  metairn-train method=meta_irn environment=umbrella_chain environment.length=20 seed=3
  metairn-train -m method=ppo,meta_irn environment.length=2,5,10,20,50 'seed=range(10)'
  metairn-train -m study=umbrella_length
  metairn-train -m study=umbrella_length hydra/launcher=dry_run

Everything is a Hydra override: key=value, or group=option. --cfg job prints the configuration,
-m runs every combination of comma-separated values (quote range(...) in a shell), in parallel;
given again, it runs what is unfinished.
Exit codes: 0 done, or finished before; 1 a run failed; 2 bad input."""


def options(group: str) -> list[str]:
    """Names of a config group's options."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def keys(group: str, option: str) -> list[str]:
    """Keys that an option's file sets, without what describes the option itself."""
    lines = _lines(CONFIGS / group / f"{option}.yaml")
    names = [line.split(":", 1)[0] for line in lines if line[0].isalpha()]
    for line in lines:
        if line.startswith("defaults: "):
            inherited = line.removeprefix("defaults: ").strip("[]").split(", ")
            names += [key for other in inherited for key in keys(group, other) if key not in names]
    about = ("name", "display", "defaults", "partition_by", "search_space")
    return [name for name in names if name not in about]


def top_level(command: str) -> tuple[list[str], dict[str, str]]:
    """Top-level keys of a command's yaml file, and its groups with their default options."""
    lines = _lines(CONFIGS / f"{command}.yaml")
    names = [line.split(":", 1)[0] for line in lines if line[0].isalpha()]
    groups = re.findall(r"^  - (\w+): (\w+)$", "\n".join(lines), flags=re.MULTILINE)
    return [name for name in names if name not in ("defaults", "hydra")], dict(groups)


def help_text() -> str:
    """Every config group, option and key with its explanation, and examples."""
    parts = ["metairn-train: trains one agent with one method on one environment", "", EXAMPLES]
    parts += ["", "Keys", *_explained(CONFIGS / "train.yaml", indent="  ", skip=("hydra",))]
    for group in GROUPS:
        parts += _explained_group(group)
    parts += ["", f"study={'|'.join(options('study'))} with -m runs all of a study's runs"]
    parts += [f"  study={option}: {_about('study', option)}" for option in options("study")]
    parts += ["", f"{LAUNCHERS}={'|'.join([*options(LAUNCHERS), 'basic'])} says how -m runs them"]
    for option in options(LAUNCHERS):
        parts.append(f"  {LAUNCHERS}={option}: {_about(LAUNCHERS, option)}")
        parts += _explained(CONFIGS / LAUNCHERS / f"{option}.yaml", "    hydra.launcher.")
    parts.append(f"  {LAUNCHERS}=basic: Hydra's own: one after the other in this process.")
    return "\n".join(parts)


TUNE_EXAMPLES = """\
Examples
  metairn-tune method=meta_irn tuner=bohb environment.length=50
  metairn-tune method=ppo tuner.trials=30 tuner.seeds=[2000,2001] training.epochs=10

What is searched is the search_space of the method's and the training's yaml file; a setting that
the command line gives is fixed instead. Cost is the negative mean of the evaluation returns over
marks and tuning seeds. A tuning that was killed continues when the same command is given again.
method=, environment= and training= are those of metairn-train; see its --help."""


def tune_help_text() -> str:
    """Every key of metairn-tune and of its tuners with its explanation."""
    about = "metairn-tune: searches the best settings of one method on one environment"
    parts = [about, "", TUNE_EXAMPLES, "", "Keys"]
    parts += _explained(CONFIGS / "tune.yaml", indent="  ", skip=("hydra",))
    return "\n".join([*parts, *_explained_group("tuner")])


def report_help_text() -> str:
    """Every key of metairn-report with its explanation."""
    about = "metairn-report: figures, tables and a page of a study's finished runs"
    example = "Example\n  metairn-report study=demo"
    return "\n".join([about, "", example, "", "Keys", *_explained(CONFIGS / "report.yaml", "  ")])


def _explained_group(group: str) -> list[str]:
    """A group's options and their keys."""
    parts = ["", f"{group}={'|'.join(options(group))}"]
    for option in options(group):
        parts.append(f"  {group}={option}: {_about(group, option)}")
        parts += _explained(CONFIGS / group / f"{option}.yaml", f"    {group}.")
    return parts


def _about(group: str, option: str) -> str:
    """What an option's file says of itself: its first comments, and the question of a study."""
    lines = _lines(CONFIGS / group / f"{option}.yaml")
    question = [line.partition(": ")[2] for line in lines if line.startswith("question: ")]
    return " ".join(question + [line[2:] for line in lines if re.match(r"# (?!@)", line)])


def _explained(path: Path, indent: str, skip: tuple[str, ...] = ()) -> list[str]:
    """Lines 'key: default  # explanation' of a yaml file, aligned."""
    rows = []
    for line in _lines(path):
        if line[0].isalpha() and "  # " in line and line.split(":", 1)[0] not in skip:
            setting, _, about = line.partition("  # ")
            key, _, default = setting.partition(": ")
            if default.startswith("${hydra:runtime.choices"):
                default = _choice(path, key)
            rows.append((f"{indent}{key}={default}", about))
    width = max((len(left) for left, _ in rows), default=0)
    return [f"{left:<{width}}  {about}" for left, about in rows]


def _choice(path: Path, group: str) -> str:
    """What a top-level file chooses for an optional group."""
    start = f"  - optional {group}: "
    return next(line for line in _lines(path) if line.startswith(start)).removeprefix(start)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line]

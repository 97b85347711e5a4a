"""metairn-tune: the best settings of a method on an environment, searched with SMAC.

How to run:
    metairn-tune method=meta_irn tuner=bohb environment.length=50
Results to expect: experiment_data/tuned/<method>__<environment>.yaml, which `metairn-train
tuned=true` uses; see tuning_record.py for what is in the tuning's folder.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from metairn.experiments.command_help import tune_help_text
from metairn.experiments.train import run_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from metairn.experiments.tuning_plan import TuningPlan
    from metairn.experiments.tuning_record import TuningRecord


class TuningFailed(Exception):
    """A tuning in which nothing worked: one sentence with the first error."""


def tune(composed: DictConfig) -> None:
    """Tunes one composed configuration; an interrupted tuning is continued.

    Raises:
        BadInput, RunFolderError: for mistakes of the user's.
        TuningFailed: if every trial of the full budget failed.
    """
    from metairn.experiments.tuned import command_line_keys
    from metairn.experiments.tuning_plan import build_tuning
    from metairn.experiments.tuning_record import TuningRecord
    from metairn.results.held_folder import write_atomically

    plan = build_tuning(composed, command_line_keys())
    record = TuningRecord(plan.folder, plan.config, plan.force)
    try:
        outcome = "finished before"
        if not record.is_finished:
            outcome = run_tuning(plan, record)
        plan.tuned_path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(plan.tuned_path, record.incumbent)
        print(
            f"{plan.label}: {outcome}, see {plan.folder}; tuned=true uses {plan.tuned_path}",
            flush=True,
        )
    finally:
        record.close()


def run_tuning(plan: TuningPlan, record: TuningRecord) -> str:
    """Runs or continues a tuning and says what came out."""
    from importlib.metadata import version

    import ray

    from metairn.experiments.ray_cluster import start_ray
    from metairn.experiments.training_run import provenance
    from metairn.experiments.trials import submitter
    from metairn.experiments.tuning import Tuning, trials_under_way

    training, seeds = plan.experiment.training, plan.tuner.tuning_seeds
    start_ray(training, inside=True)
    cpus = int(ray.cluster_resources()["CPU"])
    # As many trials under way as when it began, for what SMAC proposes depends on that.
    held = record.start(
        provenance() | {"smac": version("smac"), "under_way": trials_under_way(cpus, len(seeds))}
    )
    tuning = Tuning(
        plan.label,
        plan.tuner.facade(plan.space.configspace, plan.folder, plan.seed),
        plan.space,
        plan.tuner.budgets(),
        record,
        submitter(plan.composed, seeds, training.num_gpus_per_learner),
        held["under_way"],
    )
    best = tuning.run()
    if best is None:
        first = tuning.failures[0] if tuning.failures else "there was none of the full budget"
        raise TuningFailed(f"{plan.label} failed in every trial of the full budget: {first}")
    record.finish(plan.tuned_file(best, held))
    failed = f", {len(tuning.failures)} of them failed" if tuning.failures else ""
    return (
        f"mean return {best['evaluation_return_mean']:.2f} over {len(seeds)} seeds after "
        f"{tuning.told} trials{failed}"
    )


def main() -> None:
    """The console script; exits with 0, 1 (failed) or 2 (bad input)."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(tune_help_text())
        return
    sys.exit(run_command("tune", tune))


if __name__ == "__main__":
    main()

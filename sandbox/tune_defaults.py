"""How the defaults of the methods were chosen: the same random search for each of them.

16 configurations per method, the first being the one that is in the yaml file, each trained with
three seeds that no study uses, on the umbrella chain of length 50 for 60k env steps. The score is
the mean optimality over all evaluation marks, so both learning early and staying there count.

How to run:
    python sandbox/tune_defaults.py ppo experiment_data/tune_defaults
Results to expect: a table of all configurations, best first, in <folder>/<method>.csv.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_module

from metairn.experiments.build import build_experiment
from metairn.experiments.training_run import TrainingRun
from metairn.results.run_record import RunRecord

CONFIGURATIONS = 16
SEEDS = (1000, 1001, 1002)
PROTOCOL = ["environment.length=50", "training.budget_env_steps=60000"]


def between(low: float, high: float):
    """Log-uniform."""
    return lambda rng: float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")


def one_of(*values):
    """Uniform over values."""
    return lambda rng: values[rng.integers(len(values))]


LEARNED_REWARD = {
    "method.intrinsic_coefficient": between(0.01, 1.0),
    "method.credit_learning_rate": between(1e-4, 1e-2),
    "method.inner_update": one_of("sgd", "adam", "normalised"),
    "method.inner_learning_rate": between(1e-3, 1e-1),
    "method.inner_steps": one_of(1, 2),
    "method.outer_data": one_of("same", "held_out", "next"),
}
SPACES = {
    "ppo": {
        "training.actor_learning_rate": between(1e-3, 1e-2),
        "training.critic_learning_rate": between(3e-3, 3e-2),
        "training.epochs": one_of(4, 10, 20),
        "training.train_batch_env_steps": one_of(1000, 2000),
        "training.entropy_coefficient": between(0.003, 0.03),
        "training.clip": one_of(0.1, 0.2, 0.3),
    },
    "meta_irn": LEARNED_REWARD | {"method.encoder_width": one_of(16, 32)},
    "lirpg": LEARNED_REWARD | {"method.reward_hidden_sizes": one_of("[32]", "[64,64]")},
}


def mean_optimality(overrides: list[str], folder: str) -> tuple[float, float]:
    """Mean optimality over the marks of one run, and its wall time."""
    experiment = build_experiment(
        compose("train", [*PROTOCOL, *overrides, f"output_root={folder}", "force=true"])
    )
    record = RunRecord(experiment.folder, experiment.config, force=True)
    try:
        wall_time_s = TrainingRun(experiment, record).run()["wall_time_s"]
        return float(pd.DataFrame(record.rows)["optimality"].mean()), wall_time_s
    finally:
        record.close()


def search(method: str, results: Path) -> None:
    """Runs the search of one method and writes its table after every configuration."""
    rng = np.random.default_rng(0)
    rows: list[dict] = []
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs:
        for number in range(CONFIGURATIONS):
            drawn = {key: draw(rng) for key, draw in SPACES[method].items()}
            chosen = {} if number == 0 else drawn
            overrides = [f"method={method}", *(f"{k}={v}" for k, v in chosen.items())]
            scores, times = zip(
                *(mean_optimality([*overrides, f"seed={seed}"], runs) for seed in SEEDS),
                strict=True,
            )
            row = {"configuration": number, "score": np.mean(scores), "worst": np.min(scores)}
            rows.append(row | {"wall_time_s": np.mean(times)} | chosen)
            table = pd.DataFrame(rows).sort_values("score", ascending=False)
            table.to_csv(results / f"{method}.csv", index=False, float_format="%.4g")
            print(f"{method} {number}: {np.round(scores, 3)} {overrides[1:]}", flush=True)


if __name__ == "__main__":
    with initialize_config_module("metairn.experiments.configs", version_base="1.3"):
        search(sys.argv[1], Path(sys.argv[2]))

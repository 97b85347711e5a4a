"""Studies to report, written by RunRecord itself from made-up learning curves; nothing trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import metairn.experiments
from metairn.results.run_record import RunRecord

METHODS = ("ppo", "lirpg", "meta_irn", "oracle")
COMMIT = "0123456789abcdef"
CONFIGS = Path(metairn.experiments.__file__).parent / "configs"
# Env steps after which a made-up run is half-way, for each step of an episode.
PACE = {
    "ppo": 300,
    "lirpg": 280,
    "meta_irn": 200,
    "meta_irn_transferred": 30,
    "sair": 900,
    "oracle": 20,
}


@dataclass
class MadeUpStudy:
    """Writes runs of one study.

    Args:
        root: output_root.
        name: study.
        budget: env steps of a run.
        interval: env steps between evaluations.
    """

    root: Path
    name: str = "toy"
    budget: int = 10_000
    interval: int = 2_000
    commit: str = COMMIT
    training: dict[str, Any] = field(default_factory=dict)

    def folder(self, method: str, length: int, seed: int) -> Path:
        parts = (f"method={method}", "environment=umbrella_chain", f"length={length}")
        return self.root.joinpath(self.name, *parts, f"seed={seed}")

    def config(self, method: str, length: int, seed: int) -> dict[str, Any]:
        def option(group: str, name: str) -> dict[str, Any]:
            return yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())

        training = {
            "budget_env_steps": self.budget,
            "evaluation_interval_env_steps": self.interval,
        }
        return {
            "environment": option("environment", "umbrella_chain") | {"length": length},
            "training": option("training", "default") | training | self.training,
            "method": option("method", method),
            "study": self.name,
            "seed": seed,
        }

    def write(
        self,
        method: str,
        length: int,
        seed: int,
        scores: Iterable[float] | None = None,
        maps: bool = True,
        finish: bool = True,
        **settings: Any,
    ) -> Path:
        """One run: an evaluation at every mark and, half-way between marks, a training row.

        Args:
            scores: optimality at each mark; None for a made-up learning curve.
            maps: whether to write credit maps at the first, middle and last mark.
            finish: whether the run comes to its end.
            settings: more keys of the training group.
        """
        marks = np.arange(0, self.budget + 1, self.interval)
        rng = np.random.default_rng([seed, length])
        if scores is None:
            pace = PACE[method] * length * rng.uniform(0.7, 1.4)
            scores = np.tanh(marks / pace) + rng.normal(0, 0.01, len(marks))
        config = self.config(method, length, seed)
        config["training"] |= settings
        record = RunRecord(self.folder(method, length, seed), config)
        provenance = {"git_commit": self.commit, "git_changes": False, "host": "here"}
        provenance |= {"python": "3.11.7", "versions": {"ray": "2.60.0"}, "cpu": "a processor"}
        record.start(provenance | {"started": "2026-01-01T00:00:00Z"}, None)
        mapped = {0, len(marks) // 2, len(marks) - 1} if maps else set()
        for number, (mark, score) in enumerate(zip(marks, scores, strict=True)):
            if number:
                row = self._row(2 * number - 1, int(mark) - self.interval // 2, None)
                record.append(row | self._learned(method, length))
            row = self._row(2 * number, int(mark), float(score))
            record.append(row | (self._learned(method, length) if number else {}))
            if number in mapped:
                strength = number / (len(marks) - 1)
                record.save_credit_maps(2 * number, credit_maps(method, length, strength, rng))
        if finish:
            record.finish()
        record.close()
        return record.folder

    def write_all(
        self, methods: Iterable[str] = METHODS, lengths: Iterable[int] = (2, 5), seeds: int = 3
    ) -> None:
        for method in methods:
            for length in lengths:
                for seed in range(seeds):
                    self.write(method, length, seed)

    def _row(self, iteration: int, env_steps: int, score: float | None) -> dict[str, Any]:
        row = {
            "iteration": iteration,
            "env_steps": env_steps,
            "evaluation_mark_env_steps": None if score is None else env_steps,
            "wall_time_s": 1.0 + iteration,
        }
        if score is None:
            return row
        names = ("optimality", "optimality_greedy")
        returns = ("evaluation_return_mean", "evaluation_greedy_return_mean")
        return row | dict.fromkeys(names, score) | dict.fromkeys(returns, 10 * score)

    def _learned(self, method: str, length: int) -> dict[str, float]:
        share = 1.0 if method == "oracle" else 1 / length
        return {"credit_on_cause": share, "policy_loss": 0.0}


def credit_maps(method: str, length: int, strength: float, rng: Any) -> dict[str, np.ndarray]:
    """Two episodes' maps: PPO's triangle, moved towards the truth by `strength` where learned."""
    truth = np.zeros((2, length, length), np.float32)
    truth[:, 0, -1] = 1
    uniform = np.broadcast_to(np.triu(np.ones((length, length), np.float32)), truth.shape)
    share = {"ppo": 0.0, "oracle": 1.0}.get(method, strength)
    maps = {
        "mask": np.ones((2, length), bool),
        "rewards": np.zeros((2, length), np.float32),
        "ground_truth": truth,
        "intrinsic_rewards": np.zeros((2, length), np.float32),
        "credit_matrix": share * truth + (1 - share) * uniform,
    }
    if method in ("meta_irn", "sair"):
        noise = rng.dirichlet(np.ones(length), (2, length)).astype(np.float32)
        maps["attention"] = (1 - strength) * noise + strength * np.eye(length, dtype=np.float32)[-1]
    return maps

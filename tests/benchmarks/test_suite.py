"""The suite itself: does every contender do the work, and are the figures those of the turns?"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from benchmarks import __main__ as command
from benchmarks import suite
from benchmarks.interleaved import Entry, Measurement, Turn, measure
from benchmarks.sampling import RunnerSampling, SamplingFloor
from benchmarks.stable_baselines3_training import TaskVecEnv
from benchmarks.start_up import seconds_to_help

SPEEDS = {"ppo": 30, "meta_irn": 12, "rllib, 1 thread": 10, "sb3, 1 thread": 20}
SPEEDS |= {"rllib, 2 threads": 5, "sb3, 2 threads": 24}


def made_up_results() -> suite.Results:
    work = suite.make_work(50, 4000, 4)

    def measurement(*speeds: float, threads: int = 1) -> Measurement:
        entry = Entry("any", suite.StableBaselines3PPO, work, threads)
        return Measurement(entry, [Turn(int(100 * speed), 100.0, 64.0) for speed in speeds])

    return suite.Results(
        training={
            n: {k: measurement(1, v, 99, threads=1 + ("2" in k)) for k, v in SPEEDS.items()}
            for n in (4000, 1000)
        },
        sampling={"runner": measurement(3), "floor": measurement(4)},
        lengths={"meta_irn": {50: measurement(8), 1000: measurement(2)}},
        start_up={"help": [0.3, 0.1, 0.2]},
    )


def test_every_part_is_written_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "run", lambda plan, parts, advance: made_up_results())
    roots = [f"--output-root={tmp_path}", f"--images-root={tmp_path}"]
    assert command.main(["--quick", "sampling", *roots]) == 0
    assert not list(tmp_path.iterdir())
    assert command.main(roots) == 0
    (path,) = (tmp_path / "benchmarks").iterdir()
    content = json.loads(path.read_text())
    assert path.stem == content["provenance"]["started"][:10]
    assert content["ratios"] == pytest.approx(
        {
            "ppo_over_sb3": 30 / 20,
            "meta_irn_over_sb3": 12 / 20,
            "ppo_over_rllib": 30 / 10,
            "ppo_over_sb3_two_threads": 30 / 24,
            "meta_irn_over_sb3_two_threads": 12 / 24,
            "ppo_over_rllib_two_threads": 30 / 5,
            "sampling_over_floor": 3 / 4,
            "meta_irn_length_1000_over_50": 4.0,
        }
    )
    speed = content["training"]["1000"]["contenders"]["ppo"]["speed"]
    assert (speed["min"], speed["median"], speed["max"]) == (1, 30, 99)
    assert content["start_up"]["help"]["median"] == 0.2
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    assert "ppo_over_sb3" in capsys.readouterr().out


def test_unknown_part_is_bad_input(capsys):
    assert command.main(["speed"]) == 2
    assert "part=speed is not allowed: it must be one of training" in capsys.readouterr().err


def test_command_starts():
    assert 0 < seconds_to_help() < 60


@pytest.mark.slow
def test_every_contender_does_the_work():
    """Each process counts its env steps and policy updates, and fails if they are others."""
    # In a process of its own: this one may have a Ray already.
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    subprocess.run([sys.executable, __file__], check=True, timeout=300, env=environment)


def every_contender_once() -> None:
    main, other = (suite.make_work(suite.LENGTH, *setting) for setting in suite.SETTINGS)
    entries = suite.training_entries(main, peer_threads=(1,))
    assert [e.name for e in entries] == ["ppo", "meta_irn", "rllib, 1 thread", "sb3, 1 thread"]
    # RLlib has another way to split a batch into one part.
    entries.append(Entry("rllib, one minibatch", suite.RLlibPPO, other))
    with suite.one_ray():
        measured = measure(entries, suite.QUICK.protocol, lambda what: None)
    assert all(m.speed > 0 for m in measured.values())


@pytest.mark.parametrize("plan", [suite.QUICK, suite.FULL])
@pytest.mark.parametrize("parts", [["training"], ["sampling", "lengths"], ["start_up"]])
def test_progress_knows_how_many_steps_will_come(plan, parts, monkeypatch):
    def measure_nothing(entries, protocol, advance):
        turns = [entry.name for entry in entries] * protocol.rounds
        for what in ["warm-up", *turns]:
            advance(what)
        return {entry.name: Measurement(entry) for entry in entries}

    monkeypatch.setattr(suite, "one_ray", contextlib.nullcontext)
    monkeypatch.setattr(suite, "measure", measure_nothing)
    monkeypatch.setattr(suite, "STARTS", dict.fromkeys(suite.STARTS, lambda: 1.0))
    said: list[str] = []
    suite.run(plan, parts, said.append)
    assert len(said) == suite.count_steps(plan, parts)


@pytest.mark.parametrize("sampler", [RunnerSampling, SamplingFloor])
def test_samplers_do_the_work(sampler):
    contender = sampler(suite.make_work(length=5, env_steps=20, minibatches=1))
    for done in (20, 40):
        contender.iterate()
        contender.tidy()
        assert contender.env_steps() == done


def test_peers_environment_is_the_task():
    env = TaskVecEnv("metairn.environments:metairn/UmbrellaChain-v0", num_envs=3, seed=0, length=2)
    assert env.reset()[:, 2].tolist() == [1.0, 1.0, 1.0]
    actions = np.array([0, 1, 1])
    observations, rewards, ended, infos = env.step(actions)
    assert observations[:, 2].tolist() == [0.5, 0.5, 0.5]
    assert np.abs(rewards) == pytest.approx(0.1)
    assert not ended.any()
    assert infos == [{}, {}, {}]
    needed = observations[:, 0]
    observations, rewards, ended, infos = env.step(actions)
    assert rewards == pytest.approx(np.where(actions == needed, 10.0, -10.0))
    assert ended.all()
    # The next episode has begun, and the last observation of the old one is told beside it.
    assert observations[:, 2].tolist() == [1.0, 1.0, 1.0]
    assert [info["terminal_observation"][2] for info in infos] == [0.0, 0.0, 0.0]
    assert not any(info["TimeLimit.truncated"] for info in infos)


if __name__ == "__main__":
    every_contender_once()

"""The env runner: whole episodes, every one of them, fresh on each call and aligned in time."""

import math

import gymnasium.envs.classic_control
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from small_runs import UMBRELLA, runner_of, small_config

from metairn.intrinsic_attention_ppo.random_streams import Stream

CARTPOLE = "CartPole-v1"


def contents(episodes):
    """All that a learner reads of the episodes, as arrays."""
    return [
        np.asarray(array)
        for e in episodes
        for array in (
            e.get_observations(),
            e.get_actions(),
            e.get_rewards(),
            e.get_extra_model_outputs(Columns.ACTION_LOGP),
            e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS),
            [e.is_terminated, e.is_truncated],
        )
    ]


def equal(first, second):
    pairs = zip(contents(first), contents(second), strict=True)
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in pairs)


def lengths(episodes):
    return [len(e) for e in episodes]


@pytest.mark.parametrize("env", [UMBRELLA, CARTPOLE])
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("num_episodes", [1, 3, 4, 11])
def test_num_episodes_is_exact(env, num_envs, num_episodes):
    runner = runner_of(small_config(env, num_envs=num_envs))
    episodes = runner.sample(num_episodes=num_episodes)
    assert len(episodes) == num_episodes
    assert all(e.is_done and len(e) > 0 for e in episodes)
    assert len({e.id_ for e in episodes}) == num_episodes


@pytest.mark.parametrize("num_envs", [1, 3, 7, 50])
@pytest.mark.parametrize("num_timesteps", [1, 10, 11, 95, 200])
def test_fixed_lengths_bring_the_fewest_episodes_that_hold_the_steps(num_envs, num_timesteps):
    runner = runner_of(small_config(num_envs=num_envs))
    episodes = runner.sample(num_timesteps=num_timesteps)
    assert lengths(episodes) == [10] * math.ceil(num_timesteps / 10)
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"].peek() == 10 * len(episodes)
    assert metrics["num_episodes"].peek() == len(episodes)


@pytest.mark.parametrize("asked", [{"num_episodes": 0}, {"num_timesteps": 0}])
def test_nothing_asked_is_nothing_sampled(asked):
    assert runner_of(small_config()).sample(**asked) == []


def test_the_default_call_is_one_episode_per_slot():
    assert len(runner_of(small_config(num_envs=6)).sample()) == 6


@pytest.mark.parametrize("asked", [{"num_episodes": 5}, {"num_timesteps": 60}])
def test_every_started_episode_is_returned(asked, monkeypatch):
    """Counted at the environment: each reset is the start of a returned episode or an idle slot."""
    started = []
    reset = gymnasium.envs.classic_control.CartPoleEnv.reset

    def counting_reset(env, **kwargs):
        started.append(env)
        return reset(env, **kwargs)

    monkeypatch.setattr(gymnasium.envs.classic_control.CartPoleEnv, "reset", counting_reset)
    stepped = []
    step = gymnasium.envs.classic_control.CartPoleEnv.step

    def counting_step(env, action):
        stepped.append(env)
        return step(env, action)

    monkeypatch.setattr(gymnasium.envs.classic_control.CartPoleEnv, "step", counting_step)
    runner = runner_of(small_config(CARTPOLE, num_envs=1))
    started.clear()
    episodes = runner.sample(**asked)
    assert len(started) == len(episodes)
    assert len(stepped) == sum(lengths(episodes))
    if "num_timesteps" in asked:
        assert sum(lengths(episodes)) >= 60 > sum(lengths(episodes[:-1]))


def test_short_episodes_are_not_favoured():
    """Mean length over many small calls is that of a few long ones, within four standard errors."""
    runner = runner_of(small_config(CARTPOLE, num_envs=8))
    long = np.array(lengths(runner.sample(num_episodes=2000, random_actions=True)))
    counted = [runner.sample(num_episodes=8, random_actions=True) for _ in range(150)]
    timed = [runner.sample(num_timesteps=150, random_actions=True) for _ in range(150)]
    for calls in (counted, timed):
        small = np.array([n for call in calls for n in lengths(call)])
        error = math.sqrt(long.var() / len(long) + small.var() / len(small))
        assert abs(small.mean() - long.mean()) < 4 * error
    assert min(sum(lengths(call)) for call in timed) >= 150


def test_each_call_brings_other_episodes():
    """Published defect: forced resets were re-seeded, so all training episodes were one."""
    runner = runner_of(small_config(num_envs=10))
    calls = [runner.sample(num_episodes=10) for _ in range(4)]
    assert not any(equal(calls[0], other) for other in calls[1:])
    episodes = [e for call in calls for e in call]
    first = [tuple(e.get_observations()[0]) for e in episodes]
    assert len({f[:2] for f in first}) == 4  # All combinations of need and have.
    assert len({tuple(e.get_rewards()[:-1]) for e in episodes}) > 35
    assert len({e.get_return() for e in episodes}) > 4


def test_slots_do_not_repeat_each_other_in_any_vectorisation():
    runner = runner_of(small_config(CARTPOLE, num_envs=6))
    first = [tuple(e.get_observations()[0]) for e in runner.sample(num_episodes=24)]
    assert len(set(first)) == 24


@pytest.mark.parametrize("env", [UMBRELLA, CARTPOLE])
def test_seed_round_and_weights_determine_the_episodes_bit_for_bit(env):
    def sample(seed=3, sampling_round=5, stream=Stream.TRAINING_EPISODES, worker_index=1):
        runner = runner_of(small_config(env, num_envs=4, seed=seed), worker_index)
        runner.stream = stream
        if sampling_round:
            runner.sample(num_episodes=1)  # What was sampled before must not matter.
        runner.sampling_round = sampling_round
        return runner.sample(num_episodes=9)

    assert equal(sample(), sample())
    others = [
        sample(sampling_round=6),
        sample(sampling_round=0),
        sample(worker_index=2),
        sample(stream=Stream.EVALUATION_EPISODES),
    ]
    assert not any(equal(sample(), other) for other in others)
    # Another seed means other networks too: compare the episodes' beginnings.
    assert not np.array_equal(contents(sample())[0][0], contents(sample(seed=4))[0][0]) or (
        env == UMBRELLA and not equal(sample(), sample(seed=4))
    )


def test_without_a_seed_runs_differ():
    first, second = (runner_of(small_config(CARTPOLE, seed=None)) for _ in range(2))
    second.module.set_state(first.module.get_state())
    assert not equal(first.sample(num_episodes=3), second.sample(num_episodes=3))


def test_sampling_draws_nothing_from_torch_or_numpy_globals():
    runner = runner_of(small_config())
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    runner.sample(num_episodes=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_metrics_hold_the_episodes_since_last_asked():
    runner = runner_of(small_config(CARTPOLE, num_envs=3))
    episodes = runner.sample(num_episodes=5) + runner.sample(num_episodes=4)
    metrics = runner.get_metrics()
    assert metrics["num_episodes_lifetime"].peek() == 9
    assert metrics["num_env_steps_sampled_lifetime"].peek() == sum(lengths(episodes))
    expected = np.mean([e.get_return() for e in episodes])
    assert metrics["episode_return_mean"].peek() == pytest.approx(expected)
    assert runner._done_episodes_for_metrics == []


class FailingOnce(gymnasium.Env):
    """An environment of four steps whose tenth step in the whole process fails."""

    observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    taken = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        type(self).taken += 1
        if type(self).taken == 10:
            raise OSError("gone")
        self.steps += 1
        return np.full(1, self.steps, np.float32), 1.0, self.steps == 4, False, {}


def test_a_failed_environment_is_replaced_and_no_fragment_is_returned():
    FailingOnce.taken = 0
    config = small_config("FailingOnce-v0", num_envs=2)
    config.fault_tolerance(restart_failed_sub_environments=True)
    if "FailingOnce-v0" not in gymnasium.registry:
        gymnasium.register("FailingOnce-v0", entry_point=FailingOnce)
    runner = runner_of(config)
    episodes = runner.sample(num_episodes=6)
    assert lengths(episodes) == [4] * 6
    assert all(np.array_equal(e.get_observations()[:, 0], np.arange(5)) for e in episodes)
    assert runner.get_metrics()["num_env_steps_sampled"].peek() == 24

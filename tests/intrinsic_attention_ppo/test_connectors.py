"""RLlib's episodes to an EpisodeBatch, compared with one that is filled step by step."""

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from small_runs import UMBRELLA, SmallRun, runner_of, small_config

from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo import connectors
from metairn.intrinsic_attention_ppo.connectors import known_task, to_episode_batch


def filled_step_by_step(episodes):
    """The same batch, one number at a time."""
    count, steps = len(episodes), max(len(e) for e in episodes)
    first = episodes[0]
    action = np.asarray(first.get_actions()[0])
    size = len(first.get_observations()[0])
    width = len(first.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)[0])
    actions = np.zeros((count, steps, *action.shape), dtype=action.dtype)
    observations = np.zeros((count, steps + 1, size), dtype=np.float32)
    rewards, log_probs = np.zeros((2, count, steps), dtype=np.float32)
    mask = np.zeros((count, steps), dtype=bool)
    inputs = np.zeros((count, steps, width), dtype=np.float32)
    for row, e in enumerate(episodes):
        for t in range(len(e)):
            observations[row, t] = e.get_observations(t)
            actions[row, t] = e.get_actions(t)
            rewards[row, t] = e.get_rewards(t)
            log_probs[row, t] = e.get_extra_model_outputs(Columns.ACTION_LOGP, t)
            inputs[row, t] = e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS, t)
            mask[row, t] = True
        observations[row, len(e)] = e.get_observations(len(e))
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "mask": mask,
        "terminated": np.array([e.is_terminated for e in episodes]),
        "behaviour_log_probs": log_probs,
        "behaviour_inputs": inputs,
    }


@pytest.mark.parametrize("env", [UMBRELLA, "CartPole-v1", "Pendulum-v1"])
def test_batch_equals_one_filled_step_by_step(env):
    episodes = runner_of(small_config(env, num_envs=3)).sample(num_episodes=7)
    batch = to_episode_batch(episodes).to_numpy()
    expected = filled_step_by_step(episodes)
    assert batch.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array, err_msg=name)
        assert batch[name].dtype == array.dtype, name


def learners_batch(env, monkeypatch):
    """The batch that a learner works on."""
    batches = []

    def recording(*args):
        batches.append(to_episode_batch(*args))
        return batches[-1]

    monkeypatch.setattr(connectors, "to_episode_batch", recording)
    SmallRun(small_config(env, steps=100)).train(1)
    (batch,) = batches
    return batch


def test_learners_get_the_ground_truth_of_an_environment_that_knows_it(monkeypatch):
    batch = learners_batch(UMBRELLA, monkeypatch)
    assert isinstance(batch, EpisodeBatch)
    expected = torch.zeros(10, 10, 10)
    expected[:, 0, 9] = 1.0
    assert torch.equal(batch.ground_truth, expected)


def test_learners_get_none_where_it_is_unknown(monkeypatch):
    assert learners_batch("CartPole-v1", monkeypatch).ground_truth is None


def test_the_known_task_has_the_configured_settings():
    assert known_task(UMBRELLA, {"length": 7}).length == 7
    assert known_task("CartPole-v1", {}) is None
    assert known_task(lambda config: None, {}) is None

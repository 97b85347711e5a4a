"""What the env runner stores of a step: the action that was drawn, where and why it was drawn."""

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from small_runs import runner_of, small_config

CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"


def confident(runner):
    """Gives the policy larger last weights: actions then depend on observations."""
    with torch.no_grad():
        for parameter in runner.module.actor.network.layers[-1].parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator()))
    return runner


@pytest.mark.parametrize("env", ["umbrella", CARTPOLE, PENDULUM])
def test_action_logp_is_what_the_policy_says_of_the_stored_step(env):
    options = {} if env == "umbrella" else {"env": env}
    runner = confident(runner_of(small_config(num_envs=4, **options)))
    policy = runner.module.actor
    for e in runner.sample(num_episodes=6):
        observations = torch.as_tensor(e.get_observations()[:-1])
        inputs = policy(observations).detach()
        stored = e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
        np.testing.assert_allclose(inputs, stored, atol=1e-6)
        expected = policy.actions.log_prob(inputs, torch.as_tensor(e.get_actions()))
        log_probs = e.get_extra_model_outputs(Columns.ACTION_LOGP)
        np.testing.assert_allclose(expected, log_probs, atol=1e-5)
        assert len(log_probs) == len(e) == len(e.get_rewards())


@pytest.mark.parametrize("num_envs", [1, 3])
def test_umbrella_steps_are_aligned_in_time(num_envs):
    """Later episodes of a slot count too: their first step follows an autoreset."""
    runner = runner_of(small_config(num_envs=num_envs, env_config={"length": 5}))
    for e in runner.sample(num_episodes=12):
        observations, rewards, actions = e.get_observations(), e.get_rewards(), e.get_actions()
        need, have = observations[:, 0], observations[:, 1]
        assert (need == need[0]).all()
        assert (have[1:] == actions[0]).all()
        np.testing.assert_allclose(observations[:, 2], 1 - np.arange(6) / 5, atol=1e-6)
        np.testing.assert_allclose(np.abs(rewards[:-1]), 0.1)
        assert rewards[-1] == (10.0 if actions[0] == need[0] else -10.0)
        assert e.is_terminated
        assert not e.is_truncated


def test_cartpole_observations_follow_from_observations_and_actions():
    """Replayed in a bare environment, across autoresets and slots."""
    import gymnasium

    bare = gymnasium.make(CARTPOLE).unwrapped
    for e in runner_of(small_config(CARTPOLE, num_envs=3)).sample(num_episodes=9):
        observations = e.get_observations()
        bare.reset()
        for step, action in enumerate(e.get_actions()):
            bare.state, bare.steps_beyond_terminated = observations[step].astype(float), None
            after, reward, terminated, _, _ = bare.step(int(action))
            np.testing.assert_allclose(after, observations[step + 1], atol=1e-5)
            assert reward == e.get_rewards()[step]
            assert terminated == (step == len(e) - 1)


def test_cartpole_terminates_and_pendulum_is_truncated():
    falls = runner_of(small_config(CARTPOLE, num_envs=2)).sample(num_episodes=4)
    assert all(e.is_terminated and not e.is_truncated for e in falls)
    swings = runner_of(small_config(PENDULUM, num_envs=2)).sample(num_episodes=3)
    assert [len(e) for e in swings] == [200] * 3
    assert all(e.is_truncated and not e.is_terminated for e in swings)


def test_without_exploration_actions_are_the_mode():
    runner = confident(runner_of(small_config(CARTPOLE, num_envs=3)))
    for e in runner.sample(num_episodes=5, explore=False):
        inputs = e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
        assert np.array_equal(e.get_actions(), inputs.argmax(axis=1))
    explored = runner.sample(num_episodes=20)
    modes = [e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS).argmax(axis=1) for e in explored]
    assert not np.array_equal(
        np.concatenate([e.get_actions() for e in explored]), np.concatenate(modes)
    )
    swing = confident(runner_of(small_config(PENDULUM, num_envs=1)))
    (e,) = swing.sample(num_episodes=1, explore=False)
    means = e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)[:, :1]
    assert np.array_equal(e.get_actions(), means)


def test_configured_exploration_is_the_default():
    config = small_config(CARTPOLE, num_envs=3)
    config.env_runners(explore=False)
    (e,) = runner_of(config).sample(num_episodes=1)
    inputs = e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
    assert np.array_equal(e.get_actions(), inputs.argmax(axis=1))


def test_random_actions_ignore_the_policy():
    runner = runner_of(small_config(num_envs=4))
    with torch.no_grad():
        runner.module.actor.network.layers[-1].bias.copy_(torch.tensor([50.0, -50.0]))
    assert not any(e.get_actions().any() for e in runner.sample(num_episodes=20))
    drawn = np.concatenate(
        [e.get_actions() for e in runner.sample(num_episodes=60, random_actions=True)]
    )
    assert abs(drawn.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(drawn))
    again = runner.sample(num_episodes=60, random_actions=True)
    assert not np.array_equal(drawn, np.concatenate([e.get_actions() for e in again]))


def test_continuous_actions_are_clipped_for_the_environment_but_stored_as_drawn(monkeypatch):
    runner = runner_of(small_config(PENDULUM, num_envs=2))
    with torch.no_grad():
        runner.module.actor.log_std.fill_(1.5)
    sent, step = [], runner.env.unwrapped.step
    monkeypatch.setattr(
        runner.env.unwrapped, "step", lambda actions: sent.append(actions) or step(actions)
    )
    episodes = runner.sample(num_episodes=2)
    stored = np.stack([e.get_actions() for e in episodes], axis=1)
    assert np.abs(stored).max() > 3
    assert stored.dtype == np.float32
    assert np.array_equal(np.clip(stored, -2, 2), np.stack(sent))


def test_episodes_survive_the_way_to_a_learner_process():
    from ray import cloudpickle

    (e,) = runner_of(small_config()).sample(num_episodes=1)
    copy = cloudpickle.loads(cloudpickle.dumps(e))
    assert np.array_equal(copy.get_observations(), e.get_observations())
    assert np.array_equal(copy.get_rewards(), e.get_rewards())
    assert (copy.is_done, len(copy), copy.get_return()) == (True, 10, e.get_return())

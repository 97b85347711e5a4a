"""What every task must satisfy, whatever its dynamics, and the parameter checks they share."""

import inspect

import numpy as np
import pytest

from metairn.environments.adapters import discover_tasks
from metairn.environments.task import BatchedTask, real_number, whole_number

every_task = pytest.mark.parametrize("task_class", discover_tasks(), ids=lambda c: c.__name__)


def play(task, policy, n, seed):
    """Play one episode per slot; return observations (n,T,D), actions, rewards, lengths."""
    observation = task.reset(np.random.default_rng(seed), n)
    running, lengths, steps = np.ones(n, dtype=bool), np.zeros(n, dtype=int), []
    while running.any():
        action = policy(observation)
        lengths += running
        next_observation, reward, terminated, truncated = task.step(action)
        steps.append((observation, action, np.where(running, reward, 0.0)))
        running &= ~(terminated | truncated)
        observation = next_observation
    return *(np.stack(column, axis=1) for column in zip(*steps, strict=True)), lengths


def uniform_policy(task, seed=1):
    rng = np.random.default_rng(seed)
    return lambda observation: rng.integers(task.num_actions, size=len(observation))


def assert_mean(samples, expected):
    """The sample mean lies within five standard errors, a one in a million event otherwise."""
    standard_error = samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - expected) <= 5 * standard_error + 1e-4


def test_at_least_one_task_is_discovered():
    assert "UmbrellaChain" in [task_class.__name__ for task_class in discover_tasks()]


@every_task
def test_parameters_are_annotated_and_have_defaults(task_class):
    parameters = inspect.signature(task_class, eval_str=True).parameters.values()
    assert all(p.annotation in (int, float, bool, str) for p in parameters)
    assert all(p.default is not p.empty for p in parameters)


@every_task
def test_shapes_dtypes_and_bounds(task_class):
    task = task_class()
    n, size = 5, task.observation_size
    first = task.reset(np.random.default_rng(0), n)
    following, rewards, terminated, truncated = task.step(np.zeros(n, dtype=np.int64))
    for observations in (first, following):
        assert observations.shape == (n, size)
        assert observations.dtype == np.float32
        assert (observations >= task.observation_low).all()
        assert (observations <= task.observation_high).all()
    assert rewards.shape == (n,)
    assert rewards.dtype == np.float32
    assert terminated.shape == truncated.shape == (n,)
    assert terminated.dtype == truncated.dtype == np.bool_


@every_task
def test_returned_arrays_are_the_callers_to_change(task_class):
    n, outcomes = 4, []
    for spoil in (False, True):
        task = task_class()
        returned = [task.reset(np.random.default_rng(0), n)]
        for _ in range(3):
            if spoil:
                for array in returned:
                    array[...] = 1
            returned = list(task.step(np.zeros(n, dtype=np.int64)))
        outcomes.append(returned)
    for clean, spoilt in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(clean, spoilt)


@every_task
def test_reset_where_leaves_the_other_slots_untouched(task_class):
    task, done = task_class(), np.arange(6) % 2 == 0
    first = task.reset(np.random.default_rng(0), 6)
    before = task.step(np.zeros(6, dtype=np.int64))[0]
    state_before = {name: array.copy() for name, array in task.state.items()}
    after = task.reset_where(done)
    np.testing.assert_array_equal(after[~done], before[~done])
    for name, array in state_before.items():
        np.testing.assert_array_equal(task.state[name][~done], array[~done])
    np.testing.assert_array_equal(task.steps, np.where(done, 0, 1))
    assert not np.array_equal(after[done], before[done]) or np.array_equal(first, before)


@every_task
def test_reset_where_nothing_is_done_changes_and_draws_nothing(task_class):
    task = task_class()
    observations = task.reset(np.random.default_rng(0), 6)
    generator_state = task.rng.bit_generator.state
    np.testing.assert_array_equal(task.reset_where(np.zeros(6, dtype=bool)), observations)
    assert task.rng.bit_generator.state == generator_state


@every_task
def test_episode_lengths(task_class):
    task = task_class()
    lengths = play(task, uniform_policy(task), n=32, seed=0)[-1]
    assert lengths.max() <= task.max_episode_steps
    if task.fixed_episode_length is not None:
        assert (lengths == task.fixed_episode_length).all()


@every_task
def test_oracle_reaches_the_optimal_return(task_class):
    task = task_class()
    rewards = play(task, task.oracle_policy, n=4096, seed=0)[2]
    assert_mean(rewards.sum(axis=1), task.optimal_return)
    assert task.optimal_return > task.random_return


@every_task
def test_uniform_policy_reaches_the_random_return(task_class):
    task = task_class()
    rewards = play(task, uniform_policy(task), n=4096, seed=0)[2]
    assert_mean(rewards.sum(axis=1), task.random_return)


@every_task
def test_oracle_policy_accepts_any_leading_shape(task_class):
    task = task_class()
    observations = task.reset(np.random.default_rng(0), 6)
    actions = task.oracle_policy(observations)
    assert actions.shape == (6,)
    assert np.isin(actions, np.arange(task.num_actions)).all()
    folded = task.oracle_policy(observations.reshape(2, 3, -1))
    np.testing.assert_array_equal(folded, actions.reshape(2, 3))


@every_task
def test_ground_truth_is_causal_and_shares_are_at_most_one(task_class):
    task = task_class()
    observations, actions, rewards, lengths = play(task, uniform_policy(task), n=8, seed=0)
    credit = task.ground_truth_credit(observations, actions, rewards, lengths)
    assert credit.shape == (*rewards.shape, rewards.shape[1])
    assert credit.dtype == np.float32
    exists = np.arange(rewards.shape[1]) < lengths[:, None]
    credit = credit * exists[:, :, None] * exists[:, None, :]
    assert (credit >= 0).all()
    assert credit.any()
    assert (credit.sum(axis=1) <= 1 + 1e-6).all()
    np.testing.assert_array_equal(credit, np.triu(credit), "a later action caused a reward")


@every_task
def test_step_wants_one_action_per_slot(task_class):
    task = task_class()
    with pytest.raises(ValueError, match=r"^actions of shape \(3,\).*reset must come first"):
        task.step(np.zeros(3, dtype=np.int64))
    task.reset(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match=r"^actions of shape"):
        task.step(np.zeros((3, 1), dtype=np.int64))


def test_a_task_must_be_complete():
    with pytest.raises(TypeError, match="abstract"):
        BatchedTask()


def test_whole_number():
    assert whole_number("length", np.int32(3), at_least=1) == 3
    with pytest.raises(ValueError, match=r"^length=0 is not allowed: it must be at least 1\.$"):
        whole_number("length", 0, at_least=1)
    for value in (2.0, "2", True, None):
        with pytest.raises(ValueError, match=r"^length=.* whole number"):
            whole_number("length", value, at_least=1)


def test_real_number():
    assert real_number("reward", 0) == 0.0
    assert real_number("reward", np.float32(0.5), above=0.0) == 0.5
    for value in (np.nan, np.inf, -np.inf, 1e300, "1", True, None):
        with pytest.raises(ValueError, match=r"^reward=.* finite number"):
            real_number("reward", value)
    with pytest.raises(ValueError, match=r"^reward=-1 .* not be negative"):
        real_number("reward", -1)
    with pytest.raises(ValueError, match=r"^reward=0 .* greater than 0"):
        real_number("reward", 0, above=0.0)

"""The gymnasium side: registration, seeding, and autoreset of slots in different phases."""

import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import metairn
from metairn.environments.adapters import TaskEnv, TaskVectorEnv, discover_tasks, register_tasks
from metairn.environments.task import BatchedTask
from metairn.environments.umbrella_chain import UmbrellaChain

UMBRELLA = "metairn.environments:metairn/UmbrellaChain-v0"
every_task = pytest.mark.parametrize("task_class", discover_tasks(), ids=lambda c: c.__name__)


class Countdown(BatchedTask):
    """Lasts 1 to 6 steps but at most 4; everything after the start follows from what is seen."""

    def __init__(self):
        super().__init__(
            observation_size=2, num_actions=3, max_episode_steps=4, optimal_return=0,
            random_return=0, observation_low=np.array([-9.0, 0.0]), observation_high=99.0,
        )  # fmt: skip

    def _initial_state(self, n):
        return {"remaining": self.rng.integers(1, 7, size=n), "paid": np.zeros(n)}

    def _transition(self, actions):
        self.state["remaining"] -= 1
        self.state["paid"] += actions
        return (actions + 1).astype(np.float32), self.state["remaining"] <= 0

    def _observe(self):
        columns = [self.state["remaining"], self.state["paid"]]
        return np.stack(columns, axis=1).astype(np.float32)

    def oracle_policy(self, observations):
        return np.full(observations.shape[:-1], 2)

    def ground_truth_credit(self, observations, actions, rewards, lengths):
        return np.broadcast_to(np.eye(rewards.shape[1], dtype=np.float32), (*rewards.shape, 1))


def rollout(env, seed, num_steps=60):
    """Everything an environment returned, one array per kind, under fixed actions."""
    steps = [(env.reset(seed=seed)[0],)]
    actions = np.random.default_rng(9).integers(2, size=(num_steps, 50))
    single = isinstance(env.unwrapped, gymnasium.Env)
    ended = False
    for row in actions:
        if single and ended:
            steps.append((env.reset()[0],))
        *returned, _ = env.step(row[0] if single else row[: env.num_envs])
        ended = single and (returned[2] or returned[3])
        steps.append(tuple(returned))
    return steps


def equal(first, second):
    return all(
        np.array_equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def environments(task_class):
    return [TaskEnv(task_class), TaskVectorEnv(task_class, num_envs=5)]


def test_every_slot_follows_its_own_episode_with_next_step_autoreset():
    env, n = TaskVectorEnv(Countdown, num_envs=16), 16
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    seen, _ = env.reset(seed=0)
    age, ended, phases, ends = [0] * n, [False] * n, set(), set()
    for _ in range(200):
        actions = env.action_space.sample()
        observations, rewards, terminated, truncated, _ = env.step(actions)
        for i in range(n):
            remaining, paid = observations[i]
            if ended[i]:
                assert 1 <= remaining <= 6
                assert paid == 0
                assert (rewards[i], terminated[i], truncated[i]) == (0, False, False)
                age[i] = 0
            else:
                age[i] += 1
                assert (remaining, paid) == (seen[i, 0] - 1, seen[i, 1] + actions[i])
                assert rewards[i] == actions[i] + 1
                assert terminated[i] == (remaining == 0)
                assert truncated[i] == (remaining > 0 and age[i] == 4)
            ended[i] = terminated[i] or truncated[i]
            ends |= {(bool(terminated[i]), bool(truncated[i]))}
        phases.add(tuple(age))
        seen = observations
    assert any(len(set(ages)) > 2 for ages in phases), "the slots never got out of step"
    assert ends == {(False, False), (True, False), (False, True)}


def test_one_slot_equals_gymnasiums_own_vectorisation():
    ours = TaskVectorEnv(Countdown, num_envs=1)
    theirs = SyncVectorEnv([lambda: TaskEnv(Countdown)])
    assert equal(rollout(ours, seed=3), rollout(theirs, seed=3))
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space


def test_reset_in_the_middle_of_an_episode_forgets_the_end_of_the_last():
    env = TaskVectorEnv(UmbrellaChain, num_envs=3, length=1)
    env.reset(seed=0)
    assert env.step(np.zeros(3, dtype=int))[2].all()
    env.reset()
    assert env.step(np.zeros(3, dtype=int))[2].all(), "a stale end swallowed the first step"


@every_task
def test_same_seed_gives_identical_trajectories(task_class):
    for env, twin in zip(environments(task_class), environments(task_class), strict=True):
        first = rollout(env, seed=3)
        assert equal(first, rollout(twin, seed=3))
        assert equal(first, rollout(env, seed=3)), "a used environment must be reseeded fully"
        assert not equal(first, rollout(twin, seed=4))


@every_task
def test_successive_resets_without_a_seed_differ_and_go_on_with_the_stream(task_class):
    for env, twin in zip(environments(task_class), environments(task_class), strict=True):
        env.reset(seed=0)
        twin.reset(seed=0)
        starts = [env.reset()[0] for _ in range(30)]
        assert len({start.tobytes() for start in starts}) > 1
        assert equal([starts], [[twin.reset()[0] for _ in range(30)]])
    unseeded = [TaskVectorEnv(task_class, num_envs=50).reset()[0] for _ in range(5)]
    assert len({start.tobytes() for start in unseeded}) > 1


@every_task
def test_gymnasium_finds_nothing_wrong(task_class):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"metairn/{task_class.__name__}-v0").unwrapped)


@every_task
def test_what_is_returned_lies_in_the_spaces(task_class):
    for env in environments(task_class):
        for observation, *_ in rollout(env, seed=0, num_steps=120):
            assert env.observation_space.contains(observation)


def test_unknown_bounds_are_infinite():
    class Unbounded(Countdown):
        def __init__(self):
            BatchedTask.__init__(
                self, observation_size=2, num_actions=3, max_episode_steps=4,
                optimal_return=0, random_return=0,
            )  # fmt: skip

    space = TaskEnv(Unbounded).observation_space
    assert (space.low == -np.inf).all()
    assert (space.high == np.inf).all()
    np.testing.assert_array_equal(TaskEnv(Countdown).observation_space.low, [-9.0, 0.0])


def test_registered_environments_take_the_tasks_parameters():
    env = gymnasium.make(UMBRELLA, length=5, num_distractors=2)
    assert env.unwrapped.task.length == 5
    assert env.observation_space.shape == (5,)
    assert env.spec.max_episode_steps is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = gymnasium.make_vec(
            UMBRELLA, num_envs=8, vectorization_mode="vector_entry_point", length=5
        )
    assert isinstance(vector, TaskVectorEnv)
    assert vector.num_envs == 8
    assert vector.unwrapped.task.length == 5
    assert vector.observation_space.shape == (8, 3)
    with pytest.raises(ValueError, match=r"^length=0 is not allowed: it must be at least 1\.$"):
        gymnasium.make(UMBRELLA, length=0)
    with pytest.raises(ValueError, match=r"^num_envs=0 is not allowed"):
        TaskVectorEnv(UmbrellaChain, num_envs=0)


def test_the_end_of_a_made_environment_is_a_termination():
    env = gymnasium.make(UMBRELLA, length=4)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(True, False)]


def test_registering_again_changes_nothing():
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_tasks()
    assert gymnasium.registry == before
    assert {f"metairn/{c.__name__}-v0" for c in discover_tasks()} <= set(before)


def test_misuse_of_one_slot_is_refused():
    env = TaskEnv(UmbrellaChain, length=1)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action=2 is not allowed"):
        env.step(2)
    env.step(1)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(0)


def test_a_fresh_process_makes_the_environment_with_numpy_and_gymnasium_only():
    program = f"""
import sys, gymnasium
env = gymnasium.make({UMBRELLA!r}, length=5)
vector = gymnasium.make_vec({UMBRELLA!r}, num_envs=8, length=5)
print(env.unwrapped.task.length, vector.unwrapped.task.length, vector.num_envs)
print(sorted({{"torch", "ray", "hydra"}} & set(sys.modules)))
"""
    source = os.path.dirname(os.path.dirname(metairn.__file__))
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert result.stdout.splitlines() == ["5 5 8", "[]"], result.stderr

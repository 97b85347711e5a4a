"""Lifetimes: the policy begins anew, its task changes, and what was learned of credit stays."""

import pytest
import torch
from small_runs import UMBRELLA, differing, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.intrinsic_attention_ppo.lifetimes import Lifetimes

TASKS = {"length": [3, 5], "payment": ["decision", "inverted"]}
SETTINGS = {"head": "redistribution", "meta_steps": 2, "outer_data": "held_out"}


@pytest.fixture
def build():
    """Builds algorithms and stops them afterwards."""
    built = []

    def make(lifetimes):
        config = small_config(
            credit_assigner=MetaIRN,
            credit_assigner_settings=SETTINGS | {"credit_average": 0.5, "replay_iterations": 2},
            lifetimes=lifetimes,
            steps=60,
        )
        built.append(config.build_algo())
        return built[-1]

    yield make
    for algorithm in built:
        algorithm.stop()


def networks(algorithm):
    return algorithm.learner_group._learner.networks


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_every_task_comes_once_before_any_comes_again():
    lifetimes = Lifetimes(2, TASKS)
    tasks = [lifetimes.task(index, seed=3) for index in range(12)]
    for turn in range(3):
        found = tasks[4 * turn : 4 * turn + 4]
        assert all(task in found for task in lifetimes.combinations)
    assert tasks == [lifetimes.task(index, seed=3) for index in range(12)]
    assert tasks != [lifetimes.task(index, seed=4) for index in range(12)]
    assert [lifetimes.index(iteration) for iteration in range(5)] == [0, 0, 1, 1, 2]


def test_a_lifetime_begins_with_a_new_policy_and_the_old_credit(build, ray_cluster):
    algorithm = build(Lifetimes(2, TASKS))
    first = weights(networks(algorithm).actor)
    algorithm.train()
    algorithm.train()
    learned, credit = (
        weights(networks(algorithm).actor),
        weights(networks(algorithm).credit_assigner),
    )
    algorithm._enter_lifetime()
    begun = weights(networks(algorithm).actor)
    assert differing(begun, learned)
    assert differing(begun, first)
    after = weights(networks(algorithm).credit_assigner)
    assert not [n for n in differing(after, credit) if not n.startswith("reward_")]
    assert float(after["reward_moments"].abs().sum()) == 0.0
    parts = algorithm.learner_group._learner.parts
    for name, vector in parts.vectors.items():
        moments = parts.optimizer.state[vector]
        assert bool(moments["exp_avg"].any()) == (name == "credit_assigner")
    runner = algorithm.env_runner_group.local_env_runner.module
    torch.testing.assert_close(runner.actor.state_dict(), networks(algorithm).actor.state_dict())


def test_episodes_and_their_ground_truth_are_of_the_lifetime_s_task(
    build, ray_cluster, monkeypatch
):
    lifetimes = Lifetimes(1, TASKS)
    algorithm = build(lifetimes)
    seen, learner = [], algorithm.learner_group._learner
    learn = learner._learn

    def noting(episodes):
        seen.append(episodes)
        return learn(episodes)

    monkeypatch.setattr(learner, "_learn", noting)
    for index in range(4):
        algorithm.train()
        task = lifetimes.task(index, seed=0)
        length = task["length"]
        assert algorithm.env_config == {"length": length, "payment": task["payment"]}
        assert seen[-1].rewards.shape[1] == length
        assert (seen[-1].ground_truth[:, 0, length - 1] == 1.0).all()
        decided = seen[-1].actions[:, 0] == seen[-1].observations[:, 0, 0]
        paid = seen[-1].rewards[:, -1] > 0
        assert torch.equal(paid, decided == (task["payment"] == "decision"))
        assert len(algorithm.evaluate_policy(3, True, 0)[0]) == length


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_continued_from_a_checkpoint_equals_an_uninterrupted_one(
    build, ray_cluster, tmp_path, after
):
    lifetimes = Lifetimes(2, TASKS)
    whole = build(lifetimes)
    for iteration in range(5):
        if iteration == after:
            whole.save_to_path(str(tmp_path / "checkpoint"))
        whole.train()
    continued = build(lifetimes)
    continued.restore_from_path(str(tmp_path / "checkpoint"))
    for _ in range(5 - after):
        continued.train()
    assert not differing(weights(networks(continued)), weights(networks(whole)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0, {}), "iterations=0"), ((1, {"length": 3}), "length=3"), ((1, {"length": []}), "length")],
)
def test_bad_lifetimes_are_refused_in_one_sentence(arguments, said):
    with pytest.raises(ValueError, match=r"is not allowed: it must be [^\n]*\.$") as error:
        Lifetimes(*arguments)
    assert said in str(error.value)


def test_without_lifetimes_the_task_is_the_configured_one(build, ray_cluster):
    algorithm = build(None)
    algorithm.train()
    assert algorithm.env_config == {"length": 10}
    assert algorithm.config.env == UMBRELLA

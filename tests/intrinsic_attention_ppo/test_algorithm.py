"""The algorithm in this process: checkpoints, evaluations and what it reports."""

import copy

import numpy as np
import pytest
from small_runs import SmallRun, differing, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.oracle import Oracle
from metairn.credit_assignment.ppo import PPO
from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPO

pytestmark = pytest.mark.usefixtures("ray_cluster")
NEXT = {"outer_data": "next", "inner_update": "adam", "inner_steps": 2}


def algorithm_config(method=PPO, settings=None, **training):
    training = {"credit_assigner": method, "credit_assigner_settings": settings or {}, **training}
    return small_config(**training)


@pytest.fixture
def build(request):
    """Builds algorithms and stops them when the test is over."""

    def built(*args, **kwargs):
        algorithm = algorithm_config(*args, **kwargs).build_algo()
        request.addfinalizer(algorithm.stop)
        return algorithm

    return built


def state(algorithm):
    """Weights, buffers, optimizers and the runner's weights."""
    learner = algorithm.learner_group._learner
    values = {k: v.numpy().copy() for k, v in learner.networks.state_dict().items()}
    for name, optimizer in learner._named_optimizers.items():
        for index, memory in enumerate(optimizer.state_dict()["state"].values()):
            values |= {f"{name}.{index}.{k}": v.numpy().copy() for k, v in memory.items()}
    acting = algorithm.env_runner.module.state_dict()
    return values | {f"runner.{k}": v.numpy().copy() for k, v in acting.items()}


def train(algorithm, iterations):
    return [algorithm.train() for _ in range(iterations)]


@pytest.mark.parametrize(("method", "settings"), [(PPO, {}), (MetaIRN, NEXT)])
def test_the_algorithm_learns_as_runner_and_learner_do_without_it(method, settings, build):
    """So all that the other tests find without Ray holds for the algorithm."""
    algorithm = build(method, settings, num_minibatches=2)
    run = SmallRun(algorithm_config(method, settings, num_minibatches=2))
    results, measured = train(algorithm, 3), run.train(3)
    alone = {k: v.numpy() for k, v in run.state().items()}
    with_runner = state(algorithm)
    assert differing(alone, {k: with_runner[k] for k in alone}) == []
    figures = algorithm.iteration_metrics(results[-1])
    for name in figures.keys() & measured[-1].keys():
        assert figures[name] == pytest.approx(measured[-1][name], rel=1e-6)
    assert algorithm.env_steps == run.env_steps == 600


def test_runner_and_learner_have_the_same_actor_after_each_iteration(build):
    algorithm = build()
    for _ in range(2):
        algorithm.train()
        values = state(algorithm)
        acting = [name for name in values if name.startswith("runner.")]
        assert len(acting) == 4
        for name in acting:
            assert np.array_equal(values[name], values[name.removeprefix("runner.")])


@pytest.mark.parametrize(
    ("method", "settings", "training"),
    [
        (PPO, {}, {}),
        (PPO, {}, {"lr": [[0, 3e-3], [1000, 0.0]], "entropy_coeff": [[0, 0.5], [1000, 0.0]]}),
        (Oracle, {}, {}),
        (MetaIRN, {"outer_data": "held_out"}, {"num_minibatches": 2}),
        (MetaIRN, NEXT, {"num_minibatches": 2}),
    ],
)
@pytest.mark.parametrize("way", ["from_checkpoint", "restore_from_path"])
def test_a_run_continued_from_a_checkpoint_equals_an_uninterrupted_one(
    method, settings, training, way, build, tmp_path, request
):
    through = build(method, settings, **training)
    train(through, 2)
    path = through.save_to_path(tmp_path / "checkpoint")
    through.evaluate_policy(num_episodes=3, explore=False, round_index=0)
    expected = train(through, 2)
    if way == "from_checkpoint":
        continued = IntrinsicAttentionPPO.from_checkpoint(path)
        request.addfinalizer(continued.stop)
    else:
        continued = build(method, settings, **training)
        continued.restore_from_path(path)
    assert (continued.training_iteration, continued.env_steps) == (2, 400)
    results = train(continued, 2)
    assert differing(state(through), state(continued)) == []
    assert continued.env_steps == through.env_steps == 800
    times = {"sample_time_s", "learn_time_s"}
    for one, other in zip(expected, results, strict=True):
        one, other = through.iteration_metrics(one), continued.iteration_metrics(other)
        assert {k: v for k, v in one.items() if k not in times} == {
            k: v for k, v in other.items() if k not in times
        }


@pytest.mark.parametrize("training", [{}, {"env": "CartPole-v1"}])
def test_evaluations_change_nothing_in_training(training, build):
    plain, evaluated = (build(MetaIRN, NEXT, **training) for _ in range(2))
    evaluations = []
    for index in range(3):
        before, steps = state(evaluated), evaluated.env_steps
        for explore in (True, False):
            episodes = evaluated.evaluate_policy(7, explore, round_index=index)
            evaluations.append([tuple(e.get_rewards()) for e in episodes])
            assert len(episodes) == 7
        assert differing(state(evaluated), before) == []
        assert evaluated.env_steps == steps
        plain.train()
        evaluated.train()
    assert differing(state(plain), state(evaluated)) == []
    assert plain.env_steps == evaluated.env_steps
    assert len({tuple(e) for e in evaluations}) >= 5  # Every evaluation has episodes of its own.


def test_evaluation_uses_the_learned_policy_and_its_own_episodes(build):
    training = {"env_config": {"length": 5}, "steps": 1000, "num_epochs": 10}
    algorithm = build(Oracle, num_envs=50, **training)
    returns = []
    for index in range(9):
        episodes = algorithm.evaluate_policy(50, explore=False, round_index=index)
        returns.append(np.mean([e.get_return() for e in episodes]))
        algorithm.train()
    assert returns[0] < 6 < 9 < returns[-1]
    twice = [algorithm.evaluate_policy(50, explore=True, round_index=4) for _ in range(2)]
    first, second = ([tuple(e.get_rewards()) for e in episodes] for episodes in twice)
    assert first == second
    # The training runner has as many slots, so the stream is all that keeps them apart.
    runner = algorithm.env_runner
    runner.sampling_round = 4
    other = [tuple(e.get_rewards()) for e in runner.sample(num_episodes=50)]
    assert [r[:-1] for r in first] != [r[:-1] for r in other]


def test_evaluating_more_episodes_than_slots_is_possible(build):
    algorithm = build()
    assert len(algorithm.evaluate_policy(2, explore=True, round_index=0)) == 2
    assert len(algorithm.evaluate_policy(250, explore=True, round_index=1)) == 250


def test_an_evaluation_is_the_same_whatever_was_evaluated_before(build):
    fresh, used = build(), build()
    used.evaluate_policy(2, explore=True, round_index=7)
    returns = [
        [e.get_return() for e in algorithm.evaluate_policy(20, explore=True, round_index=3)]
        for algorithm in (fresh, used)
    ]
    assert returns[0] == returns[1]


def test_results_report_this_iteration_alone(build):
    algorithm = build(MetaIRN, NEXT)
    sampled, sample = [], algorithm._sample_episodes
    algorithm._sample_episodes = lambda: sampled.append(sample()) or sampled[-1]
    for index in range(3):
        figures = algorithm.iteration_metrics(algorithm.train())
        returns = [e.get_return() for e in sampled[index]]
        assert figures["training_return_mean"] == pytest.approx(np.mean(returns), rel=1e-5)
        assert ("meta_gradient_norm" in figures) == (index > 0)
        assert all(np.isfinite(v) for v in figures.values())
        assert figures["learn_time_s"] > 0


def test_credit_maps_show_episodes_without_changing_them(build):
    algorithm = build(MetaIRN)
    algorithm.train()
    episodes = algorithm.evaluate_policy(4, explore=True, round_index=0)
    before = copy.deepcopy([e.get_rewards() for e in episodes])
    maps = algorithm.credit_maps(episodes)
    for name in ("credit_matrix", "attention", "ground_truth"):
        assert maps[name].shape == (4, 10, 10)
    assert maps["intrinsic_rewards"].std() > 0
    np.testing.assert_allclose(maps["attention"].sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(maps["rewards"], before)
    np.testing.assert_array_equal([e.get_rewards() for e in episodes], before)

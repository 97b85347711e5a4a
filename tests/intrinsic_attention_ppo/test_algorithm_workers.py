"""The algorithm with its runners and learners in other processes, and under Tune."""

import numpy as np
import pytest
from ray import tune
from small_runs import differing, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.ppo import PPO
from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPO

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.slow]


def all_states(algorithm):
    """Parameters and buffers of every learner."""
    results = algorithm.learner_group.foreach_learner(
        lambda learner: {k: v.numpy().copy() for k, v in learner.networks.state_dict().items()}
    )
    return [result.get() for result in results]


def trained(config, iterations=3):
    """The states of all learners and of all runners after some iterations."""
    algorithm = config.build_algo()
    try:
        first = all_states(algorithm)[0]
        results = [algorithm.train() for _ in range(iterations)]
        acting = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: {k: v.numpy().copy() for k, v in runner.module.state_dict().items()},
            local_env_runner=False,
        )
        states = all_states(algorithm)
        assert {k for k in differing(first, states[0]) if "actor" in k} == {
            k for k in first if "actor" in k
        }
        return states, acting, [algorithm.iteration_metrics(r) for r in results]
    finally:
        algorithm.stop()


@pytest.mark.parametrize(
    ("method", "settings"),
    [(PPO, {}), (MetaIRN, {}), (MetaIRN, {"outer_data": "held_out"})],
    ids=["PPO", "MetaIRN-same", "MetaIRN-held_out"],
)
def test_two_learners_stay_identical_bit_for_bit(method, settings):
    training = {"credit_assigner": method, "credit_assigner_settings": settings}
    config = small_config(num_minibatches=2, steps=100, **training).learners(num_learners=2)
    states, _, figures = trained(config)
    assert len(states) == 2
    assert differing(*states) == []
    assert all(np.isfinite(list(f.values())).all() for f in figures)


def test_two_remote_runners_train_reproducibly_and_share_the_learner_s_actor():
    def config():
        training = {"credit_assigner": MetaIRN, "num_minibatches": 2}
        return small_config(**training).env_runners(num_env_runners=2)

    (first,), acting, figures = trained(config())
    (second,), _, again = trained(config())
    assert differing(first, second) == []
    assert [f["training_return_mean"] for f in figures] == [
        f["training_return_mean"] for f in again
    ]
    assert len(acting) == 2
    for runner in acting:
        assert differing(runner, {name: first[name] for name in runner}) == []


def test_remote_runners_sample_different_episodes_and_the_whole_batch():
    config = small_config(steps=210).env_runners(num_env_runners=2)
    algorithm = config.build_algo()
    try:
        episodes = algorithm._sample_episodes()
    finally:
        algorithm.stop()
    # 210 steps are 105 for each of the two, which is 11 episodes.
    assert len(episodes) == 22
    noise = [tuple(e.get_rewards()) for e in episodes]
    assert not set(noise[:11]) & set(noise[11:])


def test_it_runs_under_tune(tmp_path):
    config = small_config(credit_assigner=MetaIRN, lr=tune.grid_search([1e-3, 2e-3]))
    results = tune.Tuner(
        IntrinsicAttentionPPO,
        param_space=config,
        run_config=tune.RunConfig(
            stop={"training_iteration": 2}, verbose=0, storage_path=str(tmp_path)
        ),
    ).fit()
    assert results.num_errors == 0
    assert len(results) == 2
    for result in results:
        assert result.metrics["training_iteration"] == 2
        learner = result.metrics["learners"]["default_policy"]
        assert learner["actor_learning_rate"] == result.config["lr"]
        assert np.isfinite(learner["meta_gradient_norm"])

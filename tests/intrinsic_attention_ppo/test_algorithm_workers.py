"""The algorithm with its runners and learners in other processes, and under Tune."""

import numpy as np
import pytest
from ray import tune
from small_runs import SmallRun, differing, runner_of, small_config

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


def test_two_remote_runners_train_as_two_local_ones_would_bit_for_bit():
    """So a run with remote runners is reproducible, and its runners never share an episode."""

    def config():
        training = {"credit_assigner": MetaIRN, "num_minibatches": 2, "steps": 210}
        return small_config(**training).env_runners(num_env_runners=2)

    (remote,), acting, figures = trained(config())
    local = SmallRun(config().env_runners(num_env_runners=0))
    runners = [runner_of(config(), worker_index) for worker_index in (1, 2)]
    for index in range(3):
        shares = []
        for runner in runners:
            runner.module.set_state(local.networks.get_state(inference_only=True))
            shares.append(runner.sample(num_timesteps=105))
        noise = [{tuple(e.get_rewards()) for e in share} for share in shares]
        assert [len(n) for n in noise] == [11, 11]
        assert not noise[0] & noise[1]
        episodes = [e for share in shares for e in share]
        returns = np.mean([e.get_return() for e in episodes])
        assert figures[index]["training_return_mean"] == pytest.approx(returns)
        local.learn(episodes)
    expected = local.networks.state_dict()
    assert differing(remote, {name: value.numpy() for name, value in expected.items()}) == []
    assert len(acting) == 2
    for runner in acting:
        assert differing(runner, {name: remote[name] for name in runner}) == []


def test_it_runs_under_tune(tmp_path):
    config = small_config(credit_assigner=MetaIRN, lr=tune.grid_search([2e-3]))
    results = tune.Tuner(
        IntrinsicAttentionPPO,
        param_space=config,
        run_config=tune.RunConfig(
            stop={"training_iteration": 2}, verbose=0, storage_path=str(tmp_path)
        ),
    ).fit()
    assert results.num_errors == 0
    (result,) = results
    assert result.metrics["training_iteration"] == 2
    learner = result.metrics["learners"]["default_policy"]
    assert learner["actor_learning_rate"] == 2e-3
    assert np.isfinite(learner["meta_gradient_norm"])

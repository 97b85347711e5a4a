"""The outer update: what it imagines, on which episodes, and how often."""

import pytest
import torch
from small_runs import SmallRun, small_config

from metairn.credit_assignment.lirpg import LIRPG
from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.ppo import PPO
from metairn.intrinsic_attention_ppo.connectors import to_episode_batch
from metairn.objectives.meta_gradient import InnerLoop

FAST = {"outer_data": "next", "inner_update": "adam"}


def small_run(method=MetaIRN, settings=None, **training):
    training = {"credit_assigner": method, "credit_assigner_settings": settings or {}, **training}
    return SmallRun(small_config(**training))


@pytest.fixture
def imagined(monkeypatch):
    """All theta' that outer updates imagine from now on."""
    results, unroll = [], InnerLoop.unroll

    def recording(*args):
        results.append(unroll(*args))
        return results[-1]

    monkeypatch.setattr(InnerLoop, "unroll", recording)
    return results


SITUATIONS = {
    "as ever": {},
    "learning rate falls": {"lr": [[0, 3e-3], [600, 0.0]]},
    "entropy coefficient falls": {"entropy_coeff": [[0, 0.5], [600, 0.0]]},
    "rewards grow": {},
    "no gradient clipping": {"grad_clip": None},
    "continuous actions": {"env": "Pendulum-v1", "steps": 600},
}


@pytest.mark.parametrize("method", [MetaIRN, LIRPG])
@pytest.mark.parametrize(("inner_steps", "num_minibatches"), [(1, 1), (3, 3), (50, 3)])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_next_imagines_the_policy_that_collected_the_fresh_episodes(
    method, inner_steps, num_minibatches, situation, imagined
):
    """That is what makes it the two-batch update of Xu et al. 2018: the ratio is one."""
    settings = FAST | {"inner_steps": inner_steps, "intrinsic_coefficient": 0.5}
    training = SITUATIONS[situation]
    run = small_run(method, settings, num_minibatches=num_minibatches, **training)
    run.train(2)
    waiting = run.learner._credit_update.pending.rollouts
    assert len(waiting) == min(inner_steps, run.config.num_epochs * num_minibatches)
    actor = {n: p.detach().clone() for n, p in run.networks.actor.named_parameters()}
    imagined.clear()
    episodes = run.sample()
    if situation == "rewards grow":
        for episode in episodes:
            episode.rewards.data *= 10.0
    batch = to_episode_batch(episodes)
    measured = run.learn(episodes)
    (after,) = imagined
    for name, parameter in actor.items():
        torch.testing.assert_close(after[name].detach(), parameter, atol=2e-5, rtol=1e-4)
    inputs = torch.func.functional_call(run.networks.actor, after, (batch.acted_on,))
    log_probs = run.networks.actor.actions.log_prob(inputs, batch.actions)
    ratio = (log_probs - batch.behaviour_log_probs)[batch.mask].exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-3, rtol=0)
    assert abs(measured["outer_loss"]) < 1e-3


@pytest.mark.parametrize("outer_data", ["same", "held_out"])
@pytest.mark.parametrize("inner_steps", [1, 2, 4])
def test_every_kth_policy_step_has_one_outer_update(outer_data, inner_steps, imagined):
    settings = {"outer_data": outer_data, "inner_steps": inner_steps}
    run = small_run(MetaIRN, settings, num_epochs=3, num_minibatches=2)
    run.train(1)
    assert len(imagined) == -(-6 // inner_steps)
    parts = run.learner.parts
    assert int(parts.optimizer.state[parts.vectors["credit_assigner"]]["step"]) == len(imagined)
    assert int(parts.optimizer.state[parts.vectors["actor"]]["step"]) == 6


def test_next_updates_once_per_iteration_from_the_second_on(imagined):
    run = small_run(MetaIRN, FAST | {"inner_steps": 2})
    counts = []
    for _ in range(3):
        run.train(1)
        counts.append(len(imagined))
    assert counts == [0, 1, 2]


def recorded_steps(run):
    """Inner and outer episodes of all outer updates of the next iteration, as reward matrices."""
    steps, gradient = [], run.learner._credit_update._gradient

    def recording(start, outer, *first_gradient):
        inner = [rollout.episodes.rewards for rollout in start.rollouts]
        steps.append((inner, outer.episodes.rewards))
        return gradient(start, outer, *first_gradient)

    run.learner._credit_update._gradient = recording
    run.train(1)
    return steps


def rows(rewards):
    return sorted(row.numpy().tobytes() for row in rewards)


def test_same_takes_the_outer_loss_on_the_last_inner_episodes():
    steps = recorded_steps(small_run(settings={"inner_steps": 2}, num_minibatches=4))
    assert len(steps) == 6
    for inner, outer in steps:
        assert [len(part) for part in inner] == [5, 5]
        assert rows(inner[-1]) == rows(outer)
        assert rows(inner[0]) != rows(outer)


def test_held_out_halves_each_minibatch():
    run = small_run(settings={"outer_data": "held_out"}, num_minibatches=2)
    for (inner,), outer in recorded_steps(run):
        assert (len(inner), len(outer)) == (5, 5)
        assert not set(rows(inner)) & set(rows(outer))


def test_held_out_halves_differ_between_epochs():
    run = small_run(settings={"outer_data": "held_out"}, num_minibatches=1)
    steps = recorded_steps(run)
    assert len({tuple(rows(outer)) for _, outer in steps}) == len(steps) == 3


def test_next_takes_the_outer_loss_on_fresh_episodes():
    run = small_run(settings=FAST)
    earlier = run.sample()
    run.learn(earlier)
    fresh = to_episode_batch(run.sample())
    ((inner, outer),) = recorded_steps(run)
    assert rows(outer) == rows(fresh.rewards)
    assert rows(inner[0]) == rows(to_episode_batch(earlier).rewards)


@pytest.mark.parametrize("outer_data", ["same", "held_out", "next"])
def test_an_outer_update_moves_the_credit_alone(outer_data):
    run = small_run(settings={"outer_data": outer_data})
    run.train(1)
    updates, gradient = [], run.learner._credit_update._gradient

    def recording(*args):
        before = {n: p.detach().clone() for n, p in run.networks.named_parameters()}
        updates.append(gradient(*args))
        assert all(torch.equal(p, before[n]) for n, p in run.networks.named_parameters())
        return updates[-1]

    run.learner._credit_update._gradient = recording
    run.train(1)
    assert updates
    assert all(set(update) == {"credit_assigner"} for update in updates)


def test_a_step_moves_the_parts_that_it_has_gradients_for():
    run = small_run()
    run.train(1)
    before = {n: p.detach().clone() for n, p in run.networks.named_parameters()}
    parts = run.learner.parts
    names = ["extrinsic_value", "credit_assigner"]
    gradients = {n: [torch.ones_like(p) for p in parts.parameters[n]] for n in names}
    norms = parts.step(gradients, max_norm=None)
    after = dict(run.networks.named_parameters())
    moved = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert moved == set(names) == set(norms)
    for name in names:
        assert norms[name].item() == pytest.approx(parts.vectors[name].numel() ** 0.5)


def test_methods_without_meta_gradient_have_no_outer_update(imagined):
    measured = small_run(PPO).train(2)
    assert imagined == []
    assert "meta_gradient_norm" not in measured[-1]


@pytest.mark.parametrize("outer_data", ["same", "held_out", "next"])
@pytest.mark.parametrize("inner_update", ["sgd", "adam", "normalised"])
def test_all_inner_updates_run_and_report(inner_update, outer_data):
    settings = {"outer_data": outer_data, "inner_update": inner_update}
    for figures in small_run(settings=settings).train(3)[1:]:
        assert figures["meta_gradient_norm"] > 0

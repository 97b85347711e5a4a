"""Outer updates through a natural policy step: what they see, where they begin, what they find."""

from dataclasses import replace

import pytest
import torch
from small_runs import SmallRun, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.intrinsic_attention_ppo.evidence import gather_evidence
from metairn.intrinsic_attention_ppo.losses import policy_advantages
from metairn.intrinsic_attention_ppo.rollout import Horizon
from metairn.objectives.advantages import normalise

NOISY = {"length": 10, "distractor_reward": 1.0, "final_reward": 1.0}
SETTINGS = {
    "head": "redistribution",
    "tokens": ["position", "flags"],
    "encoder_width": 16,
    "balanced_gradient": True,
    "intrinsic_coefficient": 1.0,
    "mixed_discount": 0.0,
    "extrinsic_share": 0.2,
    "credit_learning_rate": 0.01,
    "inner_update": "natural",
    "judged_by": "reward",
    "outer_data": "held_out",
    "meta_steps": 100,
    "restart": True,
    "replay_iterations": 5,
}


def small_run(settings=None, **training):
    training = {"env_config": NOISY, "num_envs": 20, "steps": 1000, "num_epochs": 5} | training
    options = {"credit_assigner": MetaIRN, "credit_assigner_settings": SETTINGS | (settings or {})}
    return SmallRun(small_config(**options, **training))


def evidence_of(run, monkeypatch, iterations=1):
    """What the last of some iterations gathered."""
    found = []

    def noting(*args):
        found.append(gather_evidence(*args))
        return found[-1]

    monkeypatch.setattr("metairn.intrinsic_attention_ppo.credit_update.gather_evidence", noting)
    run.train(iterations)
    return found[-1]


def test_it_finds_the_cause_with_a_hundred_episodes_and_keeps_it():
    """PPO's credit on the cause is a tenth, and unrolled steps take a thousand episodes."""
    credit = [row["credit_on_cause"] for row in small_run().train(8)]
    assert min(credit[1:]) > 0.8


@pytest.mark.parametrize("restart", [True, False])
def test_a_restart_begins_with_the_first_weights(restart):
    run = small_run({"restart": restart, "meta_steps": 2})
    weights, begun = run.learner.parts.vectors["credit_assigner"].data, []
    update, move = run.learner._credit_update, run.learner._credit_update._move
    update._move = lambda gradient: (begun.append(weights.clone()), move(gradient))
    run.train(3)
    first = begun[::2]
    assert all(torch.equal(each, first[0]) for each in first) == restart
    adam = run.learner.parts.optimizer.state[run.learner.parts.vectors["credit_assigner"]]
    assert int(adam["step"]) == (2 if restart else 6)


def test_earlier_episodes_are_seen_at_the_policies_that_made_them(monkeypatch):
    run = small_run({"replay_iterations": 2}, lr=0.03)
    evidence = evidence_of(run, monkeypatch, iterations=3)
    assert evidence.episodes.num_episodes == 200
    parts = [evidence.episodes.select(rows, 10) for rows in torch.arange(200).split(100)]
    actor = run.networks.actor
    sizes = [actor.scores(e.acted_on, e.actions, e.behaviour_inputs).square().mean() for e in parts]
    assert evidence.size >= max(sizes)
    fresh = [actor.scores(e.acted_on, e.actions, actor(e.acted_on)).square().mean() for e in parts]
    assert all(not torch.isclose(one, other) for one, other in zip(sizes, fresh, strict=True))


@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_one_matrix_for_all_episodes_says_the_same_as_one_each(monkeypatch, discount):
    run = small_run({"meta_steps": 1})
    evidence, assigner = evidence_of(run, monkeypatch), run.networks.credit_assigner
    horizon = Horizon(discount, 0.5)
    one = evidence.outer_loss(assigner, horizon)
    shares = assigner.redistribution(evidence.episodes)
    assert shares.shape[0] == 1
    monkeypatch.setattr(assigner, "redistribution", lambda _: shares.expand(100, -1, -1))
    torch.testing.assert_close(evidence.outer_loss(assigner, horizon), one)


def test_the_return_judges_any_reward_by_its_advantages(monkeypatch):
    run = small_run({"judged_by": "return", "meta_steps": 1})
    evidence, assigner = evidence_of(run, monkeypatch), run.networks.credit_assigner
    assert evidence.gains.shape == (100, 10, 1)
    found = evidence.outer_loss(assigner, Horizon(0.0, 0.0))
    advantages = assigner(evidence.episodes).rewards
    advantages = advantages - advantages.mean(dim=0)
    gain = (advantages * evidence.gains[..., 0]).sum() / 100
    torch.testing.assert_close(found, -gain / advantages.std(correction=0))


def test_a_step_looks_at_no_more_episodes_than_it_may(monkeypatch):
    run = small_run({"meta_steps": 1})
    evidence = evidence_of(run, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    assert evidence.drawn(None, generator) is evidence.drawn(100, generator) is evidence
    drawn, other = evidence.drawn(7, generator), evidence.drawn(7, generator)
    assert drawn.episodes.num_episodes == len(drawn.rewards) == len(drawn.gains) == 7
    assert not torch.equal(drawn.gains, other.gains)
    row = int((evidence.gains == drawn.gains[0]).all(dim=(1, 2)).nonzero()[0])
    assert torch.equal(evidence.episodes.observations[row], drawn.episodes.observations[0])
    assert torch.equal(evidence.rewards[row], drawn.rewards[0])


def test_episodes_of_different_lengths_have_shares_of_their_own(monkeypatch):
    run = small_run({"meta_steps": 1})
    evidence, assigner = evidence_of(run, monkeypatch), run.networks.credit_assigner
    mask = evidence.episodes.mask.clone()
    mask[0, 6:] = False
    episodes = replace(evidence.episodes, mask=mask)
    shares = assigner.redistribution(episodes)
    assert shares.shape[0] == 100
    assert not shares[0, 6:].any()


def test_small_advantages_stay_small_under_a_floor():
    run = small_run({"advantage_floor": 0.5, "extrinsic_share": 0.0, "meta_steps": 1})
    pools = []
    run.learner._credit_update.before_policy = pools.append
    run.train(1)
    (rollout,), assigner = pools, run.networks.credit_assigner
    mixed = torch.randn(rollout.weights.shape)
    unit = normalise(mixed, rollout.weights)
    for size, wanted in ((2.0, 1.0), (0.5, 1.0), (0.1, 0.2)):
        found = policy_advantages(assigner, rollout, size * unit, torch.tensor(1.0))
        torch.testing.assert_close(found, wanted * unit)


def test_the_floor_remembers_the_largest_advantage_of_a_lifetime():
    run = small_run({"advantage_floor": 0.5})
    update, sizes = run.learner._policy_update, []
    for _ in range(4):
        run.train(1)
        sizes.append(float(update.largest_advantage))
    assert sizes == sorted(sizes)
    state = run.learner.get_state()
    other = small_run({"advantage_floor": 0.5})
    other.learner.set_state(state)
    assert float(other.learner._policy_update.largest_advantage) == sizes[-1]
    run.learner.enter_lifetime(1, NOISY, begins=True)
    assert update.largest_advantage is None

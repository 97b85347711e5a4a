"""Outer updates before the policy moves: on which episodes, at what weight, and what stays put."""

import pytest
import torch
from small_runs import SmallRun, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.meta_learned_reward import MetaLearning
from metairn.intrinsic_attention_ppo.connectors import to_episode_batch
from metairn.intrinsic_attention_ppo.losses import policy_advantages
from metairn.intrinsic_attention_ppo.replay import split_for_meta_step
from metairn.objectives.advantages import normalise

SETTINGS = {
    "head": "redistribution",
    "intrinsic_coefficient": 1.0,
    "mixed_discount": 0.0,
    "inner_update": "normalised",
    "inner_learning_rate": 0.05,
    "outer_data": "held_out",
    "meta_steps": 4,
}


def small_run(settings=None, **training):
    # Distractors make every episode a different one.
    training = {"env_config": {"length": 10, "num_distractors": 6}} | training
    options = {"credit_assigner": MetaIRN, "credit_assigner_settings": SETTINGS | (settings or {})}
    return SmallRun(small_config(**options, **training))


@pytest.fixture
def record(monkeypatch):
    """Makes a run note the inner rollouts and the outer one of every meta-gradient."""

    def recording(run):
        steps, gradient = [], run.learner._credit_update._gradient

        def noting(start, outer, *first_gradient):
            steps.append((start.rollouts, outer))
            return gradient(start, outer, *first_gradient)

        monkeypatch.setattr(run.learner._credit_update, "_gradient", noting)
        return steps

    return recording


def rows(rollout):
    return {name(episode) for episode in rollout.episodes.observations}


def name(observations):
    return observations.numpy().tobytes()


def adam_steps(run, part):
    parts = run.learner.parts
    return int(parts.optimizer.state[parts.vectors[part]]["step"])


def test_all_outer_updates_come_before_the_policy_moves(record, monkeypatch):
    run = small_run()
    actor = [p.detach().clone() for p in run.networks.actor.parameters()]
    moved, gradient = [], run.learner._credit_update._gradient

    def noting(*args):
        now = run.networks.actor.parameters()
        moved.append(any(not torch.equal(a, b) for a, b in zip(actor, now, strict=True)))
        return gradient(*args)

    monkeypatch.setattr(run.learner._credit_update, "_gradient", noting)
    run.train(1)
    assert moved == [False] * 4
    assert adam_steps(run, "credit_assigner") == 4
    assert adam_steps(run, "actor") == 3


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [10]),
        ({"inner_starts": 2}, [5, 5]),
        ({"inner_starts": 2, "inner_steps": 2, "inner_episodes": 1}, [1] * 4),
        # Bounds that there are too few episodes to reach.
        ({"inner_starts": 4, "inner_episodes": 5}, [2] * 4),
        ({"inner_starts": 12, "inner_steps": 3}, [1] * 18),
    ],
)
def test_imagined_updates_and_outer_loss_share_no_episode(record, settings, sizes):
    run = small_run(settings)
    steps = record(run)
    run.train(1)
    starts = len(sizes) // settings.get("inner_steps", 1)
    assert len(steps) == 4 * starts
    for first in range(0, len(steps), starts):
        group = steps[first : first + starts]
        inner = [rollout for rollouts, _ in group for rollout in rollouts]
        assert [rollout.episodes.num_episodes for rollout in inner] == sizes
        parts = [*map(rows, inner), rows(group[0][1])]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 20
        assert all(outer is group[0][1] for _, outer in group)


def test_the_outer_loss_takes_no_more_episodes_than_it_may(record):
    run = small_run({"outer_episodes": 3})
    steps = record(run)
    run.train(1)
    for rollouts, outer in steps:
        assert outer.episodes.num_episodes == 3
        assert not rows(outer) & rows(rollouts[0])


def test_same_takes_the_outer_loss_on_the_inner_episodes(record):
    run = small_run({"outer_data": "same"})
    steps = record(run)
    run.train(1)
    assert all(outer is rollouts[-1] for rollouts, outer in steps)


def test_earlier_episodes_count_as_much_as_the_present_policy_would_make_them(record):
    run = small_run({"replay_iterations": 2, "max_importance_ratio": 1.02}, lr=0.03)
    batches = []
    for iteration in range(3):
        episodes = run.sample()
        batches = [*batches, to_episode_batch(episodes)][-2:]
        if iteration == 2:
            actor = run.networks.actor
            ratio = torch.cat(
                [
                    (actor.actions.log_prob(actor(b.acted_on), b.actions) - b.behaviour_log_probs)
                    .exp()
                    .detach()
                    for b in batches
                ]
            )
            steps = record(run)
        run.learn(episodes)
    assert (ratio > 1.02).any()
    expected = ratio.clamp(max=1.02)
    found = {}
    for rollouts, outer in steps:
        for rollout in [*rollouts, outer]:
            assert float(rollout.weights.sum()) == pytest.approx(1.0, abs=1e-5)
            torch.testing.assert_close(
                rollout.weights, rollout.importance / rollout.importance.sum()
            )
            episodes = rollout.episodes.observations
            found |= {name(e): w for e, w in zip(episodes, rollout.importance, strict=True)}
    episodes = torch.cat([b.observations for b in batches])
    assert len(found) == len(episodes) == 40
    for episode, weight in zip(episodes, expected, strict=True):
        torch.testing.assert_close(found[name(episode)], weight, atol=1e-5, rtol=1e-4)


def test_the_policy_learns_from_a_running_mean_of_the_network():
    run = small_run({"credit_average": 0.75})
    vector = run.learner.parts.vectors["credit_assigner"]
    before = vector.detach().clone()
    run.train(1)
    newest = run.learner._credit_update.newest
    torch.testing.assert_close(vector.detach(), 0.75 * before + 0.25 * newest)
    assert not torch.equal(newest, before)
    before = vector.detach().clone()
    run.train(1)
    torch.testing.assert_close(
        vector.detach(), 0.75 * before + 0.25 * run.learner._credit_update.newest
    )


def test_too_few_episodes_are_refused_in_one_sentence():
    run = small_run({"inner_steps": 20})
    with pytest.raises(ValueError, match=r"^20 episodes are too few for inner_steps=20 [^\n]*\.$"):
        run.train(1)


def test_a_split_depends_on_its_generator_alone():
    run = small_run()
    pools = []
    run.learner._credit_update.before_policy = pools.append
    run.train(1)
    settings = MetaLearning(meta_steps=1, outer_data="held_out")
    splits = [
        split_for_meta_step(pools[0], settings, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    one, same, other = (rows(starts[0][0]) for starts, _ in splits)
    assert one == same != other


def test_the_policy_s_advantage_is_the_share_of_both(random_episodes):
    run = small_run({"extrinsic_share": 0.3})
    pools = []
    run.learner._credit_update.before_policy = pools.append
    run.train(1)
    (rollout,) = pools
    mixed = torch.randn_like(rollout.weights)
    found = policy_advantages(run.networks.credit_assigner, rollout, mixed)
    extrinsic = normalise(rollout.extrinsic_advantages, rollout.weights)
    torch.testing.assert_close(found, 0.3 * extrinsic + 0.7 * normalise(mixed, rollout.weights))
    run.networks.credit_assigner.extrinsic_share = 0.0
    assert policy_advantages(run.networks.credit_assigner, rollout, mixed) is mixed


def test_it_finds_the_cause_within_a_lifetime():
    """On a chain of ten with noise as large as the last reward PPO's credit stays at a tenth."""
    environment = {"length": 10, "distractor_reward": 1.0, "final_reward": 1.0}
    settings = {"tokens": ["position", "flags"], "encoder_width": 16, "extrinsic_share": 0.5}
    run = small_run(
        settings | {"meta_steps": 10, "credit_learning_rate": 0.01, "replay_iterations": 5},
        env_config=environment, num_envs=20, steps=1000, num_epochs=5,
    )  # fmt: skip
    credit = [row["credit_on_cause"] for row in run.train(12)]
    assert credit[0] < 0.5
    assert max(credit) > 0.8

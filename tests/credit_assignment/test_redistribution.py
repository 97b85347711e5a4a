"""MetaIRN with the redistribution head: the rewards there are, moved to who earned them."""

import jaxtyping
import pytest
import torch

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.step_tokens import DEFAULT_PARTS, PARTS, StepTokens

LENGTHS = (3, 6, 1, 4)


def redistribution(spec, **settings):
    torch.manual_seed(0)
    options = {"head": "redistribution", "encoder_width": 8, "intrinsic_coefficient": 1.0}
    return MetaIRN(spec, **(options | settings)).double()


@pytest.mark.parametrize("discrete", [True, False])
def test_each_reward_goes_where_the_attention_says(random_episodes, make_spec, discrete):
    episodes = random_episodes(LENGTHS, discrete=discrete)
    assigner = redistribution(make_spec(discrete))
    share, moved = assigner.attention(episodes), assigner(episodes).rewards
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            got = sum(share[b, t, k] * episodes.rewards[b, k] for k in range(t, length))
            torch.testing.assert_close(moved[b, t], got)
        assert not moved[b, length:].any()


def test_without_a_null_slot_no_reward_is_lost(random_episodes, make_spec):
    episodes = random_episodes(LENGTHS)
    assigner = redistribution(make_spec(True), null_slot=False)
    torch.testing.assert_close(assigner(episodes).rewards.sum(dim=1), episodes.returns())


def test_a_part_of_the_way_is_the_coefficient(random_episodes, make_spec):
    episodes = random_episodes(LENGTHS)
    whole = redistribution(make_spec(True))(episodes).rewards
    half = redistribution(make_spec(True), intrinsic_coefficient=0.5)(episodes).rewards
    torch.testing.assert_close(half, 0.5 * (whole + episodes.rewards))


@pytest.mark.parametrize("part", PARTS)
def test_a_token_shows_its_parts_and_nothing_else(random_episodes, make_spec, part):
    episodes = random_episodes((4, 4))
    tokens = StepTokens(make_spec(True), [part], 8).double()
    seen = tokens.features(episodes, torch.tensor(2.0), torch.tensor(5.0))
    time = torch.arange(4) / 4
    expected = {
        "observation": episodes.acted_on,
        "action": torch.nn.functional.one_hot(episodes.actions, 2).double(),
        "reward": episodes.rewards[..., None] / 2.0,
        "relative_reward": episodes.rewards[..., None] / 5.0,
        "position": torch.stack([time, 1 - time], dim=-1).double().expand(2, -1, -1),
        "flags": torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 1]]).double().expand(2, -1, -1),
    }
    torch.testing.assert_close(seen, expected[part])


def test_several_parts_stand_beside_each_other(random_episodes, make_spec):
    episodes = random_episodes((4, 4))
    units = torch.tensor(2.0), torch.tensor(5.0)
    whole = StepTokens(make_spec(True), DEFAULT_PARTS, 8).double().features(episodes, *units)
    parts = [StepTokens(make_spec(True), [p], 8).features(episodes, *units) for p in DEFAULT_PARTS]
    torch.testing.assert_close(whole, torch.cat(parts, dim=-1))


def test_position_alone_knows_nothing_of_what_happened(random_episodes, make_spec):
    assigner = redistribution(make_spec(True), tokens=["position", "flags"])
    first, second = random_episodes((5, 5), seed=1), random_episodes((5, 5), seed=2)
    torch.testing.assert_close(assigner.attention(first), assigner.attention(second))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head", "quadratic"),
        ("tokens", []),
        ("tokens", ["colour"]),
        ("tokens", ["reward", "reward"]),
        ("sharpness", 0.0),
        ("sharpness", float("nan")),
        ("mixed_discount", 1.5),
        ("mixed_gae_lambda", -0.1),
        ("extrinsic_share", 2.0),
        ("meta_steps", -1),
        ("inner_starts", 0),
        ("outer_episodes", 0),
        ("inner_episodes", 0),
        ("replay_iterations", 0),
        ("max_importance_ratio", 0.5),
        ("max_importance_ratio", float("inf")),
        ("credit_average", 1.0),
        ("judged_by", "critic"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(make_spec, monkeypatch, name, value):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=rf"^{name}=.* is not allowed: it must [^\n]*\.$"):
        redistribution(make_spec(True), **{name: value})


@pytest.mark.parametrize("reward", ["reward", "relative_reward"])
def test_balanced_gradient_is_refused_where_it_would_change_the_credit_matrix(make_spec, reward):
    with pytest.raises(ValueError, match=r"^balanced_gradient=True is not allowed with tokens"):
        redistribution(make_spec(True), tokens=[reward, "flags"], balanced_gradient=True)


def test_fresh_episodes_are_too_late_for_meta_steps(make_spec):
    with pytest.raises(ValueError, match=r"^meta_steps=2 is not allowed with outer_data=next"):
        redistribution(make_spec(True), meta_steps=2, outer_data="next")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inner_learning_rate", 0.1),
        ("inner_starts", 2),
        ("outer_episodes", 9),
        ("max_importance_ratio", 2.0),
    ],
)
def test_a_natural_update_refuses_what_only_unrolled_ones_look_at(make_spec, name, value):
    unrolled = {"meta_steps": 1, name: value}
    redistribution(make_spec(True), **unrolled)
    with pytest.raises(ValueError, match=rf"^{name}={value} is not allowed with inner_update=nat"):
        redistribution(make_spec(True), inner_update="natural", **unrolled)

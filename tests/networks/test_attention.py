"""Self-attention: its weights are a distribution over existing steps, twice differentiable."""

import math

import pytest
import torch
from torch.func import functional_call

from metairn.networks.attention import (
    RedistributionAttention,
    SelfAttention,
    sinusoidal_positions,
)

MASK = torch.tensor([[True, True, True, False], [True] * 4, [True, False, False, False]])


@pytest.fixture
def attend():
    torch.manual_seed(0)
    return SelfAttention(6).double()


@pytest.fixture
def steps():
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_rows_sum_to_one_and_padding_gets_exactly_nothing(attend, steps):
    weights = attend.weights(steps, MASK)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(steps[..., 0]))
    assert (weights >= 0).all()
    padding = (~MASK)[:, None, :].expand_as(weights)
    assert not weights[padding].any()
    assert (weights[~padding] > 0).all()


def test_equals_torch_scaled_dot_product_attention(attend, steps):
    query, key, value = attend.query(steps), attend.key(steps), attend.value(steps)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=MASK[:, None, :]
    )
    torch.testing.assert_close(attend(steps, MASK), expected)


def test_looks_both_ways_in_time(attend, steps):
    weights = attend.weights(steps, torch.ones_like(MASK))
    assert (weights.triu(1)[0].flatten() > 0).any()
    assert (weights.tril(-1)[0].flatten() > 0).any()


def test_is_twice_differentiable_in_steps_and_parameters(attend, steps):
    names = [name for name, _ in attend.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in attend.parameters()]

    def forward(steps, *values):
        return functional_call(attend, dict(zip(names, values, strict=True)), (steps, MASK[:2]))

    inputs = (steps[:2].requires_grad_(), *values)
    assert torch.autograd.gradcheck(forward, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(forward, inputs, fast_mode=True)


@pytest.mark.parametrize("width", [2, 4, 32])
def test_no_two_steps_of_a_thousand_share_a_position(width):
    positions = sinusoidal_positions(1000, width, torch.float32, torch.device("cpu"))
    assert positions.shape == (1000, width)
    distances = torch.cdist(positions.double(), positions.double()) + 9 * torch.eye(1000)
    assert distances.min() > 1e-5
    assert positions.abs().max() <= 1


def test_positions_follow_their_formula():
    positions = sinusoidal_positions(8, 4, torch.float32, torch.device("cpu"))[[0, 7]]
    angles = [7.0, 7.0 / 10000 ** (2 / 4)]
    expected = [[0, 0, 1, 1], [*map(math.sin, angles), *map(math.cos, angles)]]
    torch.testing.assert_close(positions, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("max_weights", [1, 32])
def test_in_parts_it_is_the_same_attention_at_every_order(attend, steps, monkeypatch, max_weights):
    parameters = list(attend.parameters())

    def derivatives():
        inputs = [steps.detach().requires_grad_(), *parameters]
        outputs = attend(inputs[0], MASK)
        first = torch.autograd.grad(outputs.sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        return [outputs, *first, *second]

    whole = derivatives()
    monkeypatch.setattr("metairn.networks.attention.MAX_WEIGHTS", max_weights)
    calls, recompute = [], torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(
        "metairn.networks.attention.checkpoint",
        lambda *args, **kwargs: calls.append(1) or recompute(*args, **kwargs),
    )
    for one, other in zip(whole, derivatives(), strict=True):
        torch.testing.assert_close(one, other)
    assert len(calls) == -(-3 // max(1, max_weights // 16))


def redistribution(steps, null_slot=True, sharpness=2.0):
    torch.manual_seed(3)
    return RedistributionAttention(steps.shape[-1], null_slot, sharpness).to(steps)


@pytest.mark.parametrize("null_slot", [True, False])
def test_redistribution_is_the_softmax_written_out(null_slot):
    steps, mask = torch.randn(2, 5, 4, dtype=torch.float64), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    layer = redistribution(steps, null_slot).requires_grad_(False)
    weights = layer.weights(steps, mask)
    for b, length in enumerate((5, 3)):
        for k in range(length):
            scale = 2.0 * math.log(k + 2) / math.log(4)
            query = layer.query(steps[b, k])
            logits = [scale * float(query @ layer.key(steps[b, t])) / 2.0 for t in range(k + 1)]
            null = [scale * float(layer.null(steps[b, k]))] if null_slot else []
            total = sum(math.exp(x) for x in logits + null)
            for t in range(5):
                expected = math.exp(logits[t]) / total if t <= k else 0.0
                assert float(weights[b, k, t]) == pytest.approx(expected, abs=1e-12)
    assert not weights[1, 3:].any()


def test_without_a_null_slot_the_whole_reward_is_spread():
    steps, mask = torch.randn(3, 6, 4), torch.ones(3, 6, dtype=torch.bool)
    whole = redistribution(steps, null_slot=False).weights(steps, mask).sum(dim=-1)
    torch.testing.assert_close(whole, torch.ones(3, 6))
    kept = redistribution(steps).weights(steps, mask).sum(dim=-1)
    assert (kept < 1).all()


@pytest.mark.parametrize("null_slot", [True, False])
def test_balanced_gradient_counts_row_k_k_plus_two_halves_times(null_slot):
    steps, mask = torch.randn(2, 5, 4, dtype=torch.float64), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    layer = redistribution(steps, null_slot)
    plain = layer.weights(steps, mask)
    wanted = torch.randn_like(plain)
    expected = [torch.zeros_like(p) for p in layer.parameters()]
    for k in range(5):
        row = (plain * wanted)[:, k].sum()
        found = torch.autograd.grad(row, layer.parameters(), retain_graph=True)
        expected = [e + (k + 2) / 2 * f for e, f in zip(expected, found, strict=True)]
    layer.balanced_gradient = True
    balanced = layer.weights(steps, mask)
    torch.testing.assert_close(balanced, plain, rtol=1e-14, atol=1e-14)
    found = torch.autograd.grad((balanced * wanted).sum(), layer.parameters())
    torch.testing.assert_close(list(found), expected)


def test_redistribution_is_as_sharp_over_a_thousand_steps_as_over_ten():
    """One step stands out from all others, which are alike, by a logit of ln 4 x 2."""
    shares = []
    for num_steps in (10, 1000):
        layer = RedistributionAttention(1, null_slot=False)
        with torch.no_grad():
            layer.query.weight.fill_(2.0 * math.log(4))
            layer.key.weight.fill_(1.0)
        steps = torch.zeros(1, num_steps, 1)
        steps[0, 0] = steps[0, -1] = 1.0
        weights = layer.weights(steps, torch.ones(1, num_steps, dtype=torch.bool)).detach()
        shares.append(float(weights[0, -1, 0]))
    # exp(2 ln(k+2)) against k steps of exp(0) and one more of its own kind.
    assert shares[0] == pytest.approx(11**2 / (2 * 11**2 + 8), rel=1e-5)
    assert shares[1] == pytest.approx(1001**2 / (2 * 1001**2 + 998), rel=1e-5)

"""EpisodeBatch: padding, masks, bootstrapping, and the ways in and out."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from metairn.episodes import EpisodeBatch, EpisodeSpec

LENGTHS = (3, 5, 1, 4)


def arrays_of(lengths, discrete):
    """What an environment runner would have collected: one array per episode, and no padding."""
    rng = np.random.default_rng(0)
    return {
        "observations": [rng.normal(size=(n + 1, 3)) for n in lengths],
        "actions": [
            rng.integers(2, size=n) if discrete else rng.normal(size=(n, 2)) for n in lengths
        ],
        "rewards": [rng.normal(size=n) for n in lengths],
        "terminated": [True] * len(lengths),
        "behaviour_log_probs": [rng.normal(size=n) for n in lengths],
        "behaviour_inputs": [rng.normal(size=(n, 4)) for n in lengths],
    }


def assert_same(left, right):
    for field in fields(EpisodeBatch):
        one, other = getattr(left, field.name), getattr(right, field.name)
        if one is None or other is None:
            assert one is other, field.name
        else:
            assert one.dtype == other.dtype, field.name
            assert torch.equal(one, other), field.name


@pytest.mark.parametrize("discrete", [True, False])
def test_from_arrays_keeps_every_step_and_pads_with_zeros(discrete):
    arrays = arrays_of(LENGTHS, discrete)
    batch = EpisodeBatch.from_arrays(**arrays)
    for name in ("observations", "actions", "rewards", "behaviour_log_probs", "behaviour_inputs"):
        padded = getattr(batch, name)
        for row, array in zip(padded, arrays[name], strict=True):
            np.testing.assert_allclose(row[: len(array)], array, rtol=1e-6)
            assert not row[len(array) :].any()
    assert batch.observations.shape == (4, 6, 3)
    assert batch.actions.shape == ((4, 5) if discrete else (4, 5, 2))
    assert batch.lengths.tolist() == list(LENGTHS)
    assert batch.mask.sum(dim=1).tolist() == list(LENGTHS)
    assert (batch.num_episodes, batch.num_steps) == (4, 13)
    assert batch.ground_truth is None


@pytest.mark.parametrize("action_dtype", [np.int32, np.int64, np.uint8])
def test_discrete_actions_become_int64_whatever_the_environment_counts_in(action_dtype):
    arrays = arrays_of(LENGTHS, discrete=True)
    arrays["actions"] = [a.astype(action_dtype) for a in arrays["actions"]]
    batch = EpisodeBatch.from_arrays(**arrays)
    assert batch.actions.dtype == torch.int64
    encoded = batch.encoded_actions(EpisodeSpec(3, 2, discrete=True))
    assert encoded.dtype == batch.rewards.dtype
    assert torch.equal(encoded.argmax(dim=-1), batch.actions)
    assert torch.equal(encoded.sum(dim=-1), torch.ones(4, 5))


def test_all_floating_numbers_of_a_batch_have_one_precision():
    arrays = arrays_of((2, 3), discrete=False)
    assert arrays["actions"][0].dtype == np.float64
    batch = EpisodeBatch.from_arrays(**arrays, ground_truth=np.zeros((2, 3, 3)))
    dtypes = {t.dtype for t in vars(batch).values() if t is not None and t.is_floating_point()}
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("lengths", [(), (0,), (3, 0)])
def test_a_batch_without_episodes_or_with_an_empty_one_is_refused(lengths):
    with pytest.raises(ValueError, match=r"^An EpisodeBatch needs at least one[^.]*\.$"):
        EpisodeBatch.from_arrays(**arrays_of(lengths, discrete=True))


def test_last_step_acted_on_and_returns(random_episodes):
    batch = random_episodes(LENGTHS)
    last = [row.nonzero().flatten().tolist() for row in batch.is_last]
    assert last == [[n - 1] for n in LENGTHS]
    assert torch.equal(batch.acted_on, batch.observations[:, :-1])
    by_hand = [float(batch.rewards[b, :n].sum()) for b, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(batch.returns(), by_hand)


def test_nothing_follows_a_terminal_step_and_a_truncated_one_bootstraps(random_episodes):
    batch = random_episodes(LENGTHS)
    assert batch.terminated.tolist() == [True, False, True, False]
    values = torch.arange(24.0, dtype=torch.float64).view(4, 6) + 1
    following = batch.next_values(values)
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            ended = batch.terminated[b] and t == length - 1
            assert following[b, t] == (0.0 if ended else values[b, t + 1])


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("chosen", [[1, 0], [0, 3], [2], [2, 2], [0, 1, 2, 3]])
def test_select_equals_a_batch_of_the_chosen_episodes_alone(random_episodes, chosen, discrete):
    batch = random_episodes(LENGTHS, discrete=discrete)
    selected = batch.select(torch.tensor(chosen))
    lengths = [LENGTHS[i] for i in chosen]
    names = ("actions", "rewards", "behaviour_log_probs", "behaviour_inputs")
    truth = batch.ground_truth[chosen, : max(lengths), : max(lengths)]
    alone = EpisodeBatch.from_arrays(
        observations=[batch.observations[i, : LENGTHS[i] + 1].numpy() for i in chosen],
        terminated=[bool(batch.terminated[i]) for i in chosen],
        ground_truth=truth.numpy(),
        **{n: [getattr(batch, n)[i, : LENGTHS[i]].numpy() for i in chosen] for n in names},
    )
    assert_same(selected, alone.to(torch.float64))


def test_select_works_without_ground_truth():
    batch = EpisodeBatch.from_arrays(**arrays_of(LENGTHS, discrete=True))
    assert batch.select(torch.tensor([0, 2])).ground_truth is None


def test_to_changes_the_precision_of_floating_numbers_only(random_episodes):
    batch = random_episodes(LENGTHS)
    single = batch.to(torch.float32)
    assert single.actions.dtype == torch.int64
    assert single.mask.dtype == single.terminated.dtype == torch.bool
    assert single.rewards.dtype == single.observations.dtype == torch.float32
    assert single.ground_truth.dtype == torch.float32
    assert_same(single.to(torch.float64), batch)  # The numbers were drawn in float32.


def test_to_moves_every_field_to_the_device(random_episodes):
    moved = random_episodes(LENGTHS).to(torch.device("meta"))
    assert {t.device.type for t in vars(moved).values()} == {"meta"}


@pytest.mark.parametrize("discrete", [True, False])
def test_arrays_written_and_read_back_are_the_same_batch(random_episodes, discrete):
    batch = random_episodes(LENGTHS, discrete=discrete)
    assert_same(EpisodeBatch.from_numpy(batch.to_numpy()), batch)
    without = EpisodeBatch.from_arrays(**arrays_of(LENGTHS, discrete))
    assert "ground_truth" not in without.to_numpy()
    assert_same(EpisodeBatch.from_numpy(without.to_numpy()), without)


def test_a_batch_read_from_arrays_does_not_share_their_memory(random_episodes):
    arrays = {name: a.copy() for name, a in random_episodes(LENGTHS).to_numpy().items()}
    read = EpisodeBatch.from_numpy(arrays)
    before = read.rewards.clone()
    arrays["rewards"][:] = 7.0
    assert torch.equal(read.rewards, before)


@pytest.mark.parametrize("discrete", [True, False])
def test_concatenated_batches_are_one_batch_of_all_episodes(random_episodes, discrete):
    both = random_episodes((3, 5, 1, 4), discrete=discrete)
    parts = [both.select(torch.tensor([0])), both.select(torch.tensor([1, 2, 3]))]
    assert [part.mask.shape[1] for part in parts] == [3, 5]
    assert_same(EpisodeBatch.concatenate(parts), both)
    assert EpisodeBatch.concatenate([both]) is both


def test_concatenated_batches_know_a_ground_truth_only_if_all_do(random_episodes):
    known = random_episodes((3, 5))
    unknown = replace(known, ground_truth=None)
    assert EpisodeBatch.concatenate([known, unknown]).ground_truth is None

"""Files of trained credit assigners, and what is said when one does not fit."""

import pytest
import torch

from metairn.credit_assignment.lirpg import LIRPG
from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.pretrained import file_of_seed, save_assigner, shipped_networks

SETTINGS = {"head": "redistribution", "tokens": ["reward", "flags"], "encoder_width": 8}


@pytest.fixture
def saved(make_spec, tmp_path):
    torch.manual_seed(1)
    assigner, path = MetaIRN(make_spec(True), **SETTINGS), tmp_path / "assigner.pt"
    assigner.reward_scale.fill_(7.0)
    save_assigner(path, assigner, SETTINGS)
    return assigner, str(path)


def test_a_saved_network_is_the_same_network_on_another_environment(saved, make_spec):
    assigner, path = saved
    torch.manual_seed(2)
    other = MetaIRN(make_spec(False), pretrained=path, **SETTINGS)
    for one, two in zip(assigner.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert float(other.reward_scale) == 1.0, "the size of rewards is the task's"


def test_frozen_learns_nothing_and_a_frozen_random_network_is_possible(make_spec):
    assert MetaIRN(make_spec(True), **SETTINGS).learns_by == "meta_gradient"
    assert MetaIRN(make_spec(True), frozen=True, **SETTINGS).learns_by == "nothing"


@pytest.mark.parametrize("network", range(5))
@pytest.mark.parametrize("length", [12, 200, 1000])
def test_shipped_networks_find_the_cause_at_any_length_size_and_sign_of_reward(
    make_spec, random_episodes, network, length
):
    content = torch.load(file_of_seed("umbrella_chains", network), weights_only=True)
    # Batches of one size of reward, as an environment's are: the report's and bsuite's.
    for noise, last in ((0.1, 10.0), (1.0, 1.0)):
        episodes = random_episodes((length, length), seed=network)
        rewards = noise * episodes.rewards.sign()
        rewards[:, -1] = last * torch.tensor([1.0, -1.0])
        episodes = type(episodes)(**{**vars(episodes), "rewards": rewards.float()})
        path = file_of_seed("umbrella_chains", network)
        assigner = MetaIRN(make_spec(True), **content["settings"], pretrained=path)
        assigner.update_scale(episodes)
        shares = assigner.redistribution(episodes).detach()
        assert float(shares[:, -1, 0].min()) >= 0.9
        assert float(shares[:, :-1, 0].mean(dim=1).max()) <= 0.01


def test_a_file_takes_a_few_kilobytes(saved):
    import os

    assert os.path.getsize(saved[1]) < 10_000


@pytest.mark.parametrize("name", shipped_networks())
def test_a_shipped_network_is_loaded_by_its_name(make_spec, name):
    settings = torch.load(file_of_seed(name, 0), weights_only=True)["settings"]
    torch.manual_seed(3)
    fresh = MetaIRN(make_spec(True), **settings)
    loaded = MetaIRN(make_spec(True), **(settings | {"pretrained": name}))
    changed = zip(fresh.parameters(), loaded.parameters(), strict=True)
    assert all(not torch.equal(one, other) for one, other in changed)


def test_runs_take_turns_with_several_networks_by_their_seeds(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "credit_assigner.pt").touch()
    pattern = str(tmp_path / "**" / "*.pt")
    taken = [file_of_seed(pattern, seed)[len(str(tmp_path)) + 1 :][0] for seed in range(5)]
    assert taken == ["a", "b", "c", "a", "b"]
    one = str(tmp_path / "a" / "credit_assigner.pt")
    assert file_of_seed(one, 4) == one
    assert file_of_seed("nowhere/*.pt", 0) == "nowhere/*.pt"


def test_what_does_not_fit_is_refused_in_one_sentence(saved, make_spec, tmp_path):
    _, path = saved
    spec, damaged, future = make_spec(True), tmp_path / "damaged.pt", tmp_path / "future.pt"
    damaged.write_bytes(b"no file of torch's")
    torch.save(torch.load(path, weights_only=True) | {"format": 99}, future)
    wider = SETTINGS | {"encoder_width": 16}
    swapped = SETTINGS | {"tokens": ["flags", "reward"]}
    observing = SETTINGS | {"tokens": ["observation", "reward"]}
    mistakes = [
        ("no such file", lambda: MetaIRN(spec, pretrained="nowhere.pt", **SETTINGS)),
        ("no file of a credit assigner", lambda: MetaIRN(spec, pretrained=str(damaged))),
        ("format 99", lambda: MetaIRN(spec, pretrained=str(future), **SETTINGS)),
        ("holds a MetaIRN, not a LIRPG", lambda: LIRPG(spec, pretrained=path)),
        ("do not fit", lambda: MetaIRN(spec, pretrained=path, **wider)),
        ("do not fit", lambda: MetaIRN(spec, pretrained=path, **observing)),
        ("tokens=", lambda: MetaIRN(spec, pretrained=path, **swapped)),
    ]
    for said, mistake in mistakes:
        with pytest.raises(ValueError, match=r"^pretrained=.* is not allowed: [^\n]*\.$") as error:
            mistake()
        assert said in str(error.value)

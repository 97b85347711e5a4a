"""Two learners are one learner: the same parameters in both, and those that one would have.

Here the learners are plain processes; test_algorithm_learners.py has them as Ray actors.
"""

import pytest
import torch
from small_runs import SmallRun, differing, runner_of, small_config
from two_learners import learn_in_two_processes, learned

from metairn.credit_assignment.lirpg import LIRPG
from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.oracle import Oracle
from metairn.credit_assignment.ppo import PPO
from metairn.intrinsic_attention_ppo.rllib_workarounds import WholeEpisodes

CARTPOLE = {"env": "CartPole-v1"}
MOVED = {"head": "redistribution", "mixed_discount": 0.0, "extrinsic_share": 0.5}
BEFORE = MOVED | {"outer_data": "same", "meta_steps": 2, "inner_episodes": 20}
EARLIER = MOVED | {"outer_data": "held_out", "meta_steps": 2, "replay_iterations": 2}
NEXT = {"outer_data": "next", "inner_update": "adam"}
# Name: method, its settings, training options, number of updates.
ONCE = {"num_epochs": 1}
COMPARED_WITH_ONE = {
    "PPO": (PPO, {}, ONCE, 1),
    "PPO, episodes of different length": (PPO, {}, ONCE | CARTPOLE, 1),
    "Oracle": (Oracle, {}, ONCE, 1),
    "MetaIRN": (MetaIRN, {}, ONCE, 1),
    "MetaIRN, episodes of different length": (MetaIRN, {}, ONCE | CARTPOLE, 1),
    "MetaIRN next": (MetaIRN, NEXT, ONCE, 2),
    "LIRPG": (LIRPG, {"inner_steps": 2}, {"num_epochs": 2}, 1),
}
KEPT_EQUAL = {
    "PPO without a seed": (PPO, {}, {"seed": None}, 3),
    "PPO in minibatches": (PPO, {}, {"num_minibatches": 3} | CARTPOLE, 3),
    "Oracle in minibatches": (Oracle, {}, {"num_minibatches": 3}, 3),
    "MetaIRN same": (MetaIRN, {"inner_steps": 3}, {"num_minibatches": 2} | CARTPOLE, 3),
    "MetaIRN held_out": (MetaIRN, {"outer_data": "held_out"}, {"num_minibatches": 2}, 3),
    "MetaIRN next in minibatches": (MetaIRN, NEXT | {"inner_steps": 3}, {"num_minibatches": 2}, 3),
}
KEPT_EQUAL["MetaIRN moves rewards"] = (MetaIRN, EARLIER, {"num_minibatches": 2}, 3)
JOBS = COMPARED_WITH_ONE | KEPT_EQUAL


def job(name):
    """Its configuration and its episodes: all from the first policy, an odd number of them."""
    method, settings, training, updates = JOBS[name]
    options = {"credit_assigner": method, "credit_assigner_settings": settings, **training}
    config = small_config(num_envs=4, **options)
    runner = runner_of(config)
    return config, [runner.sample(num_episodes=21) for _ in range(updates)]


@pytest.fixture(scope="module")
def jobs():
    return {name: job(name) for name in JOBS}


@pytest.fixture(scope="module")
def states(jobs, tmp_path_factory):
    """Both learners' states, per job; one start of two processes serves all tests."""
    return learn_in_two_processes(list(jobs.items()), tmp_path_factory.mktemp("learners"))


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_both_learners_have_the_same_state_bit_for_bit(name, states):
    first, second = (state[name] for state in states)
    assert differing(first, second) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED_WITH_ONE)
def test_two_learners_update_as_one_with_all_episodes(name, jobs, states):
    one = learned(SmallRun(jobs[name][0]), jobs[name][1])
    two = states[0][name]
    assert one.keys() == two.keys()
    for entry in one:
        # Each learner scores the credit of its own first episodes.
        if entry != "measured credit_on_cause":
            torch.testing.assert_close(
                two[entry], one[entry], rtol=1e-3, atol=2e-5, msg=lambda m, e=entry: f"{e}: {m}"
            )


@pytest.mark.parametrize("num_shards", [1, 2, 3, 11])
def test_shards_are_whole_episodes_dealt_out_evenly(num_shards):
    episodes = runner_of(small_config(**CARTPOLE)).sample(num_episodes=11)
    shards = [shard for shard, _ in WholeEpisodes(episodes=episodes).shard(num_shards)]
    assert all(isinstance(shard, WholeEpisodes) for shard in shards)
    dealt = [e for shard in shards for e in shard.episodes]
    assert sorted(e.id_ for e in dealt) == sorted(e.id_ for e in episodes)
    assert {id(e) for e in dealt} == {id(e) for e in episodes}
    counts = [len(shard.episodes) for shard in shards]
    assert max(counts) - min(counts) <= 1


def test_fewer_episodes_than_learners_are_refused():
    episodes = runner_of(small_config()).sample(num_episodes=2)
    with pytest.raises(ValueError, match="2 episodes cannot be shared between 3 learners"):
        WholeEpisodes(episodes=episodes).shard(3)

"""EpisodePlan: how many episodes are started, and when."""

import math
import random

import pytest

from metairn.intrinsic_attention_ppo.episode_plan import EpisodePlan


def played(plan, num_slots, draw_length):
    """Plays episodes of drawn lengths in parallel slots; the steps of all that were started."""
    under_way = []  # (when it ends, its length)
    total = now = 0
    for _ in range(num_slots):
        if plan.start():
            length = draw_length()
            under_way.append((length, length))
    while under_way:
        under_way.sort()
        now, length = under_way.pop(0)
        total += length
        plan.finish(length)
        if plan.start():
            length = draw_length()
            under_way.append((now + length, length))
    return total


@pytest.mark.parametrize("num_slots", [1, 4, 100])
@pytest.mark.parametrize("num_episodes", [0, 1, 4, 17])
def test_exactly_the_asked_number_is_started(num_slots, num_episodes):
    plan, lengths = EpisodePlan(None, num_episodes, None), random.Random(0)
    played(plan, num_slots, lambda: lengths.randint(1, 9))
    assert plan.started == plan.finished == num_episodes


@pytest.mark.parametrize("num_slots", [1, 4, 100])
@pytest.mark.parametrize("num_steps", [0, 1, 49, 50, 51, 501])
def test_fixed_lengths_start_the_fewest_that_reach_the_steps(num_slots, num_steps):
    plan = EpisodePlan(num_steps, None, 50)
    played(plan, num_slots, lambda: 50)
    assert plan.started == plan.finished == math.ceil(num_steps / 50)


@pytest.mark.parametrize("num_slots", [1, 4, 30])
def test_varying_lengths_reach_the_steps_and_overshoot_by_what_was_under_way(num_slots):
    for seed in range(50):
        lengths = random.Random(seed)
        plan = EpisodePlan(400, None, None)
        total = played(plan, num_slots, lambda draw=lengths: draw.randint(5, 40))
        assert plan.started == plan.finished
        assert plan.steps_finished == total
        assert 400 <= total < 400 + 40 * num_slots


def test_expected_steps_of_episodes_under_way_count():
    plan = EpisodePlan(100, None, None)
    assert all(plan.start() for _ in range(3))
    plan.finish(40)
    # 40 steps are there and two episodes of about 40 are under way: 120 in all.
    assert not plan.start()
    assert plan.started == 3


def test_asking_again_starts_nothing_more():
    plan = EpisodePlan(None, 1, None)
    assert plan.start()
    assert not any(plan.start() for _ in range(5))
    assert plan.started == 1

"""Which policy is evaluated at which mark: checked for all small batches, intervals and budgets."""

import itertools
import random

import pytest

from metairn.experiments.training_run import evaluation_mark

SIZES = range(1, 13)
BUDGETS = (12, 13, 17, 24, 29, 36)


def evaluated(policies, batch, interval, budget):
    """Map each policy, by its env steps, to the mark at which it is evaluated."""
    marks, previous = {}, -1
    for now in policies:
        mark = evaluation_mark(previous, now, batch, interval, budget)
        if mark is not None:
            marks[now] = previous = mark
    return marks


def planned(batch, budget):
    """Env steps of a run's policies if every iteration is exactly one batch."""
    return list(range(0, budget + batch, batch))


def cases(condition):
    combinations = itertools.product(SIZES, SIZES, BUDGETS)
    return [(b, i, budget) for b, i, budget in combinations if condition(b, i)]


def test_every_mark_is_evaluated_once_by_the_newest_policy_not_beyond_it():
    for batch, interval, budget in cases(lambda batch, interval: batch <= interval):
        policies = planned(batch, budget)
        marks = evaluated(policies, batch, interval, budget)
        expected = {
            max(policy for policy in policies if policy <= mark): mark
            for mark in range(0, budget, interval)
        }
        end = next(policy for policy in policies if policy >= budget)
        assert marks == expected | {end: budget}, (batch, interval, budget)


def test_batches_longer_than_the_interval_evaluate_one_mark_per_policy():
    for batch, interval, budget in cases(lambda batch, interval: batch > interval):
        policies = [p for p in planned(batch, budget) if p < budget + batch]
        marks = evaluated(policies, batch, interval, budget)
        last = next(policy for policy in policies if policy >= budget)
        before = [policy for policy in policies if policy < last]
        assert set(before) - set(marks) <= set(before[-1:]), (batch, interval, budget)
        assert all(abs(mark - policy) < interval for policy, mark in marks.items() if policy < last)


@pytest.mark.parametrize("seed", range(20))
def test_iterations_longer_than_planned_never_skip_all_marks(seed):
    choose = random.Random(seed)
    for _ in range(500):
        batch, interval = choose.choice(SIZES), choose.choice(SIZES)
        budget = choose.randint(batch, 60)
        previous, now = -1, 0
        while True:
            mark = evaluation_mark(previous, now, batch, interval, budget)
            previous = previous if mark is None else mark
            if now >= budget:
                break
            # The newest mark behind the policy has been evaluated, by it or an earlier one.
            assert previous >= now // interval * interval
            now += batch + choose.choice((0, 0, 1, 2, 5, 20))
        assert previous == budget


@pytest.mark.parametrize("seed", range(20))
def test_marks_increase_and_are_multiples_until_the_last_which_is_the_budget(seed):
    choose = random.Random(seed)
    for _ in range(500):
        batch, interval = choose.choice(SIZES), choose.choice(SIZES)
        budget = choose.randint(batch, 60)
        policies = [0]
        while policies[-1] < budget:
            policies.append(policies[-1] + batch + choose.choice((0, 1, 3, 15)))
        marks = list(evaluated(policies, batch, interval, budget).values())
        assert marks[0] == 0
        assert marks[-1] == budget
        assert all(a < b for a, b in itertools.pairwise(marks))
        assert all(mark % interval == 0 for mark in marks[:-1])


def test_default_run_of_unequal_iterations_has_all_its_marks():
    # Episodes of 3 steps make iterations of 1002 env steps out of a batch of 1000.
    policies = range(0, 101_003, 1002)
    policies = [p for p in policies if p < 100_000 + 1002]
    marks = list(evaluated(policies, 1000, 2000, 100_000).values())
    assert marks == list(range(0, 100_001, 2000))


def test_a_finished_run_has_no_further_mark():
    assert evaluation_mark(20, 20, 5, 10, 20) is None
    assert evaluation_mark(20, 25, 5, 10, 20) is None

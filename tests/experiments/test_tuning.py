"""A tuning follows from its seed and its results, interrupted or not, and SMAC's traps are shut.

The trials are arithmetic here; test_tune_command.py has real ones.
"""

import builtins
import collections
import json

import pytest
from ConfigSpace import ConfigurationSpace
from test_search_space import VALUES
from training_command import Killed

from metairn.experiments.search_space import Group, SearchSpace
from metairn.experiments.settings import TrainingSettings
from metairn.experiments.trials import Outcome
from metairn.experiments.tuners import CRASH_COST, Bohb, RandomSearch
from metairn.experiments.tuning import Tuning
from metairn.experiments.tuning_record import TuningRecord
from metairn.results.folder_lock import RunFolderError

# SMAC's, of itself: a deprecated call, and the mean time of a local search that took no step.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Please use `dict:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy.*"),
]

ENTRIES = {
    "epochs": {"low": 1, "high": 20, "log": True},
    "actor_learning_rate": {"low": 0.0003, "high": 0.03, "log": True},
    "minibatches": {"choices": [1, 2, 4]},
    "clip": {"low": 0.1, "high": 0.4, "when": {"minibatches": [2, 4]}},
}
SETTINGS = {"min_budget_env_steps": 30000, "max_budget_env_steps": 100000, "eta": 3, "seeds": 3}
BOHB = Bohb(trials=30, **SETTINGS)


def result(values, budget):
    """A return that is better with few epochs, and seems so with little training."""
    return 9 - values["training.epochs"] / 4 + 3e4 / budget


def outcome(value):
    return Outcome([value] * 3, None, 100.0, 103.0, 9.0)


class Trials:
    """Counts trials and answers with `result`; raises Killed when it is to end the tuning."""

    def __init__(self, survive=None, failing=()):
        self.survive = survive
        self.failing = failing
        self.started = []
        self.open = []
        self.most_open = 0

    def submit(self, values, budget):
        number = len(self.started)
        key = (json.dumps(values), budget)
        self.started.append(key)
        assert all(type(value) in (int, float) for value in values.values())
        self.open.append(key)
        self.most_open = max(self.most_open, len(self.open))

        def wait():
            self.open.remove(key)
            if self.survive is not None and number >= self.survive:
                raise Killed
            if number in self.failing:
                return Outcome([], "seed 1000: ValueError: nan", 100.0, 103.0, 9.0)
            return outcome(result(values, budget))

        return wait


def tune(folder, trials, tuner=BOHB, under_way=2, entries=ENTRIES, config=None):
    """Run a tuning as metairn-tune does; None if it was killed."""
    space = SearchSpace([Group("training", VALUES, entries, TrainingSettings)])
    record = TuningRecord(folder, config or {"space": space.definition})
    record.start({})
    facade = tuner.facade(space.configspace, folder, 0)
    tuning = Tuning("t", facade, space, tuner.budgets(), record, trials.submit, under_way)
    try:
        tuning.run()
        return tuning
    except Killed:
        return None
    finally:
        record.close()


def lines(folder, name="trials.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def history(folder):
    return json.loads((folder / "smac" / "0" / "runhistory.json").read_text())


def budgets(folder):
    return collections.Counter(entry["budget"] for entry in history(folder)["data"])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    trials = Trials()
    return folder, trials, tune(folder, trials)


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch):
    def ask(*prompt):
        raise AssertionError("a batch job has nobody to ask")

    monkeypatch.setattr(builtins, "input", ask)


def test_hyperband_has_as_many_trials_per_budget_as_expected(uninterrupted):
    folder, _, tuning = uninterrupted
    assert sum(budgets(folder).values()) == 30
    assert budgets(folder) == collections.Counter(BOHB.budgets())
    for eta, low, high in ((3, 30, 100), (2, 1, 16), (3, 1, 81), (3, 7, 7)):
        tuner = Bohb(4, low, high, eta, 1)
        facade = tuner.facade(tuning.space.configspace, folder / "other", 0)
        next(iter(facade.intensifier))
        brackets = facade.intensifier._budgets_in_stage
        counts = facade.intensifier._n_configs_in_stage
        stages = [zip(brackets[b], counts[b], strict=True) for b in brackets]
        assert tuner.hyperband_round == [
            x for bracket in stages for x, n in bracket for _ in range(n)
        ]


def test_default_is_a_hundred_configurations():
    one = Bohb(120, **SETTINGS)
    promoted = sum(1 for budget in one.budgets() if budget == 100000) // 3
    assert 120 - promoted == 100


@pytest.mark.parametrize("survived", [1, 7, 15, 16, 29])
def test_killed_and_continued_is_as_if_nothing_had_happened(survived, uninterrupted, tmp_path):
    whole, _, _ = uninterrupted
    first, second = Trials(survive=survived), Trials()
    assert tune(tmp_path, first) is None
    assert len(lines(tmp_path)) == survived
    under_way = first.started[survived:]
    assert len(under_way) == min(2, 30 - survived)
    with (tmp_path / "trials.jsonl").open("a") as file:
        file.write('{"budget_env_steps": 33')  # What was being written.
    tune(tmp_path, second)
    assert second.started[: len(under_way)] == under_way
    assert len(second.started) == 30 - survived
    assert lines(tmp_path) == lines(whole)
    assert lines(tmp_path, "trajectory.jsonl") == lines(whole, "trajectory.jsonl")
    assert history(tmp_path) == history(whole)
    assert history(tmp_path)["stats"] == {"submitted": 30, "finished": 30, "running": 0}
    assert budgets(tmp_path) == budgets(whole)


@pytest.mark.parametrize("under_way", [1, 4])
def test_no_trial_runs_twice(under_way, tmp_path):
    trials = Trials()
    tune(tmp_path, trials, under_way=under_way)
    assert trials.most_open == under_way
    assert len(set(trials.started)) == len(trials.started) == 30


def test_incumbent_is_the_best_of_the_full_budget(uninterrupted):
    folder, _, _ = uninterrupted
    full = [t for t in lines(folder) if t["budget_env_steps"] == 100000]
    best = max(full, key=lambda trial: trial["returns"][0])
    last = lines(folder, "trajectory.jsonl")[-1]
    assert last["values"] == best["values"]
    assert last["evaluation_return_mean"] == pytest.approx(best["returns"][0])
    returns = [line["evaluation_return_mean"] for line in lines(folder, "trajectory.jsonl")]
    assert returns == sorted(returns)


def test_smac_has_the_values_that_the_trials_had(uninterrupted):
    """SMAC's own workers garble whole numbers on a logarithmic scale."""
    folder, _, _ = uninterrupted
    held = history(folder)
    by_trial = [
        (held["configs"][str(entry["config_id"])], round(entry["budget"]), -entry["cost"])
        for entry in held["data"]
    ]
    assert len(by_trial) == 30
    for config, budget, value in by_trial:
        assert type(config["training.epochs"]) is int
        assert 1 <= config["training.epochs"] <= 20
        assert value == pytest.approx(result(config, budget))


def test_the_yaml_files_values_end_the_random_quarter(uninterrupted):
    folder, _, _ = uninterrupted
    scenario = json.loads((folder / "smac" / "0" / "scenario.json").read_text())
    assert scenario["_meta"]["initial_design"]["n_configs"] == 30 // 4
    start = {"training.epochs": 10, "training.actor_learning_rate": 0.003}
    configs = history(folder)["configs"].values()
    assert [start.items() <= config.items() for config in configs].index(True) == 30 // 4


def test_failed_trials_are_crashed_reported_and_never_the_best(tmp_path, capsys):
    failing = (0, 3, 4, 11)
    tuning = tune(tmp_path, Trials(failing=failing))
    statuses = [entry["status"] for entry in history(tmp_path)["data"]]
    costs = [entry["cost"] for entry in history(tmp_path)["data"]]
    assert [n for n, status in enumerate(statuses) if status == 2] == list(failing)
    assert [n for n, cost in enumerate(costs) if cost == CRASH_COST] == list(failing)
    assert len(tuning.failures) == 4
    assert capsys.readouterr().out.count("failed: seed 1000: ValueError: nan") == 4
    assert all(line["evaluation_return_mean"] < 10 for line in tuning.trajectory)


def test_nothing_is_best_where_everything_failed(tmp_path):
    tuning = tune(tmp_path, Trials(failing=range(100)), tuner=Bohb(7, **SETTINGS))
    assert tuning.trajectory == []
    assert len(tuning.failures) == 7


def test_random_search_spends_as_many_env_steps(tmp_path):
    tuner = RandomSearch(trials=30, **SETTINGS)
    assert sum(tuner.budgets()) == pytest.approx(sum(BOHB.budgets()), rel=0.02)
    trials = Trials()
    tune(tmp_path, trials, tuner=tuner)
    assert budgets(tmp_path) == {100000.0: 20}
    assert len(set(trials.started)) == 20


def test_a_small_space_ends_when_all_of_it_is_tried(tmp_path):
    trials = Trials()
    entries = {"epochs": {"choices": [5, 10]}}
    tune(tmp_path, trials, tuner=RandomSearch(trials=30, **SETTINGS), entries=entries)
    assert sorted(json.loads(values)["training.epochs"] for values, _ in trials.started) == [5, 10]


def test_another_tunings_folder_is_refused_without_a_question(uninterrupted, tmp_path):
    tune(tmp_path, Trials(survive=3))
    with pytest.raises(RunFolderError, match=r"space\.training\.epochs\.high=20 there, 30 here"):
        tune(tmp_path, Trials(), entries=ENTRIES | {"epochs": {"low": 1, "high": 30, "log": True}})


def test_a_damaged_journal_is_named(tmp_path):
    tune(tmp_path, Trials(survive=3))
    (tmp_path / "trials.jsonl").write_text("{}\n")
    with pytest.raises(RunFolderError, match=r"trials\.jsonl is damaged"):
        tune(tmp_path, Trials())


def test_deepcave_finds_what_it_reads(uninterrupted):
    folder, _, _ = uninterrupted
    smac = folder / "smac" / "0"
    names = {"scenario.json", "runhistory.json", "configspace.json", "intensifier.json"}
    assert names <= {path.name for path in smac.iterdir()}
    space = ConfigurationSpace.from_json(smac / "configspace.json")
    assert set(space) == {f"training.{name}" for name in ENTRIES}
    assert json.loads((smac / "scenario.json").read_text())["n_trials"] == 30

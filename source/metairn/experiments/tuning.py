"""The loop between SMAC, which proposes trials, and Ray, which runs them.

SMAC hears of results in the order in which it proposed the trials, whichever ends first, with a
fixed number of trials under way: what it proposes then depends on nothing but the seed and the
results. So an interrupted tuning is continued by asking SMAC again from the beginning and answering
from trials.jsonl until there are no more answers; the trials that were under way are among those
that run then. SMAC's own way of continuing forgets its random state and takes trials that were
under way for running ones for good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from smac.facade.abstract_facade import AbstractFacade
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.runhistory import StatusType, TrialInfo, TrialValue

from metairn.experiments.progress import Progress
from metairn.experiments.search_space import SearchSpace
from metairn.experiments.trials import Outcome, Submit
from metairn.experiments.tuners import CRASH_COST
from metairn.experiments.tuning_record import TuningRecord

Waiting = tuple[TrialInfo, dict[str, Any], int, Callable[[], Outcome]]


def trials_under_way(num_cpus: int, num_seeds: int) -> int:
    """Trials at a time: as many as fill the processors, and one for when a trial's last run ends.

    Args:
        num_cpus: Ray's processors.
        num_seeds: runs of a trial.
    """
    return -(-num_cpus // num_seeds) + 1


class Tuning:
    """Runs a tuning to its end.

    Args:
        label: what it is called in messages.
        facade: SMAC, at its beginning.
        space: what is searched.
        budgets: expected budget of each trial in env steps; as many trials are run.
        record: the tuning's folder, started.
        submit: starts a trial.
        under_way: trials at a time.
    """

    def __init__(
        self,
        label: str,
        facade: AbstractFacade,
        space: SearchSpace,
        budgets: list[float],
        record: TuningRecord,
        submit: Submit,
        under_way: int,
    ) -> None:
        self.label = label
        self.facade = facade
        self.space = space
        self.budgets = budgets
        self.record = record
        self.submit = submit
        self.under_way = under_way
        self.failures: list[str] = []
        self.trajectory: list[dict[str, Any]] = []
        self.asked = self.told = self.env_steps = 0

    def run(self) -> dict[str, Any] | None:
        """The last incumbent, as a line of trajectory.jsonl; None if every trial failed."""
        waiting: deque[Waiting] = deque()
        with Progress(self.label, round(sum(self.budgets))) as progress:
            while True:
                while len(waiting) < self.under_way and (trial := self._ask()) is not None:
                    waiting.append(trial)
                if not waiting:
                    break
                info, values, budget, wait = waiting.popleft()
                if self.record.outcome(values, budget) is None:
                    # What is replayed says nothing about how long the rest takes.
                    progress.show(self.env_steps, self.trajectory[-1] if self.trajectory else {})
                self._tell(info, values, budget, wait())
        return self.trajectory[-1] if self.trajectory else None

    def _ask(self) -> Waiting | None:
        """The next trial, started unless it has finished before; None if there is no other."""
        if self.asked == len(self.budgets):
            return None
        try:
            info = self.facade.ask()
        except (StopIteration, ConfigurationSpaceExhaustedException):
            self.asked = len(self.budgets)  # A small space of choices: all have been tried.
            return None
        self.asked += 1
        assert info.budget is not None, "every tuner has budgets"
        values, budget = self.space.values(info.config), round(info.budget)
        before = self.record.outcome(values, budget)
        if before is not None:
            return info, values, budget, lambda: before
        return info, values, budget, self.submit(values, budget)

    def _tell(self, info: TrialInfo, values: dict[str, Any], budget: int, outcome: Outcome) -> None:
        self.told += 1
        self.env_steps += budget
        if outcome.error is not None:
            self.failures.append(outcome.error)
        if self.record.outcome(values, budget) is None:
            self.record.append(values, budget, outcome)
            if outcome.error is not None:
                print(f"{self.label}: trial {self.told} failed: {outcome.error}", flush=True)
        cost = CRASH_COST if outcome.error is not None else -float(np.mean(outcome.returns))
        status = StatusType.SUCCESS if outcome.error is None else StatusType.CRASHED
        self.facade.tell(
            info,
            TrialValue(
                cost=cost,
                time=outcome.wall_time_s,
                status=status,
                starttime=outcome.started_s,
                endtime=outcome.ended_s,
                additional_info={"error": outcome.error} if outcome.error else {},
            ),
        )
        self._note_incumbent()

    def _note_incumbent(self) -> None:
        """Adds SMAC's incumbent to the trajectory if it is another one than before."""
        incumbent = self.facade.intensifier.get_incumbent()
        if incumbent is None:
            return
        cost = self.facade.runhistory.get_cost(incumbent)
        values = self.space.values(incumbent)
        if cost == CRASH_COST or (self.trajectory and self.trajectory[-1]["values"] == values):
            return
        self.trajectory.append(
            {
                "trials": self.told,
                "env_steps": self.env_steps,
                "evaluation_return_mean": -cost,
                "values": values,
            }
        )
        self.record.save_trajectory(self.trajectory)

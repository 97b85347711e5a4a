"""How a search space is searched: SMAC3's multi-fidelity facade, and random search to compare with.

SMAC calls the first BOHB-like: Hyperband gives many configurations a short training and the best of
them a long one, and new configurations maximise the expected improvement of a random forest (BOHB
itself has a kernel density estimate there).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ConfigSpace import ConfigurationSpace
from smac import HyperbandFacade, MultiFidelityFacade, Scenario
from smac.facade.abstract_facade import AbstractFacade
from smac.main.config_selector import ConfigSelector
from smac.model.random_forest import RandomForest

# What SMAC is told of a trial that failed: worse than any return, but finite, because the random
# forest learns from failed trials too and an infinite cost would turn all of its targets into NaN.
CRASH_COST = 1e9


@dataclass(frozen=True)
class Tuner(ABC):
    """The tuner group; configs/tuner/bohb.yaml explains each key.

    Raises:
        ValueError: if a number is out of its range.
    """

    trials: int
    min_budget_env_steps: int
    max_budget_env_steps: int
    eta: int
    seeds: int | list[int]

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("min_budget_env_steps", 1), ("eta", 2)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name}={value} is not allowed: it must be at least {least}.")
        if self.max_budget_env_steps < self.min_budget_env_steps:
            raise ValueError(
                f"max_budget_env_steps={self.max_budget_env_steps} is not allowed: it must be at "
                f"least min_budget_env_steps={self.min_budget_env_steps}."
            )
        seeds = self.tuning_seeds
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
            raise ValueError(
                f"seeds={self.seeds} is not allowed: it must be how many, at least 1, or a list of "
                "different whole numbers from 0 to 2**32 - 1."
            )

    @property
    def tuning_seeds(self) -> list[int]:
        """Seeds of the runs that a trial averages."""
        many = self.seeds
        return list(range(1000, 1000 + many)) if isinstance(many, int) else many

    @property
    def hyperband_round(self) -> list[float]:
        """Budgets in env steps of one round of Hyperband, all of its brackets and stages."""
        low, high, eta = self.min_budget_env_steps, self.max_budget_env_steps, self.eta
        longest = int(np.floor(np.log(high / low) / np.log(eta)))
        budgets: list[float] = []
        for bracket in range(longest, -1, -1):
            configurations = math.ceil(eta**bracket * (longest + 1) / (bracket + 1))
            for stage in range(bracket + 1):
                count = math.floor(configurations * float(eta) ** -stage)
                budgets += [high * float(eta) ** (stage - bracket)] * count
        return budgets

    def budgets(self) -> list[float]:
        """Budget of each trial in env steps, in the order in which one process would run them."""
        one = self.hyperband_round
        return [one[i % len(one)] for i in range(self.trials)]

    @abstractmethod
    def facade(self, space: ConfigurationSpace, folder: Path, seed: int) -> AbstractFacade:
        """SMAC, at its beginning; it writes to folder/smac/<seed>/."""

    def _scenario(
        self, space: ConfigurationSpace, folder: Path, seed: int, min_budget: int
    ) -> Scenario:
        return Scenario(
            space,
            name="smac",
            output_directory=folder,
            deterministic=True,  # A budget allows one seed: a trial averages its own.
            crash_cost=CRASH_COST,
            n_trials=len(self.budgets()),
            use_default_config=True,
            min_budget=min_budget,
            max_budget=self.max_budget_env_steps,
            seed=seed,
        )


@dataclass(frozen=True)
class Bohb(Tuner):
    """SMAC3's multi-fidelity facade."""

    def facade(self, space: ConfigurationSpace, folder: Path, seed: int) -> AbstractFacade:
        """See Tuner."""
        scenario = self._scenario(space, folder, seed, self.min_budget_env_steps)
        return MultiFidelityFacade(
            scenario,
            # SMAC's own would train the forest on a single result and use it eight times.
            config_selector=ConfigSelector(scenario, retrain_after=1, min_trials=len(space) + 1),
            # Returns of a short and of a long training cannot be compared.
            # SMAC's own forest allocates a million leaves per tree, and its threads and the tenfold
            # candidates would only wait for the processors that the trials use.
            model=RandomForest(
                space,
                log_y=True,
                ratio_features=1.0,
                min_samples_split=2,
                min_samples_leaf=1,
                max_leaf_nodes=1024,
                n_jobs=1,
                seed=seed,
            ),
            acquisition_maximizer=MultiFidelityFacade.get_acquisition_maximizer(
                scenario, challengers=1000, local_search_iterations=5
            ),
            intensifier=MultiFidelityFacade.get_intensifier(
                scenario, eta=self.eta, incumbent_selection="highest_budget"
            ),
            logging_level=False,
            # What is there is replayed (see tuning.py); SMAC would ask on the terminal.
            overwrite=True,
        )


@dataclass(frozen=True)
class RandomSearch(Tuner):
    """Random configurations at the full budget, as many as Bohb's env steps pay for."""

    def budgets(self) -> list[float]:
        """See Tuner."""
        full = float(self.max_budget_env_steps)
        return [full] * max(1, round(sum(super().budgets()) / full))

    def facade(self, space: ConfigurationSpace, folder: Path, seed: int) -> AbstractFacade:
        """See Tuner; Hyperband with a single budget is random search."""
        scenario = self._scenario(space, folder, seed, self.max_budget_env_steps)
        return HyperbandFacade(
            scenario,
            config_selector=ConfigSelector(scenario, retrain_after=1),
            intensifier=HyperbandFacade.get_intensifier(
                scenario, eta=self.eta, incumbent_selection="highest_budget"
            ),
            logging_level=False,
            overwrite=True,
        )

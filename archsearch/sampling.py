"""Optuna behind the study: asks for layouts, learns from what they measured.

Optuna's study lives in memory; trials are kept in our own store, in the same transaction as their outcome, and are
replayed into Optuna when a study is continued or when another process has added some. Optuna's own database storage
commits once per suggested knob (about 30 commits per layout), and could not commit a trial together with its
measurement.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from archsearch.errors import StudyError

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")

SAMPLERS = ("nsga2", "nsga3", "tpe", "random", "gp", "qmc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A trial that was asked for, and the choices it made.

    Attributes:
        trial: Optuna's trial, or a random generator when the choices are drawn without the sampler.
        choices: For each knob its options and the index that was chosen.
    """

    trial: optuna.trial.Trial | random.Random
    choices: dict[str, tuple[tuple[Any, ...], int]]

    def choose(self, name: str, options: Sequence[T]) -> T:
        """Let the sampler choose one of `options`; the `Chooser` of a space."""
        if name in self.choices:
            return options[self.choices[name][1]]
        if len(options) == 1:
            index = 0
        elif isinstance(self.trial, random.Random):
            index = self.trial.randrange(len(options))
        else:
            index = self.trial.suggest_categorical(name, tuple(range(len(options))))
        self.choices[name] = (tuple(options), index)
        return options[index]


class Sampler:
    """Ask and tell.

    Args:
        name: One of `SAMPLERS`.
        directions: ``min`` or ``max`` per objective.
        seed: Seed; a continued study continues with another one, derived from it and the number of trials.
        population: Population of the evolutionary samplers.
    """

    def __init__(self, name: str, *, directions: Sequence[str], seed: int, population: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._random = random.Random(seed)  # noqa: S311 - layouts, not secrets
        self._population = population
        self._name = name
        self._study = optuna.create_study(
            directions=["minimize" if direction == "min" else "maximize" for direction in directions],
            sampler=self._make(seed),
        )

    def ask(self) -> Asked:
        """A new trial; call `choose` on it, then `tell` or `refuse`."""
        return Asked(trial=self._study.ask(), choices={})

    def ask_at_random(self) -> Asked:
        """A trial whose choices are drawn evenly, for when the sampler only repeats what was refused or is known."""
        return Asked(trial=self._random, choices={})

    def attributes(self, asked: Asked) -> dict[str, Any]:
        """The sampler's own notes on a trial (its generation), to be given back to `replay`."""
        if isinstance(asked.trial, random.Random):
            return {}
        frozen = self._study.get_trials(deepcopy=False)[asked.trial.number]
        return dict(frozen.system_attrs)

    def tell(self, asked: Asked, values: Sequence[float], violations: Mapping[str, float]) -> None:
        """Report a measured trial: objective values, and for each budget how far it is exceeded (at most 0: met)."""
        if isinstance(asked.trial, random.Random):
            self.replay(asked.choices, {}, values, violations)
            return
        for name, violation in violations.items():
            asked.trial.set_constraint(name, violation)
        self._study.tell(asked.trial, list(values))

    def refuse(self, asked: Asked) -> None:
        """Report a trial that gave no values: outside the constraints of the space, or failed on the device."""
        if not isinstance(asked.trial, random.Random):
            self._study.tell(asked.trial, state=self._optuna.trial.TrialState.FAIL)

    def replay(
        self,
        choices: Mapping[str, tuple[Sequence[Any], int]],
        attributes: Mapping[str, Any],
        values: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        """Add a trial that was measured before."""
        distributions = {
            name: self._optuna.distributions.CategoricalDistribution(tuple(range(len(options))))
            for name, (options, _) in choices.items()
            if len(options) > 1
        }
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params={name: choices[name][1] for name in distributions},
                distributions=dict(distributions),
                values=list(values),
                constraints=dict(violations) or None,
                system_attrs=dict(attributes),
            )
        )

    def _make(self, seed: int) -> optuna.samplers.BaseSampler:
        import warnings

        samplers = self._optuna.samplers
        makers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "nsga2": lambda: samplers.NSGAIISampler(population_size=self._population, seed=seed),
            "nsga3": lambda: samplers.NSGAIIISampler(population_size=self._population, seed=seed),
            "tpe": lambda: samplers.TPESampler(seed=seed, multivariate=True, group=True),
            "random": lambda: samplers.RandomSampler(seed=seed),
            "gp": lambda: samplers.GPSampler(seed=seed, warn_independent_sampling=False),
            "qmc": lambda: samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
        }
        if self._name not in makers:
            raise StudyError(f"--sampler is {self._name!r}; it must be one of {', '.join(SAMPLERS)}")
        with warnings.catch_warnings():  # some of Optuna's arguments are marked experimental
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return makers[self._name]()

"""Checking a space: how large it is, what its constraints let through, what its layouts look like, why it is empty."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, prod
from typing import Any, TypeVar

from search_space.cost import parameters
from search_space.emptiness import why_empty
from search_space.errors import SpaceError
from search_space.iso_parameter import hidden_of
from search_space.layout import Layout
from search_space.notation import spell
from search_space.sampling import RandomChooser, Rejection, sample
from search_space.sequences import count_sequences
from search_space.space import Option, Space

_QUICK_DRAWS = 200
_ENUMERATED = 5_000
_SHOWN = 8
_EXTRA_DRAWS = 10_000

T = TypeVar("T", bound=Option)
_Counts = Mapping[int, Mapping[frozenset[str], int]]
"""Sequences of layers by depth and by the letters in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One drawn layout, with the numbers people look at first.

    Attributes:
        layout: The layout.
        code: One letter per layer.
        width: Model width.
        total_params: Parameters of the language model.
        ffn_hidden: FFN width, or None where layers differ.
        embedding_share: Embedding and head over all parameters, 0 to 1.
    """

    layout: Layout
    code: str
    width: int
    total_params: int
    ffn_hidden: int | None
    embedding_share: float

    def to_json(self) -> dict[str, Any]:
        """For ``--format json``; `notation` names the layout on a command line, or is None where no code can say it."""
        embedding = self.layout.embedding
        return {
            "layout_id": self.layout.layout_id,
            "notation": spell(self.layout),
            "code": self.code,
            "depth": len(self.code),
            "width": self.width,
            "vocab_size": embedding.vocab_size,
            "embedding_rank": embedding.rank,
            "tied": embedding.tied,
            "ffn_hidden": self.ffn_hidden,
            "total_params": self.total_params,
            "embedding_share": self.embedding_share,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceReport:
    """What `check_space` found.

    Attributes:
        name: Of the space.
        description: Of the space.
        sequences: Different sequences of layers that the patterns allow (exact).
        sequences_allowed: Those that meet `min_global_mixers` and `max_run_without_full_attention` (exact).
        combinations: Ways to set all knobs over the allowed sequences (exact; before the constraints on numbers).
        layouts: Members of the space: exact when `exhaustive`, else estimated.
        exhaustive: Every combination was tried.
        draws: Combinations tried; those that break a constraint at the same early knob are tried once.
        accepted: Those that gave a layout.
        rejected: Those that did not, by the constraint that they broke.
        samples: Some of the layouts, in the order drawn.
    """

    name: str
    description: str
    sequences: int
    sequences_allowed: int
    combinations: int
    layouts: int
    exhaustive: bool
    draws: int
    accepted: int
    rejected: Mapping[str, int]
    samples: tuple[Sample, ...]

    @property
    def acceptance(self) -> float:
        """Share of the draws that gave a layout; where all combinations were tried, layouts per combination."""
        return self.layouts / self.combinations if self.exhaustive else self.accepted / self.draws

    def to_json(self) -> dict[str, Any]:
        """For ``--format json``."""
        return {
            "name": self.name,
            "description": self.description,
            "sequences": self.sequences,
            "sequences_allowed": self.sequences_allowed,
            "combinations": self.combinations,
            "layouts": self.layouts,
            "layouts_exact": self.exhaustive,
            "draws": self.draws,
            "accepted": self.accepted,
            "acceptance": self.acceptance,
            "rejected": dict(self.rejected),
            "samples": [drawn.to_json() for drawn in self.samples],
        }


def check_space(space: Space, draws: int = 300, seed: int = 0) -> SpaceReport:
    """Count or estimate a space and draw from it.

    A space of at most 5,000 combinations is tried out whole. A larger one is drawn from, as a study would do it; the
    number of its layouts is then estimated from as many further draws in which all combinations are about equally
    likely, each counted with the inverse of its probability.

    Args:
        space: The space.
        draws: Random draws.
        seed: Seed of the draws.

    Raises:
        SpaceError: The space is empty; the message names the constraint that empties it.
    """
    allowed = {depth: count_sequences(space, depth) for depth in space.depths}
    combinations = _combinations(space, allowed)
    exhaustive = combinations <= _ENUMERATED
    found: list[Layout] = []
    rejections: list[Rejection] = []
    rng = random.Random(seed)  # noqa: S311
    for chooser in _every_combination() if exhaustive else itertools.repeat(RandomChooser(rng), draws):
        drawn = sample(space, chooser)
        if isinstance(drawn, Layout):
            found.append(drawn)
        else:
            rejections.append(drawn)
    if not found:
        found = _refuse_or_find(space, rejections, seed, exhaustive=exhaustive)
    if exhaustive:
        members = len(set(found))
    else:
        members = round(combinations * _even_acceptance(_EvenChooser(space, rng, allowed), draws))
    return SpaceReport(
        name=space.name,
        description=space.description,
        sequences=sum(sum(count_sequences(space, depth, constrained=False).values()) for depth in space.depths),
        sequences_allowed=sum(sum(counts.values()) for counts in allowed.values()),
        combinations=combinations,
        layouts=members,
        exhaustive=exhaustive,
        draws=len(found) + len(rejections),
        accepted=len(found),
        rejected=dict(Counter(rejection.constraint for rejection in rejections).most_common()),
        samples=tuple(_sample(layout) for layout in _spread(list(dict.fromkeys(found)), exhaustive=exhaustive)),
    )


def require_layouts(space: Space) -> None:
    """Refuse an empty space; a few draws tell of nearly every other one that it is not.

    Raises:
        SpaceError: The space is empty; the message names the constraint that empties it.
    """
    chooser = RandomChooser(random.Random(0))  # noqa: S311
    if not any(isinstance(sample(space, chooser), Layout) for _ in range(_QUICK_DRAWS)):
        check_space(space)


def _combinations(space: Space, allowed: _Counts) -> int:
    """Ways to set all knobs over the sequences that meet the constraints on full attention."""
    by_letter = {letter: space.mixers[kind].combinations for letter, kind in space.kind_by_letter.items()}
    layers = sum(
        count * prod(by_letter[letter] for letter in letters)
        for counts in allowed.values()
        for letters, count in counts.items()
    )
    ffn = sum(choices.combinations for choices in space.ffn.kinds.values()) * len(space.ffn.hidden or (None,))
    return layers * len(space.widths) * space.embedding.combinations * ffn * len(space.post_norm)


def _even_acceptance(chooser: _EvenChooser, draws: int) -> float:
    """Share of all combinations that make a layout: the mean over draws of 1 / (probability x combinations), or 0."""
    share = 0.0
    for _ in range(draws):
        chooser.log_weight = -chooser.log_combinations
        if isinstance(sample(chooser.space, chooser), Layout):
            share += exp(chooser.log_weight) / draws
    return min(1.0, share)


class _EvenChooser(RandomChooser):
    """Prefers depths and patterns by how many sequences of layers they hold, so that draws have about equal weight."""

    def __init__(self, space: Space, rng: random.Random, allowed: _Counts) -> None:
        super().__init__(rng)
        self.space = space
        self.depth = space.depths[0]
        self.counts = {depth: sum(counts.values()) for depth, counts in allowed.items()}
        self.log_combinations = log(_combinations(space, allowed))
        self.log_weight = 0.0

    def choose(self, name: str, options: Sequence[T]) -> T:
        if name == "depth":
            index = self.pick([self.counts[depth] for depth in self.space.depths])
            self.depth = self.space.depths[index]
            return options[index]
        if name == "pattern":
            slots = [pattern.slots(self.depth) for pattern in self.space.patterns]
            return options[self.pick([prod(map(len, each)) if each else 0 for each in slots])]
        self.log_weight += log(len(options))
        return super().choose(name, options)

    def pick(self, shares: list[int]) -> int:
        """An index with a probability in proportion to its share; no share is left out entirely."""
        shares = [len(shares) * share + 1 for share in shares]
        total = sum(shares)
        mark = self._rng.randrange(total)
        index = next(i for i, end in enumerate(itertools.accumulate(shares)) if mark < end)
        self.log_weight += log(total) - log(shares[index])
        return index


def _every_combination() -> Iterator[_Enumeration]:
    """Choosers that answer in every possible way, one after the other."""
    enumeration = _Enumeration()
    yield enumeration
    while enumeration.advance():
        yield enumeration


class _Enumeration:
    """Answers along one path of a tree of questions that is only known by asking."""

    def __init__(self) -> None:
        self.path: list[tuple[int, int]] = []  # option taken and number of options, by question
        self.asked = 0

    def choose(self, name: str, options: Sequence[T]) -> T:  # noqa: ARG002
        if self.asked == len(self.path):
            self.path.append((0, len(options)))
        self.asked += 1
        return options[self.path[self.asked - 1][0]]

    def advance(self) -> bool:
        """Go to the next path; False after the last."""
        while self.path and self.path[-1][0] == self.path[-1][1] - 1:
            self.path.pop()
        if self.path:
            taken, count = self.path[-1]
            self.path[-1] = (taken + 1, count)
        self.asked = 0
        return bool(self.path)


def _refuse_or_find(space: Space, rejections: list[Rejection], seed: int, *, exhaustive: bool) -> list[Layout]:
    """Name the constraint that empties the space; for one that is merely sparse, draw on."""
    why = why_empty(space)
    if why is not None:
        raise SpaceError(f"space {space.name} is empty: {why.message}", hint=why.hint)
    if not exhaustive:
        rng = random.Random(seed + 1)  # noqa: S311
        for _ in range(_EXTRA_DRAWS):
            drawn = sample(space, RandomChooser(rng))
            if isinstance(drawn, Layout):
                return [drawn]
            rejections.append(drawn)
    counts = Counter(rejection.constraint for rejection in rejections).most_common()
    main = [rejection for rejection in rejections if rejection.constraint == counts[0][0]]
    nearest = min(main, key=lambda rejection: rejection.distance)
    said = ", ".join(f"{constraint} {count}" for constraint, count in counts)
    tried = f"all {len(rejections)}" if exhaustive else f"{len(rejections)} random"
    verdict = "is empty" if exhaustive else "is empty, or nearly"
    raise SpaceError(
        f"space {space.name} {verdict}: {tried} combinations gave no layout, rejected by {said}; "
        f"the nearest: {nearest.message}",
        hint=f"relax {counts[0][0]}, or allow more choices",
    )


def _spread(layouts: list[Layout], *, exhaustive: bool) -> list[Layout]:
    if not exhaustive or len(layouts) <= _SHOWN:
        return layouts[:_SHOWN]
    return [layouts[index * (len(layouts) - 1) // (_SHOWN - 1)] for index in range(_SHOWN)]


def _sample(layout: Layout) -> Sample:
    counts = parameters(layout)
    return Sample(
        layout=layout,
        code=layout.code,
        width=layout.width,
        total_params=counts.total,
        ffn_hidden=hidden_of(layout),
        embedding_share=counts.embedding_share,
    )

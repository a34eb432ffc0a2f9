"""Sequences of layers: which ones meet the constraints on full attention, how many there are, which is cheapest.

Two constraints speak of the order of layers: `min_global_mixers` and `max_run_without_full_attention`. A prefix of a
sequence matters to them only through two numbers, (global mixers still missing, layers since the last one), so that
all questions about 6^24 sequences are answered by going through the layers once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property

from search_space.space import Space

_Place = tuple[int, int]


class LayerRules:
    """The two constraints over the slots of one pattern at one depth.

    Args:
        space: Gives the constraints and which letters are global.
        slots: Letters that each layer may have.
        min_global: In place of the space's `min_global_mixers`.
        max_run: In place of the space's `max_run_without_full_attention`; None sets no limit.
    """

    def __init__(
        self, space: Space, slots: Sequence[str], *, min_global: int | None = None, max_run: int | None = -1
    ) -> None:
        self.slots = tuple(slots)
        self.globals = space.global_letters
        self.min_global = space.constraints.min_global_mixers if min_global is None else min_global
        limit = space.constraints.max_run_without_full_attention if max_run == -1 else max_run
        self.max_run = len(self.slots) if limit is None else limit
        self.space = space

    @property
    def start(self) -> _Place:
        """Before the first layer."""
        return self.min_global, 0

    def step(self, place: _Place, letter: str) -> _Place | None:
        """After one more layer; None when the run is too long."""
        missing, run = place
        if letter in self.globals:
            return max(0, missing - 1), 0
        return None if run >= self.max_run else (missing, run + 1)

    @cached_property
    def _completable(self) -> list[set[_Place]]:
        """By number of layers done: places from which the rest can be filled."""
        reached: list[set[_Place]] = [{self.start}]
        for slot in self.slots:
            steps = (self.step(place, letter) for place in reached[-1] for letter in slot)
            reached.append({place for place in steps if place is not None})
        alive = [{place for place in reached[-1] if place[0] == 0}]
        for slot, places in zip(reversed(self.slots), reversed(reached[:-1]), strict=True):
            alive.append({place for place in places if any(self.step(place, letter) in alive[-1] for letter in slot)})
        return alive[::-1]

    @property
    def possible(self) -> bool:
        """Some sequence meets both constraints."""
        return self.start in self._completable[0]

    def broken(self) -> str | None:
        """The first constraint that no sequence meets, or None."""
        if self.possible:
            return None
        if sum(bool(set(slot) & self.globals) for slot in self.slots) < self.min_global:
            return "min_global_mixers"
        return "max_run_without_full_attention"

    def allowed(self, prefix: str) -> str:
        """The letters that may come after `prefix`, sorted."""
        place: _Place | None = self.start
        for letter in prefix:
            assert place is not None
            place = self.step(place, letter)
        assert place is not None
        after = self._completable[len(prefix) + 1]
        return "".join(letter for letter in self.slots[len(prefix)] if self.step(place, letter) in after)

    def best(self, cost: Mapping[str, int]) -> tuple[int, str] | None:
        """The smallest sum of `cost` by letter over all sequences that meet the constraints, and one that has it."""
        best: dict[_Place, tuple[int, str]] = {self.start: (0, "")}
        for slot in self.slots:
            following: dict[_Place, tuple[int, str]] = {}
            for place, (total, code) in best.items():
                for letter in slot:
                    after = self.step(place, letter)
                    if letter in cost and after is not None:
                        candidate = (total + cost[letter], code + letter)
                        if after not in following or candidate < following[after]:
                            following[after] = candidate
            best = following
        return min((found for place, found in best.items() if place[0] == 0), default=None)


def slots_at(space: Space, depth: int) -> list[tuple[str, ...]]:
    """The slots of every alternative that fits a depth."""
    found = (pattern.slots(depth) for pattern in space.patterns)
    return [slots for slots in found if slots is not None]


def count_sequences(space: Space, depth: int, *, constrained: bool = True) -> dict[frozenset[str], int]:
    """How many different sequences there are at a depth, by the set of letters that occur in them.

    Args:
        space: The patterns, and the constraints.
        depth: Number of layers.
        constrained: Count only those that meet the two constraints on full attention.
    """
    alternatives = slots_at(space, depth)
    limits: tuple[int | None, int | None] = (None, -1) if constrained else (0, None)
    rules = LayerRules(space, ("",) * depth, min_global=limits[0], max_run=limits[1])
    # A sequence that several alternatives allow is counted once: it carries the set of those that still allow it.
    counts: dict[tuple[tuple[int, ...], _Place, frozenset[str]], int] = {
        (tuple(range(len(alternatives))), rules.start, frozenset()): 1
    }
    for index in range(depth):
        following: dict[tuple[tuple[int, ...], _Place, frozenset[str]], int] = defaultdict(int)
        for (alive, place, letters), count in counts.items():
            for letter in {letter for number in alive for letter in alternatives[number][index]}:
                after = rules.step(place, letter)
                if after is not None:
                    # Without a limit on runs their length is forgotten, which keeps the states few.
                    if rules.max_run >= depth:
                        after = (after[0], 0)
                    still = tuple(number for number in alive if letter in alternatives[number][index])
                    following[(still, after, letters | {letter})] += count
        counts = following
    by_letters: dict[frozenset[str], int] = defaultdict(int)
    for (alive, place, letters), count in counts.items():
        if alive and place[0] == 0:
            by_letters[letters] += count
    return dict(by_letters)

"""What is ranked on the screen: a scope of a study under somebody's budgets, found again while nothing changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from reports.budgets import Budget, Operator, number
from reports.dashboard.source import Key, Source
from reports.dashboard.view import Of, Ranges
from reports.figures.spread import within
from reports.objectives import quantity
from reports.ranking import Entry, Prepared, Ranking
from reports.snapshot import Scope, Snapshot
from reports.values import Row

BUDGETED = ("memory_mib", "ttft_ms", "decode_ms", "embedding_share")
"""What has a slider, beside what the study itself limits."""
CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_ALIKE = 1e-6
"""Share of a value below which values are one: there is nothing to choose."""
_KEPT = 32
"""Rankings that are kept: a slider that goes back and forth finds them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody has chosen, complete.

    Attributes:
        scope: Key of a scope.
        x: Quantity of the horizontal axis.
        y: Of the vertical one.
        of: What the front is of.
        context: Tokens at which state counts as memory; None for each measured point's own.
        limits: By quantity.
    """

    scope: str
    x: str
    y: str
    of: Of = "study"
    context: int | None = None
    limits: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A ranking with what it was made of."""

    snapshot: Snapshot
    scope: Scope
    asked: Asked
    names: tuple[str, ...]
    ranking: Ranking

    def entry(self, text: str | None) -> Entry | None:
        """The entry of a key's text, or None."""
        return next((entry for entry in self.ranking.entries if key_text(entry.key) == text), None)

    def faded(self, brush: Ranges, find: str) -> Collection[Key]:
        """Keys of the entries that a brush or a text leaves out."""
        if not brush and not find:
            return ()
        return {entry.key for entry in self.ranking.entries if not (within(entry, brush) and holds(entry, find))}


class Boards:
    """Makes rankings of one source and keeps the latest."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._lock = Lock()
        self._kept: OrderedDict[tuple[object, ...], Board] = OrderedDict()
        self._at_context: tuple[object, Snapshot] | None = None
        self._prepared: tuple[Snapshot, object, Prepared] | None = None  # budgets move more often than all else

    def snapshot(self, context: int | None) -> Snapshot:
        """The study, memory counted at a context."""
        plain = self.source.snapshot()
        if context is None:
            return plain
        key = (id(plain), context)
        if self._at_context is None or self._at_context[0] != key:
            state = self.source.state_mib(context)
            rows = [{**row, "memory_mib": _memory(row, state.get(str(row.get("layout_id"))))} for row in plain.rows]
            self._at_context = (key, replace(plain, rows=rows))
        return self._at_context[1]

    def board(self, asked: Asked) -> Board:
        """Rank what was asked for.

        Raises:
            LookupError: The study has measured nothing yet.
        """
        with self._lock:
            snapshot = self.snapshot(asked.context)
            key = (id(snapshot), asked)
            if key in self._kept and self._kept[key].snapshot is snapshot:
                self._kept.move_to_end(key)
                return self._kept[key]
            found = self._made(snapshot, asked)
            self._kept[key] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return found

    def _made(self, snapshot: Snapshot, asked: Asked) -> Board:
        if not snapshot.rows:
            raise LookupError("nothing measured yet")
        scope = snapshot.scope(asked.scope)
        axes = (asked.x, asked.y)
        names = axes if asked.of == "axes" else snapshot.objectives_in(scope) or axes
        names = tuple(dict.fromkeys(names))
        key = (scope.key, names, axes)
        if self._prepared is None or self._prepared[0] is not snapshot or self._prepared[1] != key:
            self._prepared = (snapshot, key, snapshot.prepared(scope, objectives=names, drawn=axes))
        limits = snapshot.limits_in(scope, budgets(snapshot, dict(asked.limits)))
        ranking = self._prepared[2].rank(limits)
        return Board(snapshot=snapshot, scope=scope, asked=asked, names=names, ranking=ranking)


def _memory(row: Row, state_mib: float | None) -> float | None:
    """Weights, and the state of each sequence of the batch."""
    weights = number(row.get("weights_mib"))
    return None if weights is None or state_mib is None else weights + int(row.get("batch") or 1) * state_mib


def budgets(snapshot: Snapshot, limits: Mapping[str, float]) -> list[Budget]:
    """Limits of the sliders, and those of the study that have none."""
    own = [budget for budget in snapshot.budgets if not slides(budget)]
    return own + [Budget(objective=name, operator=operator(name), limit=limit) for name, limit in limits.items()]


def operator(name: str) -> Operator:
    """How a quantity is limited: from above where less is better."""
    return "<=" if quantity(name).direction == "min" else ">="


def slides(budget: Budget) -> bool:
    """Whether a slider can say it: most limit what should be small from above."""
    return budget.operator[0] == operator(budget.objective)[0]


def own_limits(snapshot: Snapshot) -> dict[str, float]:
    """The study's budgets as sliders have them."""
    return {budget.objective: budget.limit for budget in snapshot.budgets if slides(budget)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slider:
    """How far a budget can be moved.

    Attributes:
        name: Quantity.
        low: Left end.
        high: Right end.
        step: Of it.
        free: The end at which there is no limit.
    """

    name: str
    low: float
    high: float
    step: float
    free: float


def sliders(snapshot: Snapshot, scope: Scope, limits: Mapping[str, float]) -> list[Slider]:
    """A slider for each quantity that a scope has in several values; it reaches as far as the limit that holds now."""
    rows = snapshot.rows_in(scope)
    found = []
    for name in dict.fromkeys([*BUDGETED, *own_limits(snapshot)]):
        values = [value for row in rows if (value := number(row.get(name))) is not None]
        if not values:
            continue
        values += [own[name] for own in (own_limits(snapshot), limits) if name in own]
        if max(values) - min(values) <= _ALIKE * max(values):
            continue
        step = _round_step((max(values) - min(values)) / 150)
        low, high = step * (min(values) // step), step * -(-max(values) // step)
        least = quantity(name).direction == "min"
        # One step beyond what was measured there is no limit.
        low, high = (low, high + step) if least else (max(0.0, low - step), high)
        found.append(Slider(name=name, low=low, high=high, step=step, free=high if least else low))
    return found


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10 .. above."""
    power = 10.0 ** len(f"{int(least)}") if least >= 1 else 1.0
    while power / 10 >= least:
        power /= 10
    return next((power * part for part in (0.1, 0.2, 0.5) if power * part >= least), power)


def key_text(key: Key) -> str:
    """An entry's key in a link."""
    return "~".join(key)


def key_of(text: str) -> Key:
    """The key of a link's text."""
    name, _, precision = text.rpartition("~")
    return name, precision


def holds(entry: Entry, find: str) -> bool:
    """Whether an entry's code, name or id holds a text, case aside."""
    words = (entry.rows[0].get(name) for name in ("code", "name", "layout_id"))
    return not find or any(find.casefold() in str(word).casefold() for word in words if word)


def columns(board: Board) -> Sequence[str]:
    """Quantities of the table: what the front is of, what is drawn, sizes."""
    sizes = ("memory_mib", "total_params", "effective_params", "embedding_share")
    known = board.snapshot.measured_in(board.scope)
    return [name for name in dict.fromkeys([*board.names, board.asked.x, board.asked.y, *sizes]) if name in known]

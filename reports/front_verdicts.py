"""Verdicts on fronts: nights of a study's layouts on one device, led through in order of time.

| kind | when |
|---|---|
| MOVED | a layout left the front or came on to it, or two swapped, two nights in a row; nights before stood elsewhere |
| DIFFERS | the same, but no nights before, or too few, stood elsewhere: the study's one measurement may be off |
| AMBIGUOUS | the same on one night, or by a number whose alarm is not established: the next night decides |
| HELD | nothing differs from what the study said beyond the noise |
| NO-DATA | fewer than two layouts have numbers tonight |

Nights stood elsewhere when the median of the last nights before the first that shows a move, four at least and at most
as many as are behind a baseline, lies beyond the noise from what the move is on two nights in a row, in one of its
objectives.

Nights without numbers of a layout neither count for it nor end what was. MOVED stays until a night shows the study's
order again, or the study is another. It fails nothing: a layout that got slower fails by its own series.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final

from reports.budgets import parse_budget
from reports.errors import ReportError
from reports.front_moves import LEAST, Compared, Move, compare
from reports.fronts import Membership
from reports.gate import FIRST_NIGHTS, WINDOW
from reports.objectives import quantity
from reports.study_fronts import FrontNight, Reading, Scope, StudyFront
from reports.values import Value

AGREEING: Final = 2
"""Nights in a row that must show a move."""


class FrontKind(StrEnum):
    """What a night says of a front."""

    MOVED = "MOVED"
    DIFFERS = "DIFFERS"
    AMBIGUOUS = "AMBIGUOUS"
    HELD = "HELD"
    NO_DATA = "NO-DATA"


_BY_WEIGHT: Final = (FrontKind.MOVED, FrontKind.DIFFERS, FrontKind.AMBIGUOUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A move, with the nights that showed it.

    Attributes:
        move: As the last of them shows it.
        nights: In a row; those that have no numbers of its layouts are passed over.
        since: The first of them, seconds since 1970.
        seen: The last of them.
        elsewhere: Nights in a row, of these, that lie elsewhere than the nights before the first.
    """

    move: Move
    nights: int
    since: float
    seen: float
    elsewhere: int

    @property
    def certain(self) -> bool:
        """Whether enough nights agree."""
        return self.nights >= AGREEING and not self.move.pending

    @property
    def kind(self) -> FrontKind:
        """What it makes of a night on which nothing else is found."""
        if not self.certain:
            return FrontKind.AMBIGUOUS
        return FrontKind.MOVED if self.elsewhere >= AGREEING else FrontKind.DIFFERS


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontVerdict:
    """What one night says of a study's front on one device.

    Attributes:
        front: What the study said.
        scope: Its values that count here.
        device: Where the night was measured.
        workload: At which point.
        precision: In which precision.
        night: What it measured.
        kind: See the module.
        compared: The night beside the study.
        findings: What differs, moves first, what may be noise last.
        missing: Why layouts have no numbers, by title.
        notes: What else a reader must know: sentences without a full stop.
    """

    front: StudyFront
    scope: Scope
    device: str
    workload: str
    precision: str
    night: FrontNight
    kind: FrontKind
    compared: Compared
    findings: tuple[Finding, ...]
    missing: Mapping[str, str]
    notes: tuple[str, ...]

    def title(self, layout: str) -> str:
        """Of a layout, for people."""
        return next((one.title for one in self.front.said if one.layout == layout), layout[:6])

    def study_place(self, layout: str) -> Membership:
        """In the study's front: as its values of this scope have it, else as the study said."""
        said = {one.layout: one.front for one in self.front.said}
        return self.compared.study.get(layout, said[layout])

    @property
    def held(self) -> tuple[int, int]:
        """How many of the study's front are on it tonight, or could be; and how many of it have numbers."""
        on = [layout for layout, place in self.compared.study.items() if place == "on"]
        return sum(self.compared.tonight[layout] != "dominated" for layout in on), len(on)


def judge_front(
    front: StudyFront, nights: Sequence[FrontNight], *, device: str, workload: str, precision: str
) -> FrontVerdict:
    """The verdict on the last of these nights.

    Args:
        front: What the study said when that night began.
        nights: At least one; of one device, point and precision, in any order.
        device: Its name.
        workload: The point.
        precision: Of the weights.

    Raises:
        UnknownNameError: An objective is not known.
    """
    *_, last = replay_front(front, nights, device=device, workload=workload, precision=precision)
    return last


def replay_front(
    front: StudyFront, nights: Sequence[FrontNight], *, device: str, workload: str, precision: str
) -> Iterator[FrontVerdict]:
    """The verdict on every night in order of time, each from what was known by then; see `judge_front`."""
    scope, elsewhere = front.scope(device, workload)
    objectives = [quantity(name) for name in front.objectives]
    lasting: dict[tuple[str, ...], Finding] = {}
    compared: Compared | None = None
    past: list[FrontNight] = []
    for night in sorted(nights, key=lambda night: night.time):
        compared = compare(objectives, front.fixed, scope.values, night.readings, compared)
        lasting = _led_on(lasting, compared, night, past)
        past.append(night)
        findings = sorted(
            (one for one in lasting.values() if one.certain or one.seen == night.time),
            key=lambda one: _BY_WEIGHT.index(one.kind),
        )
        kind = FrontKind.HELD
        if len(compared.layouts) < LEAST:
            kind = FrontKind.NO_DATA
        elif findings:
            kind = findings[0].kind
        yield FrontVerdict(
            front=front, scope=scope, device=device, workload=workload, precision=precision, night=night, kind=kind,
            compared=compared, findings=tuple(findings), missing=_missing(front, scope, night, compared),
            notes=tuple(filter(None, (elsewhere, *_notes(front, scope, night, precision)))),
        )  # fmt: skip


def _led_on(
    lasting: Mapping[tuple[str, ...], Finding], compared: Compared, night: FrontNight, past: Sequence[FrontNight]
) -> dict[tuple[str, ...], Finding]:
    """Findings after one more night."""
    present = set(compared.layouts)
    found = {key: one for key, one in lasting.items() if not {one.move.layout, one.move.other} <= present}
    for move in compared.moves:
        before = lasting.get(move.key)
        since = night.time if before is None else before.since
        elsewhere = _elsewhere(move, night, [one for one in past if one.time < since])
        found[move.key] = Finding(
            move=move, nights=1 if before is None else before.nights + 1, since=since, seen=night.time,
            elsewhere=0 if not elsewhere else 1 if before is None else before.elsewhere + 1,
        )  # fmt: skip
    return found


def _elsewhere(move: Move, night: FrontNight, earlier: Sequence[FrontNight]) -> bool:
    """Whether earlier nights stood elsewhere than a move does now, in any of its objectives."""
    for name in move.tonight:
        tonight = _gap(night, move, name)
        gaps = [gap for one in earlier if (gap := _gap(one, move, name)) is not None][-WINDOW:]
        if tonight is None or len(gaps) < FIRST_NIGHTS:
            continue
        noise = math.hypot(*(night.readings[layout][name].noise for layout in (move.layout, move.other)))
        if abs(tonight - median(gaps)) > noise:
            return True
    return False


def _gap(night: FrontNight, move: Move, name: str) -> float | None:
    """By how much the layout has more of a quantity than the other, in logarithms; None without both numbers."""
    values = [night.readings.get(layout, {}).get(name) for layout in (move.layout, move.other)]
    numbers = [one.value.value for one in values if one is not None and one.value.value > 0]
    return math.log(numbers[0] / numbers[1]) if len(numbers) == 2 else None


def _missing(front: StudyFront, scope: Scope, night: FrontNight, compared: Compared) -> dict[str, str]:
    """Why layouts have no place tonight, by title."""
    return {
        one.title: night.missing.get(one.layout) or _lacking(front, scope.values.get(one.layout, {}), night, one.layout)
        for one in front.said if one.layout not in compared.layouts
    }  # fmt: skip


def _lacking(front: StudyFront, said: Mapping[str, Value], night: FrontNight, layout: str) -> str:
    readings: Mapping[str, Reading] = night.readings.get(layout, {})
    without = [name for name in front.objectives if name not in front.fixed and name not in readings]
    if without:
        return f"has no {', '.join(without)} tonight"
    return f"the study has no {', '.join(name for name in front.objectives if name not in said)} of it here"


def _notes(front: StudyFront, scope: Scope, night: FrontNight, precision: str) -> list[str]:
    found = []
    if night.device_wide:
        found.append(f"the device moved tonight ({', '.join(night.device_wide)}): orders within the night still count")
    changed = [
        f"{name} {scope.conditions[name]} -> {now}"
        for name, now in night.conditions.items()
        if scope.conditions.get(name, now) != now
    ]
    if precision != front.precision:
        changed.append(f"precision {front.precision} -> {precision}")
    if changed:
        found.append(f"measured under other conditions than the study's: {', '.join(changed)}")
    for layout, text in _beyond(front, night).items():
        title = next(one.title for one in front.said if one.layout == layout)
        found.append(f"{title} is outside {text} tonight, beyond the noise")
    return found


def _beyond(front: StudyFront, night: FrontNight) -> dict[str, str]:
    """Layouts that do not meet a budget of the study even with the noise, and which."""
    found = {}
    for text in front.budgets:
        try:
            budget = parse_budget(text)
        except ReportError:  # of a newer version
            continue
        for one in front.said:
            reading = night.readings.get(one.layout, {}).get(budget.objective)
            if reading is None:
                continue
            value, factor = reading.value.value, 1 + reading.noise
            if min(budget.excess(value / factor), budget.excess(value * factor)) > 0:
                found[one.layout] = text
    return found

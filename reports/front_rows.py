"""A verdict on a front as a flat mapping with stable names, and in words; none of the text is safe yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from reports.budgets import number
from reports.formatting import change_text, moment
from reports.front_verdicts import Finding, FrontKind, FrontVerdict
from reports.objectives import quantities
from reports.values import Value
from reports.verdict_text import quantity_words

KINDS: Final = (FrontKind.MOVED, FrontKind.NO_DATA, FrontKind.DIFFERS, FrontKind.AMBIGUOUS, FrontKind.HELD)
"""Kinds, what wants a look first."""
COLUMNS: Final = ("verdict", "study", "device", "workload", "precision", "front", "what", "note")
_NAMED: Final = 3


def front_row(verdict: FrontVerdict) -> dict[str, Any]:
    """Everything of a verdict on a front that a program may want, by stable names.

    Differences of two layouts are relative: 0.05 is 5% more than the other has, in the quantity itself. Times are there
    twice, as in `reports.verdict_rows`.
    """
    front, night = verdict.front, verdict.night
    held, of = verdict.held
    return {
        "study": front.study,
        "name": front.name,
        "device": verdict.device,
        "workload": verdict.workload,
        "precision": verdict.precision,
        "night": moment(night.time),
        "night_unix": night.time,
        "kind": str(verdict.kind),
        "why": why_text(verdict),
        "front_study": of,
        "front_held": held,
        "objectives": list(front.objectives),
        "fixed": list(front.fixed),
        "budgets": list(front.budgets),
        "across": front.across,
        "study_devices": list(verdict.scope.devices),
        "study_workload": verdict.scope.workload,
        "moves": [_finding_row(verdict, one) for one in verdict.findings],
        "layouts": layout_rows(verdict),
        "notes": list(verdict.notes),
    }


def layout_rows(verdict: FrontVerdict) -> list[dict[str, Any]]:
    """Layouts in the order of the study's ranking, with their places and numbers; an end that is infinite is None."""
    rows = []
    for one in verdict.front.said:
        readings = verdict.night.readings.get(one.layout, {})
        said = verdict.scope.values.get(one.layout, {})
        rows.append({
            "layout": one.layout,
            "title": one.title,
            "item": one.item,
            "study_front": verdict.study_place(one.layout),
            "front": verdict.compared.tonight.get(one.layout),
            "missing": verdict.missing.get(one.title),
            "study_values": {name: _ends(value) for name, value in said.items()},
            "values": {
                **{name: _ends(said[name]) for name in verdict.front.fixed if name in said},
                **{name: {**_ends(reading.value), "noise": reading.noise} for name, reading in readings.items()},
            },
        })  # fmt: skip
    return rows


def wanted_first(verdicts: Iterable[FrontVerdict]) -> list[FrontVerdict]:
    """By kind, then by names."""

    def place(one: FrontVerdict) -> tuple[Any, ...]:
        return KINDS.index(one.kind), one.front.study, one.front.name, one.device, one.workload, one.precision

    return sorted(verdicts, key=place)


def front_cells(verdict: FrontVerdict) -> Mapping[str, str]:
    """The cells of a verdict, by `COLUMNS`."""
    held, of = verdict.held
    return {
        "verdict": str(verdict.kind),
        "study": verdict.front.study,
        "device": verdict.device,
        "workload": verdict.workload,
        "precision": verdict.precision,
        "front": f"{held} of {of}" if of else "",
        "what": why_text(verdict),
        "note": "; ".join(verdict.notes),
    }


def front_lines(verdicts: Sequence[FrontVerdict]) -> list[str]:
    """A line for each verdict, what wants a look first."""
    lines = []
    for one in wanted_first(verdicts):
        notes = "".join(f"; {note}" for note in one.notes)
        where = f"{one.device} ({one.workload} {one.precision})"
        lines.append(f"front of {one.front.study} on {where}: {one.kind}: {why_text(one)}{notes}")
    return lines


def layout_cells(verdict: FrontVerdict) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a table of layouts: their places, and tonight's numbers."""
    heads = ["layout", "in the study", "tonight", *verdict.front.objectives]
    known = quantities()
    cells = []
    for one in verdict.front.said:
        readings = verdict.night.readings.get(one.layout, {})
        values = dict(verdict.scope.values.get(one.layout, {})) if verdict.front.fixed else {}
        now = {name: value for name, value in values.items() if name in verdict.front.fixed}
        now |= {name: reading.value for name, reading in readings.items()}
        tonight = verdict.compared.tonight.get(one.layout) or f"no place: {verdict.missing.get(one.title, '')}"
        numbers = [quantity_words(known.get(name), now.get(name)) for name in verdict.front.objectives]
        cells.append([one.title, verdict.study_place(one.layout), tonight, *numbers])
    return heads, cells


def why_text(verdict: FrontVerdict) -> str:
    """What a verdict comes to, in a sentence without a full stop."""
    missing = ", ".join(f"{title}: {why}" for title, why in list(verdict.missing.items())[:_NAMED])
    more = len(verdict.missing) - _NAMED
    missing += f" and {more} more" if more > 0 else ""
    if verdict.kind is FrontKind.NO_DATA:
        return f"fewer than two layouts have numbers ({missing})"
    told = [move_text(verdict, one) for one in verdict.findings[:_NAMED]]
    if len(verdict.findings) > _NAMED:
        told.append(f"and {len(verdict.findings) - _NAMED} more")
    held, of = verdict.held
    if not told:
        told = [f"nothing that differs is beyond the noise; {held} of {of} of the study's front are on it"]
    return "; ".join([*told, *([f"without {missing}"] if missing else [])])


def move_text(verdict: FrontVerdict, finding: Finding) -> str:
    """One move with its numbers: how much more one has than the other, tonight and in the study."""
    move = finding.move
    one, other = verdict.title(move.layout), verdict.title(move.other)
    tonight = ", ".join(f"{name} {change_text(change)}" for name, change in move.tonight.items())
    study = ", ".join(change_text(change) for change in move.study.values())
    numbers = f"{tonight}, in the study {study}"
    always = finding.kind is FrontKind.DIFFERS
    said = {
        "left": f"{one} {'is not on' if always else 'left'} the front, {other} dominates it ({numbers})",
        "came": f"{one} {'is on' if always else 'came on to'} the front, {other} does not dominate it ({numbers})",
        "swapped": f"{one} is behind {other} ({numbers})",
    }[move.what]
    nights = f"{finding.nights} nights, since {moment(finding.since)}"
    if finding.seen != verdict.night.time:
        nights += f", last seen {moment(finding.seen)}"
    if always:
        nights += ", and no nights before that stood elsewhere: the study's one measurement may have been off"
    waits = "one night; the next decides" if finding.nights == 1 else "an alarm not established yet; the next decides"
    return f"{said}: {nights if finding.certain else waits}"


def _finding_row(verdict: FrontVerdict, finding: Finding) -> dict[str, Any]:
    move = finding.move
    return {
        "what": move.what,
        "layout": move.layout,
        "title": verdict.title(move.layout),
        "other": move.other,
        "other_title": verdict.title(move.other),
        "tonight": dict(move.tonight),
        "study": dict(move.study),
        "nights": finding.nights,
        "since": moment(finding.since),
        "since_unix": finding.since,
        "certain": finding.certain,
        "kind": str(finding.kind),
        "text": move_text(verdict, finding),
    }


def _ends(value: Value) -> dict[str, float | None]:
    return {"value": number(value.value), "low": number(value.low), "high": number(value.high)}

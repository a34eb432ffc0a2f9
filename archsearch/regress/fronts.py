"""What studies said of their fronts when a night began: read off a study, kept as an event beside the night, read back.

Only what tonight measures of a study is kept. A store of before these events were kept has none, and an event that is
damaged or of a newer version is passed over: a night is judged without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from archsearch.objectives import objectives
from archsearch.ranked import Ranked
from archsearch.regress.notes import FRONT, STUDY
from archsearch.store import Store
from profiler.workloads import Point
from reports.fronts import Membership
from reports.objectives import quantities
from reports.ranking import Entry
from reports.study_fronts import Said, Scope, StudyFront
from reports.values import Place, Row, Value, place_of, value_of

_FORMAT: Final = 1
_CONDITIONS: Final = {"runtime_version": "onnxruntime", "method": "agent", "device": "device"}
"""What of a measurement's conditions is told, by its name there."""


def told_front(found: Ranked, entries: Sequence[Entry], *, name: str) -> StudyFront:
    """What a study says of some of its candidates.

    Args:
        found: The study, ranked.
        entries: Those that nights measure.
        name: What the suite calls it.
    """
    keys = {entry.key for entry in entries}
    rows = [row for row in found.counted if row["status"] == "ok" and _key(row) in keys]
    places: dict[Place, list[Row]] = {}
    for row in rows:
        places.setdefault(place_of(row), []).append(row)
    own = Scope(values={entry.key[0]: {n: entry.values[n] for n in found.objectives} for entry in entries})
    known = objectives()
    return StudyFront(
        study=found.study.name, name=name, objectives=found.objectives,
        fixed=tuple(one for one in found.objectives if one in known and not known[one].measured),
        budgets=tuple(map(str, found.budgets)), across=found.across, precision=entries[0].key[1] if entries else "",
        said=tuple(_said(entry, name) for entry in entries),
        scopes=(own, *(_scope(some, rows, found) for some in places.values())),
    )  # fmt: skip


def item_name(name: str, layout_id: str) -> str:
    """What nights call a layout of a study."""
    return f"{name} {layout_id[:6]}"


def keep_fronts(store: Store, night: float, fronts: Iterable[StudyFront]) -> None:
    """Keep what studies said when a night began.

    Raises:
        StoreError: It cannot be written.
    """
    for front in fronts:
        store.add_event(STUDY, FRONT, {"format": _FORMAT, "night": night, **_to_json(front)})


def kept_fronts(store: Store, night: float) -> list[StudyFront]:
    """What studies said when a night began; nothing for a night of before it was kept.

    Raises:
        StoreError: The store cannot be read.
    """
    events = [event for _, _, event in store.events(STUDY, FRONT) if event.get("night") == night]
    return [found for event in events if (found := _read(event)) is not None]


def conditions_of(under: Mapping[str, object]) -> dict[str, str]:
    """What is told of the conditions of a measurement."""
    return {told: str(under[name]) for name, told in _CONDITIONS.items() if under.get(name) is not None}


def _key(row: Row) -> tuple[str, str]:
    return str(row["layout_id"]), str(row["precision"])


def _said(entry: Entry, name: str) -> Said:
    layout, code = entry.key[0], str(entry.rows[0].get("code") or "")
    return Said(
        layout=layout, title=f"{code} {layout[:6]}".strip(), front=entry.front or "dominated",
        item=item_name(name, layout),
    )  # fmt: skip


def _scope(rows: Sequence[Row], everywhere: Sequence[Row], found: Ranked) -> Scope:
    """One place of a study; peak memory is that of the workload's largest point."""
    first = rows[0]
    values: dict[str, dict[str, Value]] = {}
    for row in rows:
        same = [one for one in everywhere if (one["job_id"], one["layout_id"]) == (row["job_id"], row["layout_id"])]
        for name in found.objectives:
            value = next((value for one in (row, *same) if (value := value_of(one, name)) is not None), None)
            if value is not None:
                values.setdefault(row["layout_id"], {})[name] = value
    jobs = {row["job_id"] for row in rows}
    under: dict[str, set[str]] = {}
    for measurement in found.study.measurements:
        if measurement.job_id in jobs:
            for name, text in conditions_of(json.loads(measurement.conditions or "{}")).items():
                under.setdefault(name, set()).add(text)
    point = Point(batch=first["batch"], prompt=first["prompt"], decode=first["decode"], chunk=first["chunk"] or 0)
    return Scope(
        devices=tuple(sorted({*(row["unit"] for row in rows)})), workload=point.text,
        conditions={name: ", ".join(sorted(texts)) for name, texts in under.items()}, values=values,
    )  # fmt: skip


def _to_json(front: StudyFront) -> dict[str, Any]:
    return {
        "study": front.study, "name": front.name, "objectives": list(front.objectives), "fixed": list(front.fixed),
        "budgets": list(front.budgets), "across": front.across, "precision": front.precision,
        "layouts": [[one.layout, one.title, one.front, one.item] for one in front.said],
        "scopes": [
            {
                "devices": list(scope.devices), "workload": scope.workload, "conditions": dict(scope.conditions),
                "values": {layout: _values_json(values) for layout, values in scope.values.items()},
            }
            for scope in front.scopes
        ],
    }  # fmt: skip


def _values_json(values: Mapping[str, Value]) -> dict[str, list[float | None]]:
    """JSON has no infinity: an end that is one is None."""
    return {
        name: [end if math.isfinite(end) else None for end in (one.value, one.low, one.high)]
        for name, one in values.items()
    }


def _read(event: Mapping[str, Any]) -> StudyFront | None:
    """The inverse of `_to_json`; None for what it did not write, or names an objective that nobody knows here."""
    try:
        names = tuple(map(str, event["objectives"]))
        if event["format"] != _FORMAT or not names or not set(names) <= quantities().keys():
            return None
        return StudyFront(
            study=str(event["study"]), name=str(event["name"]), objectives=names,
            fixed=tuple(map(str, event["fixed"])), budgets=tuple(map(str, event["budgets"])),
            across=str(event["across"]), precision=str(event["precision"]),
            said=tuple(
                Said(layout=str(layout), title=str(title), front=_membership(front), item=str(item))
                for layout, title, front, item in event["layouts"]
            ),
            scopes=(_read_scope(event["scopes"][0]), *map(_read_scope, event["scopes"][1:])),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None


def _read_scope(data: Mapping[str, Any]) -> Scope:
    return Scope(
        devices=tuple(map(str, data["devices"])), workload=str(data["workload"]),
        conditions={str(name): str(text) for name, text in data["conditions"].items()},
        values={
            str(layout): {str(name): _read_value(*ends) for name, ends in values.items()}
            for layout, values in data["values"].items()
        },
    )  # fmt: skip


def _read_value(value: float, low: float | None, high: float | None) -> Value:
    if not math.isfinite(value):
        raise ValueError("a value is no number")
    return Value(
        value=float(value), low=-math.inf if low is None else float(low), high=math.inf if high is None else float(high)
    )  # fmt: skip


def _membership(text: object) -> Membership:
    found: dict[object, Membership] = {known: known for known in get_args(Membership)}
    return found[text]

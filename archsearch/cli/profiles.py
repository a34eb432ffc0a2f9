"""Prints where the time of what was measured goes: in rows for programs, in a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from archsearch.cli.output import Row, console, print_list

if TYPE_CHECKING:
    from archsearch.breakdown import Breakdown
    from archsearch.measurement import Measurement

OPERATORS = 12
"""Lines of a table; what takes less time is summed up in one."""


def with_profiles(rows: Iterable[Row], measured: Iterable[Measurement]) -> list[dict[str, Any]]:
    """The rows of measurements, one for each point, with their ``profile``: null where there is none of that point."""
    from archsearch.breakdown import breakdown

    profiles: list[dict[str, Any] | None] = []
    for measurement in measured:
        told = breakdown(measurement)
        profiles += [
            told.to_json() if told is not None and told.point == point else None for point in measurement.points
        ]
    return [{**row, "profile": profile} for row, profile in zip(rows, profiles, strict=True)]


def print_profiles(measured: Iterable[Measurement], output_format: str) -> None:
    """A table for each measurement, by block and operator; notes go to stderr."""
    from archsearch.breakdown import breakdown

    for measurement in measured:
        told = breakdown(measurement)
        if told is not None:
            print()
            print_list(_lines(told), _COLUMNS, output_format, right=(2, 3, 4, 5))
            console(stderr=True).print(f"{measurement.device}: {_note(told)}")
        elif measurement.status == "ok":
            profile = measurement.result.profile if measurement.result is not None else None
            reason = profile.reason if profile is not None else "none was taken"
            console(stderr=True).print(f"{measurement.device}: no profile: {reason}")


def _lines(told: Breakdown) -> list[dict[str, Any]]:
    """The operators with most time, what is left, and what no operator accounts for."""
    entries = [asdict(entry) for entry in told.by_operator()]
    lines = [{**entry, "block": entry["block"] or entry["part"]} for entry in islice(entries, OPERATORS)]
    if rest := entries[OPERATORS:]:
        names = ("prefill_ms", "decode_ms", "prefill_share", "decode_share")
        sums = {name: sum(entry[name] for entry in rest) for name in names}
        lines.append({"block": "the rest", "operator": f"{len(rest)} more", **sums})
    outside = {"prefill_ms": told.prefill.outside_ms, "decode_ms": told.decode.outside_ms}
    return [*lines, {"block": "outside operators", "operator": "", **outside}]


def _note(told: Breakdown) -> str:
    """What a reader of the table must know."""
    cut = "" if told.prompt == told.point.prompt else f", cut from the {told.point.prompt} of {told.point.text}"
    text = f"profile of {told.prompt} tokens{cut}, and the mean of {told.steps} steps after them: "
    phases = (("prefill", told.prefill, told.prompt == told.point.prompt), ("a step", told.decode, True))
    text += "; ".join(
        f"{name} {phase.nodes_ms:.4g} ms in operators and {phase.outside_ms:.4g} ms outside"
        + (f", measured without a profiler {phase.measured_ms:.4g} ms" if phase.measured_ms and same else "")
        for name, phase, same in phases
    )
    return f"{text}. Profiling slows small operators down: read the shares"


def _share(row: Row, name: str) -> str:
    return f"{row[name]:.1%}" if name in row else "—"


_COLUMNS: Mapping[str, Callable[[Row], Any]] = {
    "block": lambda row: row["block"],
    "operator": lambda row: row["operator"] or "—",
    "prefill ms": lambda row: f"{row['prefill_ms']:.3f}",
    "share": lambda row: _share(row, "prefill_share"),
    "decode ms": lambda row: f"{row['decode_ms']:.3f}",
    "its share": lambda row: _share(row, "decode_share"),
}

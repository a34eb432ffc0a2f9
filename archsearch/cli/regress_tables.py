"""Verdicts and series as tables, for people and for programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archsearch.cli.output import Row, print_list

if TYPE_CHECKING:
    from reports.values import Value
    from reports.verdict import Verdict


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values: changes are relative, times seconds since 1970, numbers in the quantity's unit."""
    from archsearch.regress.series_key import SeriesKey
    from reports.formatting import clean

    key = SeriesKey.parse(verdict.series.key)
    night = next((one for one in verdict.series.nights if one.time == verdict.time), None)
    value = None if night is None else night.first.value
    accepted = verdict.accepted
    return {
        "series": key.id,
        "device": key.device,
        "what": key.item,
        "anchor": key.anchor,
        "workload": key.workload,
        "precision": key.precision,
        "quantity": key.quantity,
        "verdict": str(verdict.kind),
        "level": str(verdict.level),
        **_ends("value", value),
        **_ends("change", verdict.effect),
        "baseline": verdict.baseline,
        "threshold": verdict.threshold,
        "detectable": verdict.detectable,
        "good_nights": verdict.good_nights,
        "since": verdict.since,
        "nights_in_row": verdict.nights_in_row,
        "established": verdict.established,
        "night": verdict.time,
        "why": clean(verdict.why),
        "accepted_by": None if accepted is None else clean(accepted.by),
        "accepted_reason": None if accepted is None else clean(accepted.reason),
    }


def _ends(name: str, value: Value | None) -> dict[str, float | None]:
    import math

    ends = (None, None, None) if value is None else (value.value, value.low, value.high)
    finite = [None if end is None or not math.isfinite(end) else end for end in ends]
    return dict(zip((name, f"{name}_low", f"{name}_high"), finite, strict=True))


def _what(row: Row) -> str:
    return f"{row['what']} (anchor)" if row["anchor"] else str(row["what"])


def _number(row: Row, name: str) -> str:
    from reports.formatting import plain_number

    return "" if row[name] is None else plain_number(row[name])


def _change(row: Row) -> str:
    if row["change"] is None:
        return ""
    return f"{row['change']:+.1%} [{row['change_low']:+.1%}, {row['change_high']:+.1%}]"


def _when(row: Row, name: str) -> str:
    return "" if row[name] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(row[name]))


def print_verdicts(verdicts: Sequence[Verdict], output_format: str) -> None:
    """Print verdicts, in their order."""
    columns = {
        "series": lambda row: row["series"],
        "device": lambda row: row["device"],
        "what": _what,
        "workload": lambda row: row["workload"],
        "precision": lambda row: row["precision"],
        "quantity": lambda row: row["quantity"],
        "verdict": lambda row: row["verdict"],
        "level": lambda row: row["level"],
        "tonight": lambda row: _number(row, "value"),
        "change": _change,
        "baseline": lambda row: _number(row, "baseline"),
        "would see": lambda row: "" if row["detectable"] is None else f"{row['detectable']:.1%}",
        "since": lambda row: _when(row, "since"),
        "why": lambda row: row["why"],
    }
    print_list([verdict_row(one) for one in verdicts], columns, output_format, right=(8, 9, 10, 11))


def print_series(verdicts: Sequence[Verdict], output_format: str) -> None:
    """Print series with the verdict on the last night of each."""
    columns = {
        "series": lambda row: row["series"],
        "device": lambda row: row["device"],
        "what": _what,
        "workload": lambda row: row["workload"],
        "precision": lambda row: row["precision"],
        "quantity": lambda row: row["quantity"],
        "nights": lambda row: row["nights"],
        "last night": lambda row: _when(row, "night"),
        "value": lambda row: _number(row, "value"),
        "baseline": lambda row: _number(row, "baseline"),
        "verdict": lambda row: row["verdict"],
        "level": lambda row: row["level"],
        "since": lambda row: _when(row, "since"),
        "accepted": lambda row: (
            "" if row["accepted_by"] is None else f"{row['accepted_reason']} ({row['accepted_by']})"
        ),
    }
    rows = [{**verdict_row(one), "nights": len(one.series.nights)} for one in verdicts]
    print_list(rows, columns, output_format, right=(6, 8, 9))


def summary(verdicts: Sequence[Verdict], lost: Mapping[str, str]) -> list[str]:
    """What a night comes to: a line for each lost device, then one for all."""
    kinds = Counter(str(verdict.kind) for verdict in verdicts)
    levels = Counter(str(verdict.level) for verdict in verdicts)
    lines = [f"archsearch: {device} has no verdicts of its own: {why}" for device, why in lost.items()]
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing to judge"
    outcome = "FAIL" if levels["FAIL"] else "WARN" if levels["WARN"] else "fine"
    counted = "1 series" if len(verdicts) == 1 else f"{len(verdicts)} series"
    lines.append(f"{outcome}: {counted}: {told}; {levels['FAIL']} FAIL, {levels['WARN']} WARN")
    return lines

"""Verdicts and series as tables for people; programs get rows of `reports.verdict_rows`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from archsearch.cli.output import Row, print_list

if TYPE_CHECKING:
    from reports.verdict import Verdict


def _what(row: Row) -> str:
    return f"{row['what']} (anchor)" if row["anchor"] else str(row["what"])


def _number(row: Row, name: str) -> str:
    from reports.formatting import plain_number

    return "" if row[name] is None else plain_number(row[name])


def _change(row: Row) -> str:
    from reports.formatting import change_text

    return "" if row["change"] is None else change_text(row["change"], row["change_low"], row["change_high"])


def _accepted(row: Row) -> str:
    from reports.formatting import moment

    if row["accepted_by"] is None:
        return ""
    pinned = "" if row["pinned"] is None else f", pinned at {_number(row, 'pinned')}"
    return f"{row['accepted_reason']} ({row['accepted_by']}{pinned}, from {moment(row['accepted_unix'])})"


_WHICH: Final[Mapping[str, Callable[[Row], Any]]] = {
    "series": lambda row: row["series"],
    "device": lambda row: row["device"],
    "what": _what,
    "workload": lambda row: row["workload"],
    "precision": lambda row: row["precision"],
    "quantity": lambda row: row["quantity"],
}
"""Columns that say which series a row is of."""
_VERDICT: Final[Mapping[str, Callable[[Row], Any]]] = {
    "verdict": lambda row: row["kind"],
    "level": lambda row: row["level"],
}


def print_verdicts(verdicts: Sequence[Verdict], output_format: str) -> None:
    """Print verdicts, in their order."""
    from reports.verdict_rows import verdict_row

    columns = {
        **_WHICH,
        **_VERDICT,
        "tonight": lambda row: _number(row, "value"),
        "change": _change,
        "baseline": lambda row: _number(row, "baseline"),
        "would see": lambda row: "" if row["detectable"] is None else f"{row['detectable']:.1%}",
        "since": lambda row: row["since"] or "",
        "why": lambda row: row["why"],
    }
    print_list([verdict_row(one) for one in verdicts], columns, output_format, right=(8, 9, 10, 11))


def print_series(verdicts: Sequence[Verdict], output_format: str) -> None:
    """Print series with the verdict on the last night of each."""
    from reports.verdict_rows import verdict_row

    columns = {
        **_WHICH,
        "nights": lambda row: row["nights"],
        "last night": lambda row: row["night"],
        "value": lambda row: _number(row, "value"),
        "baseline": lambda row: _number(row, "baseline"),
        **_VERDICT,
        "since": lambda row: row["since"] or "",
        "accepted": _accepted,
    }
    rows = [{**verdict_row(one), "nights": len(one.series.nights)} for one in verdicts]
    print_list(rows, columns, output_format, right=(6, 8, 9))


def summary(verdicts: Sequence[Verdict], lost: Mapping[str, str]) -> list[str]:
    """What a night comes to: a line for each lost device, then one for all."""
    kinds = Counter(str(verdict.kind) for verdict in verdicts)
    levels = Counter(str(verdict.level) for verdict in verdicts)
    lines = [f"archsearch: {device} has no verdicts of its own: {why}" for device, why in lost.items()]
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing to judge"
    judged = {verdict.series.device for verdict in verdicts}
    outcome = "FAIL" if levels["FAIL"] else "WARN" if levels["WARN"] or lost.keys() - judged else "fine"
    counted = "1 series" if len(verdicts) == 1 else f"{len(verdicts)} series"
    lines.append(f"{outcome}: {counted}: {told}; {levels['FAIL']} FAIL, {levels['WARN']} WARN")
    return lines

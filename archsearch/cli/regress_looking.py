"""`archsearch regress history` and `archsearch regress report`: looking back on nights that were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import CommandError
from archsearch.cli.output import Row, console, one_of, print_list
from archsearch.cli.regress_series import measured_series, nights
from archsearch.cli.regress_telling import checked_report, write_report
from archsearch.cli.when import named_time

if TYPE_CHECKING:
    from archsearch.store import Store
    from reports.histories import History
    from reports.nights import Series

_LONGEST = 60


def history_command(
    which: str | None, *, figure: Path | None, output_format: str, store: str | None, runs: Path
) -> None:
    """Print all series with their change points, or every night of some of them."""
    from archsearch.regress.accepting import meant
    from archsearch.regress.judged import last_night
    from reports.histories import histories
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    with nights(store=store, runs=runs) as database:
        found = measured_series(database)
    past = histories(found, at=last_night(found))
    if which is not None:
        keys = {one.key for one in meant(which, found)}
        past = tuple(one for one in past if one.series.key in keys)
    if figure is not None:
        _write_figure(figure, past)
    if which is None:
        _print_series(past, output_format)
    else:
        _print_nights(past, output_format)
    if figure is not None:
        console(stderr=True).print(f"written: {figure}")


def report_command(out: Path, *, at: str | None, store: str | None, runs: Path) -> None:
    """Write a night as a page or as Markdown."""
    from archsearch.regress.front_nights import front_verdicts
    from archsearch.regress.judged import judge_night

    checked_report(out)
    with nights(store=store, runs=runs) as database:
        night, found = night_meant(database, at)
        verdicts = judge_night(found, night)
        fronts = front_verdicts(database, found, night)
    write_report(out, verdicts, found, fronts)
    console(stderr=True).print(f"written: {out}")


def night_meant(database: Store, at: str | None) -> tuple[float, list[Series]]:
    """A night, the latest by default, and all series as they were known then: later nights are left out of a named one.

    Raises:
        CommandError: Nothing was measured yet, or `at` names no night.
    """
    from archsearch.regress.judged import last_night
    from archsearch.regress.series import load_series

    found = measured_series(database)
    if at is not None:
        night = named_time(at, [night.time for one in found for night in one.nights])
        return night, load_series(database, until=night)
    latest = last_night(found)
    assert latest is not None
    return latest, found


def _write_figure(path: Path, past: Sequence[History]) -> None:
    from reports.regression_report import write_histories

    if path.suffix.lower() not in (".html", ".htm"):
        raise CommandError(f"--figure {path}: figures are written as .html", hint="--figure history.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_histories(path, past)
    except OSError as error:
        raise CommandError(f"{error.filename2 or error.filename or path}: {error.strerror}") from error


def _print_series(past: Sequence[History], output_format: str) -> None:
    from reports.histories import series_row

    columns: Mapping[str, Callable[[Row], Any]] = {
        "series": lambda row: row["series"],
        "device": lambda row: row["device"],
        "what": lambda row: row["label"],
        "quantity": lambda row: row["quantity"],
        "nights": lambda row: row["nights"],
        "last night": lambda row: row["night"],
        "value": _measured,
        "verdict": _verdict,
        "change": _change,
        "would see": lambda row: _percent(row["detectable"]),
        "since": lambda row: row["since"] or "",
        "change points": _points,
    }
    print_list([series_row(one) for one in past], columns, output_format, right=(4, 6, 8, 9))


def _print_nights(past: Sequence[History], output_format: str) -> None:
    from reports.histories import night_rows

    columns: dict[str, Callable[[Row], Any]] = {
        "night": lambda row: row["night"],
        "verdict": _verdict,
        "value": _measured,
        "fresh": lambda row: ", ".join(_number(row[name]) for name in ("fresh", "fresh2") if row[name] is not None),
        "change": _change,
        "baseline": lambda row: _number(row["baseline"]),
        "alarm": lambda row: _percent(row["threshold"]),
        "would see": lambda row: _percent(row["detectable"]),
        "change point": lambda row: "" if row["change_point"] is None else f"{row['change_point']:+.1%}",
        "what changed": _around,
    }
    if len(past) > 1:
        columns = {
            "series": lambda row: row["series"],
            "device": lambda row: row["device"],
            "what": lambda row: row["label"],
            "quantity": lambda row: row["quantity"],
            **columns,
        }
    right = [at for at, name in enumerate(columns) if name in _RIGHT]
    print_list([row for one in past for row in night_rows(one)], columns, output_format, right=right)
    if output_format == "table":
        for one in past if len(past) == 1 else ():
            console(stderr=True).print(f"{one.series.device}: {one.series.label} {one.series.quantity}")
            console(stderr=True).print(f"last night: {one.latest.kind}: {one.latest.why}")


_RIGHT = frozenset({"value", "fresh", "change", "baseline", "alarm", "would see", "change point"})


def _verdict(row: Row) -> str:
    return row["kind"] if row["level"] == "fine" else f"{row['kind']} {row['level']}"


def _measured(row: Row) -> str:
    from reports.formatting import with_interval

    if row["value"] is None:
        return str(row["status"] or "")
    return f"{with_interval(row['value'], row['value_low'], row['value_high'])} {row['unit']}".rstrip()


def _number(value: float | None) -> str:
    from reports.formatting import plain_number

    return "" if value is None else plain_number(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _change(row: Row) -> str:
    from reports.formatting import change_text

    return "" if row["change"] is None else change_text(row["change"], row["change_low"], row["change_high"])


def _points(row: Row) -> str:
    from reports.formatting import change_text, moment

    return ", ".join(f"{change_text(one['effect'])} on {moment(one['time_unix'])}" for one in row["change_points"])


def _around(row: Row) -> str:
    """What changed on a night: the environment, and what somebody accepted."""
    said = [f"{name} {_short(old)} -> {_short(new)}" for name, (old, new) in row["environment_changes"].items()]
    said += [f"accepted by {one['by']}: {one['reason']}" for one in row["accepted_tonight"]]
    return "; ".join(said)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

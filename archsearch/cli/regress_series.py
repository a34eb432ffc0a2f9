"""`archsearch regress series` and `accept`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console, one_of
from archsearch.cli.regress_tables import print_series
from archsearch.cli.studies import DATABASE, REGRESS_STUDY, open_store

if TYPE_CHECKING:
    from archsearch.store import Store
    from reports.nights import Series

_MEASURE: Final = "archsearch regress run --devices devices.yaml"


def series_command(*, every: bool, output_format: str, store: str | None, runs: Path) -> None:
    """List series with their latest verdicts, in the order in which they first occurred.

    Raises:
        CommandError: No night has measured anything yet.
    """
    from archsearch.regress.judged import current, latest_verdicts
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    with nights(store=store, runs=runs) as database:
        found = measured_series(database)
    shown = {one.key for one in (found if every else current(found))}
    print_series([one for one in latest_verdicts(found) if one.series.key in shown], output_format)


def accept_command(
    which: str,
    *,
    reason: str,
    since: str | None,
    pin: float | None,
    output_format: str,
    store: str | None,
    runs: Path,
) -> None:
    """Accept the level of all series that are meant, and show them as they are judged from now on."""
    from archsearch.regress.accepting import accept, meant, since_when
    from archsearch.regress.judged import latest_verdicts
    from archsearch.regress.series import load_series
    from reports.formatting import moment
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    with nights(store=store, runs=runs) as database:
        found = load_series(database)
        chosen = meant(which, found)
        verdicts = {verdict.series.key: verdict for verdict in latest_verdicts(found)}
        if pin is not None and len({(one.label, one.quantity) for one in chosen}) > 1:
            raise CommandError(
                f"--pin {pin:g} would be compared with {len(chosen)} series of different things or units"
            )
        times = {one.key: since_when(since, verdicts[one.key]) for one in chosen}
        accepted = {
            one.key: accept(database, one, since=times[one.key], reason=reason, pinned=pin) for one in chosen
        }  # fmt: skip
        after = {verdict.series.key: verdict for verdict in latest_verdicts(load_series(database))}
    # A word that holds from the next night on is not in a verdict on the last one.
    print_series([replace(after[key], accepted=word) for key, word in accepted.items()], output_format)
    log = console(stderr=True)
    how = "the nights from then on" if pin is None else f"{pin:g}"
    log.print(f"accepted for {len(accepted)} series; later nights are compared with {how}")
    later = [word.time for key, word in accepted.items() if word.time > after[key].time]
    if later:
        which_ones = "this" if len(later) == len(accepted) else f"for {len(later)} of them this"
        log.print(
            f"{which_ones} holds from the first night after {moment(max(later))} on; until then the verdict on "
            "the last night stands"
        )


@contextmanager
def nights(*, store: str | None, runs: Path) -> Iterator[Store]:
    """The store of nights, which must exist.

    Raises:
        CommandError: No night was measured yet.
    """
    from archsearch.regress.notes import NIGHT

    with study_of_nights(store=store, runs=runs, what="no night was measured yet", hint=_MEASURE) as database:
        if not database.events(REGRESS_STUDY, NIGHT):
            raise CommandError(f"no night was measured yet in {database.where}", hint=_MEASURE)
        say_damaged(database)
        yield database


@contextmanager
def study_of_nights(*, store: str | None, runs: Path, what: str, hint: str) -> Iterator[Store]:
    """The store in which nights and comparisons of runtimes are kept.

    Raises:
        CommandError: There is none: `what`, where, and `hint`.
    """
    if store is None and not (runs / REGRESS_STUDY / DATABASE).exists():
        raise CommandError(f"{what} in {runs}", hint=hint)
    with open_store(REGRESS_STUDY, store=store, runs=runs, create=False) as database:
        if database.study(REGRESS_STUDY) is None:
            raise CommandError(f"{what} in {database.where}", hint=hint)
        yield database


def say_damaged(database: Store) -> None:
    """Say in a line how many events are passed over, where some are."""
    from archsearch.regress.events import damaged

    if count := damaged(database):
        events = "1 event" if count == 1 else f"{count} events"
        console(stderr=True).print(
            f"archsearch: {events} of nights in {database.where} cannot be read and {'is' if count == 1 else 'are'} "
            "passed over"
        )


def measured_series(database: Store) -> list[Series]:
    """All series of an open store.

    Raises:
        CommandError: No night has measured anything yet.
    """
    from archsearch.regress.series import load_series

    found = load_series(database)
    if not any(one.nights for one in found):
        raise CommandError("no night has measured anything yet", hint=_MEASURE)
    return found

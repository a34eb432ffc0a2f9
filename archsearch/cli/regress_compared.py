"""`archsearch regress runtimes`: a comparison of two runtimes that was measured before, shown again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console, one_of
from archsearch.cli.regress_runtimes import print_verdicts, summary
from archsearch.cli.regress_series import say_damaged, study_of_nights
from archsearch.cli.when import name_of, named_time

if TYPE_CHECKING:
    from archsearch.regress.compared import Comparison

_COMPARE: Final = "archsearch regress run --compare-runtimes 1.30.0 1.31.1"
_MOST_OTHERS: Final = 8


def compared_command(*, at: str | None, output_format: str, store: str | None, runs: Path) -> None:
    """Print the verdicts on a comparison, the last one by default.

    Raises:
        CommandError: No runtimes were compared, or none then.
    """
    from archsearch.regress.compared import compared_verdicts, comparisons
    from reports.formatting import moment
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    with study_of_nights(store=store, runs=runs, what="no runtimes were compared yet", hint=_COMPARE) as database:
        say_damaged(database)
        found = comparisons(database)
        if not found:
            raise CommandError(f"no runtimes were compared yet in {database.where}", hint=_COMPARE)
        shown = found[-1]
        if at is not None:
            time = named_time(at, [one.compared for one in found], what="comparison")
            shown = next(one for one in found if one.compared == time)
        verdicts = compared_verdicts(database, shown.compared)
    print_verdicts(verdicts, shown.runtimes, output_format)
    log = console(stderr=True)
    log.print(f"compared on {moment(shown.compared, seconds=True)}, suite {shown.suite}")
    for line in summary(verdicts, shown.lost, shown.runtimes):
        log.print(line)
    if others := [one for one in reversed(found) if one is not shown]:
        log.print(f"others: {_named(others, [one.compared for one in found])}")


def _named(others: Sequence[Comparison], times: Sequence[float]) -> str:
    from reports.formatting import clean

    told = [
        f"{clean(' and '.join(one.runtimes))} (--at '{name_of(one.compared, times)}')" for one in others[:_MOST_OTHERS]
    ]
    more = [f"{len(others) - _MOST_OTHERS} more"] if len(others) > _MOST_OTHERS else []
    return ", ".join([*told, *more])

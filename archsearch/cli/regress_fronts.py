"""`archsearch regress fronts`: did the front of a study move on any device?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.cli.output import console, one_of, print_list
from archsearch.cli.regress_series import nights

if TYPE_CHECKING:
    from archsearch.store import Store
    from reports.front_verdicts import FrontVerdict
    from reports.nights import Series


def fronts_command(*, at: str | None, output_format: str, store: str | None, runs: Path) -> None:
    """Print the verdicts of a night on the fronts that it measured.

    Raises:
        CommandError: No night was measured, or none began then.
    """
    from archsearch.cli.regress_looking import night_meant
    from archsearch.regress.front_nights import front_verdicts
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    with nights(store=store, runs=runs) as database:
        night, series = night_meant(database, at)
        found = front_verdicts(database, series, night)
    print_fronts(found, output_format)
    if not found:
        console(stderr=True).print(
            "no front of a study was measured that night; a suite has one with `- {study: NAME, neighbours: 3}`"
        )


def print_fronts(verdicts: list[FrontVerdict], output_format: str) -> None:
    """Print verdicts on fronts, what wants a look first."""
    from reports.front_rows import front_row, wanted_first

    columns = {
        "study": lambda row: row["study"],
        "device": lambda row: row["device"],
        "workload": lambda row: row["workload"],
        "precision": lambda row: row["precision"],
        "verdict": lambda row: row["kind"],
        "front": lambda row: f"{row['front_held']} of {row['front_study']}" if row["front_study"] else "",
        "what": lambda row: row["why"],
        "note": lambda row: "; ".join(row["notes"]),
    }
    print_list([front_row(one) for one in wanted_first(verdicts)], columns, output_format)


def told_fronts(database: Store, series: list[Series], night: float) -> list[FrontVerdict]:
    """The verdicts on a night's fronts, each told in a line beside the verdicts on its series."""
    from archsearch.regress.front_nights import front_verdicts
    from reports.front_rows import front_lines

    found = front_verdicts(database, series, night)
    for line in front_lines(found):
        console(stderr=True).print(line)
    return found

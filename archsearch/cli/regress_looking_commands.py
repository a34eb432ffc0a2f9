"""`archsearch regress history`, `report`, `fronts`, `runtimes`: names, options, help; see `archsearch.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import FormatOption, RunsOption, StoreOption


def add_to(regress_app: typer.Typer) -> None:
    """Make the commands part of `archsearch regress`."""
    regress_app.command("history", epilog="Examples: `archsearch regress history`; `... history 3fa9 --figure a.html`")(
        history
    )
    regress_app.command("report", epilog="Example: `archsearch regress report -o report.html --at 2026-03-01`")(report)
    regress_app.command(
        "fronts",
        epilog="Examples: `archsearch regress fronts`; `... fronts --at 2026-03-01 --format json`. MOVED needs two "
        "nights that agree, after four that stood elsewhere; else it DIFFERS from the study. It changes no exit code: "
        "a layout that got slower fails by its own series.",
    )(fronts)
    regress_app.command(
        "runtimes",
        epilog="Examples: `archsearch regress runtimes`; `... runtimes --at 2026-03-01 --format md`. Measured by "
        "`archsearch regress run --compare-runtimes A B`.",
    )(runtimes)


def history(
    series: Annotated[
        str | None,
        typer.Argument(
            metavar="SERIES",
            help="Beginning of an id (at least 3 digits), or a pattern of `DEVICE WHAT QUANTITY`. Default: a list.",
        ),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", metavar="FILE.html", help="Draw it, too.")] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Look back: every night of a series, its change points, and what changed there."""
    from archsearch.cli.regress_looking import history_command

    history_command(series, figure=figure, output_format=output_format, store=store, runs=runs)


def report(
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A page (.html) or Markdown (.md).")
    ] = Path("regress.html"),
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="NIGHT", help="Such as 2026-03-01 or '2026-03-01 02:30'. Default: the latest."),
    ] = None,
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a night as one page that needs nothing else, or as Markdown."""
    from archsearch.cli.regress_looking import report_command

    report_command(out, at=at, store=store, runs=runs)


def fronts(
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="NIGHT", help="Such as 2026-03-01 or '2026-03-01 02:30'. Default: the latest."),
    ] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Did a front move: the order of a study's layouts that night, beside the order that the study found."""
    from archsearch.cli.regress_fronts import fronts_command

    fronts_command(at=at, output_format=output_format, store=store, runs=runs)


def runtimes(
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Such as 2026-03-01 or '2026-03-01 02:30'. Default: the latest."),
    ] = None,
    output_format: FormatOption = "table",
    store: StoreOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Show a comparison of two runtimes again."""
    from archsearch.cli.regress_compared import compared_command

    compared_command(at=at, output_format=output_format, store=store, runs=runs)

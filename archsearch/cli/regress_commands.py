"""`archsearch regress`: the commands' names, options and help; see `archsearch.cli.app`."""

from __future__ import annotations

import typer

regress_app = typer.Typer(no_args_is_help=True, help="Nightly regressions: run, series, accept.")


@regress_app.callback()
def _root() -> None:
    """Did anything that we ship get slower, bigger or wrong on our devices, and since when?"""

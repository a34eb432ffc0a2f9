"""`archsearch report`: a study as one page that needs nothing else, with its table beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console
from archsearch.cli.show import columns
from archsearch.cli.studies import existing, latest

if TYPE_CHECKING:
    from archsearch.store import Store


def report_command(
    study: str | None,
    *,
    out: Path | None,
    objective: Sequence[str] | None,
    budget: Sequence[str] | None,
    across: str | None,
    store: str | None,
    runs: Path,
) -> None:
    """Write a study as a page."""
    name = latest(store=store, runs=runs) if study is None else study
    database = existing(name, store=store, runs=runs)
    try:
        record = database.study(name)
        assert record is not None
        if record.config.get("blocks") or record.config.get("adhoc"):
            raise CommandError(
                f"{name!r} holds single measurements, which are not ranked", hint=f"archsearch show {name}"
            )
        path = out or runs / name / "report.html"
        written = write_study(database, name, path, objective=objective, budget=budget, across=across)
    finally:
        database.close()
    console().print(f"written: {', '.join(map(str, written))}")


def write_study(
    database: Store,
    name: str,
    path: Path,
    *,
    objective: Sequence[str] | None = None,
    budget: Sequence[str] | None = None,
    across: str | None = None,
) -> list[Path]:
    """Write the page, and its table as CSV and Markdown beside it; the files.

    Raises:
        CommandError: They cannot be written, or nothing was measured yet.
    """
    from archsearch.ranked import ranked, read_study
    from archsearch.snapshot import snapshot
    from reports.files import write_whole
    from reports.report import write_report
    from reports.tables import render

    found = ranked(database, read_study(database, name), objectives=objective, budgets=budget, across=across)
    if not found.study.rows:
        raise CommandError(f"study {name} holds no measurement yet", hint=f"archsearch run --study {name}")
    table = [*found.ranking.table(), *found.beside()]
    shown = columns(found.objectives, table, found.ranking.relative)
    beside = {kind: path.with_suffix(f".{kind}") for kind in ("csv", "md")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(path, snapshot(found), table)
        for kind, file in beside.items():
            write_whole(file, render(table, shown, kind))
    except OSError as error:
        raise CommandError(f"{error.filename2 or error.filename or path}: {error.strerror}") from error
    return [path, *beside.values()]

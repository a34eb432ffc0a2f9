"""`archsearch show`: the ranking of a study, and where its time went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console, one_of, print_json, print_table
from archsearch.cli.studies import BLOCKS_STUDY, existing, known_blocks, latest

if TYPE_CHECKING:
    from archsearch.store import Store
    from reports.budgets import Budget
    from reports.ranking import Ranking
    from reports.values import Row

_SMALLEST_SHOWN = 5e-4
"""Below, a percentage with one decimal would say 0.0%."""

_POTENTIALS = 5
"""Layouts that a better kernel would bring to the front, named below the table; JSON has all."""

_AT_THE_LIMIT = 1e-12
"""What misses ``<`` or ``>`` by being equal has the smallest excess that there is."""


def show_command(
    study: str | None,
    *,
    front: bool,
    timing: bool,
    objective: Sequence[str] | None,
    budget: Sequence[str] | None,
    across: str | None,
    output_format: str,
    store: str | None,
    runs: Path,
) -> None:
    """Print a stored study."""
    from reports.tables import FORMATS

    one_of(output_format, ("table", "json") if timing else FORMATS, "--format")
    name = latest(store=store, runs=runs) if study is None else study
    database = existing(name, store=store, runs=runs)
    blocks = known_blocks(store=store, runs=runs)
    try:
        if timing:
            print_timing(database, name, output_format=output_format)
        else:
            print_study(
                database,
                name,
                output_format=output_format,
                front=front,
                objective=objective,
                budget=budget,
                across=across,
                blocks=blocks,
            )
    finally:
        if blocks is not None:
            blocks.close()
        database.close()


def print_study(
    database: Store,
    name: str,
    *,
    output_format: str,
    front: bool = False,
    objective: Sequence[str] | None = None,
    budget: Sequence[str] | None = None,
    across: str | None = None,
    blocks: Store | None = None,
) -> None:
    """Rank a study and print it; notes for people go to stderr. `blocks` is the store of comparisons of kernels."""
    from archsearch.cli.measure import COLUMNS
    from archsearch.potential import KernelBook, potentials
    from archsearch.ranked import ranked, read_study
    from archsearch.snapshot import fallback, movements, without
    from reports.tables import render
    from search_space.blocks import letter_colors

    record = database.study(name)
    assert record is not None
    if record.config.get("blocks"):
        raise CommandError(
            f"{name!r} holds comparisons of blocks and kernels, which are not ranked",
            hint="archsearch tune, or archsearch blocks: both show what is known without measuring it again",
        )
    study = read_study(database, name)
    if not study.rows:
        if output_format == "json":
            print_json([])
        console(stderr=True).print(f"study {name} holds no measurement yet")
        return
    if record.config.get("adhoc"):  # what `measure` did: other workloads, precisions and files side by side; no ranking
        if front or objective or budget:
            raise CommandError(
                f"{name!r} holds single measurements, which are not ranked", hint="archsearch show STUDY"
            )
        print(render(study.rows, list(COLUMNS), output_format, letter_styles=letter_colors()), end="")
        return
    found = ranked(database, study, objectives=objective, budgets=budget, across=across)
    ranking = found.ranking
    for said in fallback(found):
        console(stderr=True).print(f"archsearch: {said}")
    better = {}
    if blocks is not None:
        book = KernelBook(blocks, BLOCKS_STUDY)
        could = potentials(
            ranking, found.counted, study.measurements, book, reference=study.reference, across=found.across
        )  # fmt: skip
        better = {potential.layout_id: potential.text() for potential in could}
    entries = ranking.front() if front else ranking.entries
    table = [{**row, "better_kernel": better.get(row["layout_id"])} for row in ranking.table(entries)]
    table += [] if front else found.beside()
    shown = columns(found.objectives, table, ranking.relative)
    print(render(table, shown, output_format, letter_styles=letter_colors()), end="")
    if output_format == "table":
        _legend(ranking, name, found.across)
        for text in list(better.values())[:_POTENTIALS]:
            console(stderr=True).print(text)
    for note in [*without(found), *movements(study)]:
        console(stderr=True).print(note)
    _nearest_misses(ranking)


def columns(objectives: Sequence[str], rows: Sequence[Row] = (), relative: Sequence[str] = ()) -> list[str]:
    """Columns of the ranked table: which candidate and point, the objectives, and what one needs to decide.

    Args:
        objectives: Names.
        rows: What is shown: of a point's fields those are columns in which they differ.
        relative: Objectives that the ranking takes as ratios; each ratio follows its objective.
    """
    from reports.ranking import RELATIVE
    from reports.tables import differing

    which = ["rank", "front", "name", "code", "device", *differing(rows), "status"]
    values = [column for name in objectives for column in (name, *([f"{name}{RELATIVE}"] if name in relative else ()))]
    sizes = ["total_params", "effective_params", "embedding_share"]
    return list(dict.fromkeys([*which, *values, *sizes, "layout_id", "reason"]))


def _legend(ranking: Ranking, name: str, across: str) -> None:
    out = console(stderr=True)
    front = "on it, uncertain (intervals overlap), or dominated"
    out.print(f"study {name}; ± is half a 95% interval; front: {front}; anchors are ranked beside, in brackets")
    if ranking.reference is not None:
        combined = "the geometric mean" if across == "geomean" else "the worst"
        out.print(f"several places: ranked by ×ref, {combined} ratio to {ranking.reference} measured in the same place")


def _nearest_misses(ranking: Ranking) -> None:
    """Say that nothing is feasible, in every format: a program that reads the rows has a user too."""
    if not ranking.nothing_feasible:
        return
    out = console(stderr=True)
    out.print("Nothing meets the budgets. The nearest misses:")
    for entry in ranking.nearest_misses():
        worst = ", ".join(
            f"{budget} ({excess_text(budget, excess)})"
            for budget in ranking.budgets
            if (excess := entry.violations[str(budget)]) is not None and excess > 0
        )
        out.print(f"  {entry.title}: misses {worst or entry.reason}")


def excess_text(budget: Budget, excess: float) -> str:
    """A violation for people: percent beyond the limit, from twice the limit on its multiple."""
    beyond = "above" if budget.operator in ("<=", "<") else "below"
    if excess < _AT_THE_LIMIT:
        return "at the limit"
    if budget.limit == 0:  # nothing is a multiple of zero: the violation is the distance itself
        return f"{excess:.3g} {beyond} it"
    if excess < _SMALLEST_SHOWN:
        return f"under 0.1% {beyond}"
    if excess < 1 or beyond == "below":
        return f"{excess:.1%} {beyond}"
    return f"{1 + excess:,.1f}x the limit"


def print_timing(database: Store, name: str, *, output_format: str) -> None:
    """Where a study's wall time went."""
    from archsearch.timing import break_down

    report = break_down(database, name)
    if output_format == "json":
        print_json(report.to_json())
        return
    if not report.wall_s:
        raise CommandError(f"study {name} has no finished run to break down")
    rows: list[tuple[Any, ...]] = [
        (phase, f"{seconds:.1f} s", f"{seconds / report.device_s:.1%}", what) for phase, seconds, what in report.lines()
    ]
    print_table(("phase", "time", "share", "what it is"), rows, right=(1, 2))
    console().print(report.summary())
    console().print(
        f"overhead {report.overhead_s:.1f} s of {report.device_s:.1f} s: {report.overhead_share:.1%} "
        "(all that is not waiting, start, load, warmup, timed, profile, memory or tuning above)"
    )

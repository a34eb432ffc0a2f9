"""`archsearch report`: a study as one page that needs nothing else, with its table beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console, letter_colors
from archsearch.cli.show import columns, fallback, movements, without
from archsearch.cli.studies import existing, latest

if TYPE_CHECKING:
    from archsearch.ranked import Ranked
    from archsearch.store import Store
    from reports.page import Section

NOTES = (
    "± and bars are 95% intervals; numbers come from fresh processes on the device named beside them.",
    "On the front: nobody is better in everything. Uncertain: beaten by point estimates, but the intervals overlap. "
    "Dominated: beaten beyond the noise.",
    "Anchors are known models measured beside the candidates; they are never left out, and their rank in brackets is "
    "where they would stand.",
    "Weights are random: a page says what a layout costs on a device, and nothing of its quality after training.",
)


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
    from reports.page import table_html, write_report
    from reports.tables import render

    found = ranked(database, read_study(database, name), objectives=objective, budgets=budget, across=across)
    if not found.study.rows:
        raise CommandError(f"study {name} holds no measurement yet", hint=f"archsearch run --study {name}")
    table = [*found.ranking.table(), *found.beside()]
    shown = columns(found.objectives, table, found.ranking.relative)
    beside = {kind: path.with_suffix(f".{kind}") for kind in ("csv", "md")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(
            path, title=f"archsearch: {name}", facts=_facts(found), sections=sections(found),
            table=table_html(table, found.objectives, letter_colors()),
            notes=[*NOTES, *fallback(found), *without(found), *movements(found.study)],
        )  # fmt: skip
        for kind, file in beside.items():
            file.write_text(render(table, shown, kind), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{error.filename2 or error.filename or path}: {error.strerror}") from error
    return [path, *beside.values()]


def _facts(found: Ranked) -> dict[str, str]:
    rows = found.study.rows
    trials = {row["trial"] for row in rows if row["trial"] is not None}
    devices = dict.fromkeys(str(row["device"]) for row in rows)
    return {
        "candidates": str(len(trials)),
        "devices": ", ".join(devices) + (f" (combined: {found.across})" if len(devices) > 1 else ""),
        "workload, precision": f"{rows[0]['workload']}, {rows[0]['precision']}",
        "objectives": ", ".join(found.objectives),
        "budgets": ", ".join(map(str, found.budgets)) or "none",
    }  # fmt: skip


def sections(found: Ranked) -> Iterator[Section]:
    """The page's figures: a front across all places and one for each, then all objectives, progress and embeddings."""
    from reports.figures import embedding_figure, front_figure, parallel_figure, progress_figure
    from reports.figures.text import place
    from reports.fronts import REFERENCE_NAME
    from reports.page import Section
    from reports.ranking import rank
    from reports.values import place_of

    colors = letter_colors()
    places = {place_of(row): row for row in found.counted}
    if len(places) > 1:
        x, y = _axes(found.objectives)
        names = list(dict.fromkeys([*found.objectives, x, y]))
        whole = rank(found.counted, names, found.budgets, across=found.across, reference=found.study.reference)
        yield Section(
            title="The front, across all devices and sizes",
            note=f"Each measured value relative to {found.ranking.reference or 'the reference'} in the same place. "
            + _membership(found.objectives),
            figure=front_figure(whole, x, y, colors=colors),
        )  # fmt: skip
    for where, row in places.items():
        here = [other for other in found.study.rows if place_of(other) == where]
        # What a place never has (peak memory is taken at the largest size) is no objective there.
        names = [name for name in found.objectives if any(other.get(name) is not None for other in here)]
        budgets = [budget for budget in found.budgets if budget.objective in names]
        if not names:
            continue
        x, y = _axes(names)
        ranking = rank(here, list(dict.fromkeys([*names, x, y])), budgets, reference=found.study.reference)
        yield Section(
            title=f"The front: {place(row)}", note=_membership(names),
            figure=front_figure(ranking, x, y, colors=colors),
        )  # fmt: skip
    yield Section(
        title="Objectives and knobs together",
        note="Each line is a candidate. Drag along an axis to keep those that cross it there; better is up.",
        figure=parallel_figure(found.ranking),
    )
    spent = [
        (m.created_unix, m.summary.total_s)
        for m in found.study.measurements if m.summary is not None and m.pool not in found.left_out
    ]  # fmt: skip
    yield Section(
        title="What the time has brought",
        note="Hypervolume of the ranked candidates, as a share of the box from the best value of each objective to its "
        f"reference point ({REFERENCE_NAME}), against the time that devices worked.",
        figure=progress_figure(found.ranking, spent),
    )  # fmt: skip
    yield Section(
        title="Embeddings", note="What share of all parameters only stores the vocabulary.",
        figure=embedding_figure(found.ranking, colors=colors),
    )  # fmt: skip


def _axes(objectives: Sequence[str]) -> tuple[str, str]:
    """The first two; beside a single one the parameters that are left for computing."""
    x, y = [*objectives, "embedding_share" if "effective_params" in objectives else "effective_params"][:2]
    return x, y


def _membership(objectives: Sequence[str]) -> str:
    from reports.objectives import quantity

    if len(objectives) < 3:
        return "Hover a point for what it is; click the legend to hide a kind."
    labels = ", ".join(quantity(name).label for name in objectives)
    return (
        f"On the front counts in all objectives ({labels}), of which two are drawn: a point may be on it for another."
    )

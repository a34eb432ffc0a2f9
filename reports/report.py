"""A study as one page: its figures in the order in which somebody decides, its table, and how to read both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.figures import agreement_figure, embedding_figure, front_figure, parallel_figure, progress_figure
from reports.figures.agreement import compared
from reports.fronts import REFERENCE_NAME
from reports.page import Section, table_html, write_sections
from reports.ranking import Ranking
from reports.snapshot import Snapshot, kinds_text
from reports.values import Row


def write_report(path: Path, snapshot: Snapshot, table: Sequence[Row]) -> None:
    """Write a study that has measured something.

    Args:
        path: The file; replaced in one step.
        snapshot: The study.
        table: Its ranked rows.

    Raises:
        OSError: It cannot be written.
    """
    write_sections(
        path, title=f"archsearch: {snapshot.name}", facts=snapshot.facts, sections=sections(snapshot),
        table=table_html(table, snapshot.objectives, snapshot.colors), notes=snapshot.notes,
    )  # fmt: skip


def sections(snapshot: Snapshot) -> Iterator[Section]:
    """A front across all places and one for each, then all objectives, progress, agreement and embeddings."""
    colors = snapshot.colors
    whole: Ranking | None = None
    for scope in snapshot.scopes():
        names = snapshot.objectives_in(scope)
        if not names:
            continue
        axes = snapshot.axes(scope)
        ranking = snapshot.ranking(scope, drawn=axes)
        whole = whole or ranking
        related = f"Each measured value relative to {ranking.reference} in the same place. " if ranking.relative else ""
        yield Section(
            title=f"The front: {scope.title}", note=related + kinds_text(names, axes),
            figure=front_figure(ranking, *axes, colors=colors),
        )  # fmt: skip
    if whole is None:
        return
    yield Section(
        title="Objectives and knobs together",
        note="Each line is a candidate. Drag along an axis to keep those that cross it there; better is up.",
        figure=parallel_figure(whole),
    )
    yield Section(
        title="What the time has brought",
        note="Hypervolume of the ranked candidates, as a share of the box from the best value of each objective to its "
        f"reference point ({REFERENCE_NAME}), against the time that devices worked.",
        figure=progress_figure(whole, snapshot.spent_in(snapshot.scopes()[0])),
    )
    if pairs := compared(snapshot.rows, snapshot.objectives):
        yield Section(
            title="Do devices agree",
            note="Kendall's tau-b of the candidates' order on two devices, with its 95% interval. Where it is low, a "
            "layout that is good on one says little of the other.",
            figure=agreement_figure(pairs),
        )
    yield Section(
        title="Embeddings", note="What share of all parameters only stores the vocabulary.",
        figure=embedding_figure(whole, colors=colors),
    )  # fmt: skip

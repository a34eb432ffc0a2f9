"""Layouts that only a poor kernel keeps off the front.

For each block of a layout the comparisons of kernels tell how near it comes to its roofline on that device. A block
whose kernel is far below what the best kernel of its kind reached there may be slow by accident. What is told: with
its worst kernel at the best share of the roofline seen for that kind, the layout would be on the front. It is a reason
to write or to wait for a kernel, and no measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from archsearch.kernels import stored_times
from archsearch.measurement import Measurement
from archsearch.records import from_record
from archsearch.roofline import decode_roof_ms, prefill_roof_ms
from archsearch.store import Store
from archsearch.tuning import representative
from profiler.workloads import Point
from reports.ranking import Entry, Ranking, rank
from reports.values import Row
from search_space.blocks import Block
from search_space.errors import SearchSpaceError
from search_space.layout import Layout, block_id, block_name
from search_space.layout_file import parse_block

PHASES = ("prefill", "decode")
_OF = {"prefill": "ttft_ms", "decode": "decode_ms"}
_NOTICEABLE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Potential:
    """What one better kernel would do for a layout.

    Attributes:
        layout_id: Of the layout.
        title: Of the layout, for people.
        kind: The block whose kernel is meant.
        device: Where.
        shares: Its share of the roofline now, by phase.
        best: The best share seen for that kind on that device, by phase.
        times_ms: TTFT and decode time now and then, by column.
    """

    layout_id: str
    title: str
    kind: str
    device: str
    shares: Mapping[str, float]
    best: Mapping[str, float]
    times_ms: Mapping[str, tuple[float, float]]

    def text(self) -> str:
        """One sentence for people."""
        kernels = ", ".join(
            f"{self.shares[phase]:.0%} of its roofline in {phase} where {self.best[phase]:.0%} was reached"
            for phase in PHASES
            if self.best[phase] > self.shares[phase] * (1 + _NOTICEABLE)
        )
        names = {"ttft_ms": "TTFT", "decode_ms": "decode"}
        moved = ", ".join(
            f"{names[column]} {now:.4g} -> {then:.4g} ms" for column, (now, then) in self.times_ms.items() if then < now
        )
        better = f"a better kernel for {self.kind} on {self.device}"
        return f"{self.title} would be on the front with {better} ({kernels}): {moved}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One lowering of one block at one point, as its latest comparison found it.

    Attributes:
        times_ms: By phase.
        shares: Of the roofline, by phase.
    """

    times_ms: Mapping[str, float]
    shares: Mapping[str, float]


class KernelBook:
    """What comparisons found of kernels, each against the rates that were measured beside it.

    Asked for a measured layout, it answers from comparisons under the same conditions alone: device, runtime, threads,
    method (`archsearch.measurement.conditions`).

    Args:
        store: Holds the study of comparisons.
        study: Its name.
    """

    def __init__(self, store: Store, study: str) -> None:
        self._kernels: dict[tuple[str, str, str], dict[tuple[str, Point], Kernel]] = {}
        for record in store.measurements(study):  # the latest come last
            if record.status != "ok" or not record.name:
                continue
            with suppress(SearchSpaceError):  # of a plug-in that is no longer here, or no longer exports
                block, width = parse_block(record.name)
                self._keep(from_record(record, {}), block, width)

    def _keep(self, measurement: Measurement, block: Block, width: int) -> None:
        if not measurement.result or not all(part.points for part in measurement.result.contenders):
            return  # of an earlier method
        points, times, rates = stored_times(measurement)
        if rates is None:
            return
        key = (measurement.conditions, block_name(block, width), measurement.precision)
        known = self._kernels.setdefault(key, {})
        for at, point in enumerate(points):
            roofs = {
                "prefill": prefill_roof_ms(block, width, rates, point),
                "decode": decode_roof_ms(block, width, rates, point),
            }
            for time in times:
                if not time.error:
                    spent = {"prefill": time.prefill_ms[at].value, "decode": time.decode_ms[at].value}
                    shares = {phase: roofs[phase] / spent[phase] for phase in PHASES}
                    known[time.lowering, replace(point, decode=1)] = Kernel(times_ms=spent, shares=shares)

    def kernels(self, measurement: Measurement, block: Block, width: int, point: Point) -> dict[str, Kernel]:
        """By lowering, what is known of a block of a measured layout at a point's batch, prompt and pieces."""
        key = (measurement.conditions, block_name(representative(block), width), measurement.precision)
        return {
            lowering: kernel
            for (lowering, where), kernel in self._kernels.get(key, {}).items()
            if where == replace(point, decode=1)
        }


def potentials(
    ranking: Ranking,
    rows: Sequence[Row],
    measurements: Iterable[Measurement],
    book: KernelBook,
    *,
    reference: str | None,
    across: str,
) -> list[Potential]:
    """Layouts that would join the front; the ranking's own order.

    Args:
        ranking: As shown.
        rows: What it was made of.
        measurements: Of the study: their layouts and lowerings.
        book: What is known of kernels.
        reference: As given to `rank`.
        across: As given to `rank`.
    """
    by_job = {m.job_id: m for m in measurements if m.layout is not None and m.status == "ok"}
    best = _best_shares(by_job, rows, book)
    found = []
    for entry in ranking.ranked:
        if entry.front == "on":
            continue
        for potential, better in _better(entry, by_job, best, book):
            theirs = [row for row in rows if row not in entry.rows]
            again = rank(
                [*theirs, *better], [o.name for o in ranking.objectives], ranking.budgets, across=across,
                reference=reference,
            )  # fmt: skip
            if any(other.key == entry.key and other.front == "on" for other in again.entries):
                found.append(potential)
                break
    return found


Shares = dict[tuple[str, str, str, Point], dict[str, float]]
"""Best share of the roofline by conditions, precision, kind and prefill; by phase."""


def _key(measurement: Measurement, kind: str, point: Point) -> tuple[str, str, str, Point]:
    return measurement.conditions, measurement.precision, kind, replace(point, decode=1)


def _blocks(layout: Layout) -> dict[Block, int]:
    """How often each block stands in a layout."""
    found: dict[Block, int] = {}
    for layer in layout.layers:
        for block in (layer.mixer, layer.ffn):
            if block is not None and block.kind != "none":
                found[block] = found.get(block, 0) + 1
    return found


def _point(row: Row) -> Point:
    return Point(
        batch=int(row["batch"]), prompt=int(row["prompt"]), decode=int(row["decode"]), chunk=int(row.get("chunk") or 0)
    )


def _best_shares(by_job: Mapping[str, Measurement], rows: Sequence[Row], book: KernelBook) -> Shares:
    best: Shares = {}
    for row in rows:
        measurement = by_job.get(str(row["job_id"]))
        if measurement is None or measurement.layout is None:
            continue
        point = _point(row)
        for block in _blocks(measurement.layout):
            for kernel in book.kernels(measurement, block, measurement.layout.width, point).values():
                seen = best.setdefault(_key(measurement, block.kind, point), dict.fromkeys(PHASES, 0.0))
                for phase, share in kernel.shares.items():
                    seen[phase] = max(seen[phase], share)
    return best


def _better(
    entry: Entry, by_job: Mapping[str, Measurement], best: Shares, book: KernelBook
) -> Iterator[tuple[Potential, list[dict[str, Any]]]]:
    """For each kind of block, the layout's rows with that kernel at its best; the largest gain first."""
    measured = [(row, by_job[str(row["job_id"])]) for row in entry.rows if str(row["job_id"]) in by_job]
    if len(measured) < len(entry.rows):
        return
    layout = measured[0][1].layout
    assert layout is not None
    options: list[tuple[float, Potential, list[dict[str, Any]]]] = []
    for kind in sorted({block.kind for block in _blocks(layout)}):
        rows: list[dict[str, Any]] = []
        potential: Potential | None = None
        gain = 0.0
        for row, measurement in measured:
            saved, shares = _saved(row, measurement, layout, kind, best, book)
            changed = dict(row)
            times: dict[str, tuple[float, float]] = {}
            for phase, column in _OF.items():
                for name in (column, f"{column}_low", f"{column}_high"):
                    if isinstance(row.get(name), float):
                        changed[name] = max(1e-6, row[name] - saved[phase])
                if isinstance(row.get(column), float):
                    times[column] = (row[column], changed[column])
                    gain = max(gain, saved[phase] / row[column])
            rows.append(changed)
            if shares is not None and (potential is None or saved["prefill"] + saved["decode"] > 0):
                potential = Potential(
                    layout_id=layout.layout_id, title=entry.title, kind=kind, device=str(row["device"]),
                    shares=shares[0], best=shares[1], times_ms=times,
                )  # fmt: skip
        if potential is not None and gain >= _NOTICEABLE:
            options.append((gain, potential, rows))
    for _, potential, rows in sorted(options, key=lambda option: -option[0]):
        yield potential, rows


def _saved(
    row: Row, measurement: Measurement, layout: Layout, kind: str, best: Shares, book: KernelBook
) -> tuple[dict[str, float], tuple[Mapping[str, float], Mapping[str, float]] | None]:
    """Milliseconds that the best share of the roofline would save in a row, by phase; and both shares."""
    saved, shares = dict.fromkeys(PHASES, 0.0), None
    point = _point(row)
    limit = best.get(_key(measurement, kind, point))
    if limit is None:
        return saved, None
    for block, count in _blocks(layout).items():
        lowering = measurement.lowerings.get(block_id(block, layout.width))
        kernel = book.kernels(measurement, block, layout.width, point).get(lowering or "")
        if block.kind != kind or kernel is None:
            continue
        shares = (kernel.shares, limit)
        for phase in PHASES:
            saved[phase] += count * kernel.times_ms[phase] * max(0.0, 1 - kernel.shares[phase] / limit[phase])
    return saved, shares

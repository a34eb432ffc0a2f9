"""Layouts that only a poor kernel keeps off the front.

For each block of a layout the comparisons of kernels tell how near it comes to its roofline on that device. A block
whose kernel is far below what the best kernel of its kind reached there may be slow by accident. What is told: with
its worst kernel at the best share of the roofline seen for that kind, the layout would be on the front. It is a reason
to write or to wait for a kernel, and no measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archsearch.kernels import KernelTime, stored_times
from archsearch.measurement import Measurement
from archsearch.records import from_record
from archsearch.roofline import RATES, Rates, decode_roof_ms, prefill_roof_ms, read_rates
from archsearch.store import Store
from archsearch.tuning import representative
from profiler.workloads import Point
from reports.ranking import Entry, Ranking, Row, rank
from search_space.blocks import Block
from search_space.graph.precision import PRECISIONS, PrecisionName
from search_space.layout import Layout, block_id, block_name

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


class KernelBook:
    """What the store knows of kernels and rates, by device.

    Args:
        store: Holds the study of comparisons.
        study: Its name.
    """

    def __init__(self, store: Store, study: str) -> None:
        self._times: dict[tuple[str, str, str], dict[tuple[str, Point], tuple[KernelTime, int]]] = {}
        self._rates: dict[tuple[str, str], Rates] = {}
        for record in store.measurements(study):
            if record.status != "ok" or not record.name:
                continue
            measurement = from_record(record, {})
            if record.name == RATES:
                self._keep_rates(measurement)
            else:
                self._keep_times(measurement)

    def _keep_rates(self, measurement: Measurement) -> None:
        precision = next(name for name in PRECISIONS if name == measurement.precision)
        rates = read_rates(measurement, precision)
        if rates is not None:
            self._rates[measurement.device, precision] = rates

    def _keep_times(self, measurement: Measurement) -> None:
        workload, times = stored_times(measurement)
        known = self._times.setdefault((measurement.device, str(measurement.name), measurement.precision), {})
        for at, point in enumerate(workload.points):
            known.update({(time.lowering, replace(point, decode=1)): (time, at) for time in times if not time.error})

    def rates(self, device: str, precision: str) -> Rates | None:
        """A device's rates."""
        return self._rates.get((device, precision))

    def times(self, device: str, block: Block, width: int, precision: str, point: Point) -> dict[str, dict[str, float]]:
        """By lowering, milliseconds of one block by phase, at a point's batch, prompt and pieces."""
        known = self._times.get((device, block_name(representative(block), width), precision), {})
        return {
            lowering: {"prefill": time.prefill_ms[at].value, "decode": time.decode_ms[at].value}
            for (lowering, where), (time, at) in known.items()
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
    by_id = {m.layout.layout_id: m for m in measurements if m.layout is not None and m.status == "ok"}
    best = _best_shares(by_id.values(), rows, book)
    found = []
    for entry in ranking.ranked:
        measurement = by_id.get(str(entry.rows[0].get("layout_id")))
        if entry.front == "on" or measurement is None:
            continue
        for potential, better in _better(entry, measurement, best, book):
            theirs = [row for row in rows if row not in entry.rows]
            again = rank(
                [*theirs, *better], [o.name for o in ranking.objectives], ranking.budgets, across=across,
                reference=reference,
            )  # fmt: skip
            if any(other.key == entry.key and other.front == "on" for other in again.entries):
                found.append(potential)
                break
    return found


Shares = dict[tuple[str, str, Point], dict[str, float]]
"""Best share of the roofline by device, kind and prefill; by phase."""


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


def _shares(block: Block, width: int, rates: Rates, point: Point, times: Mapping[str, float]) -> dict[str, float]:
    return {
        "prefill": prefill_roof_ms(block, width, rates, point) / times["prefill"],
        "decode": decode_roof_ms(block, width, rates, point) / times["decode"],
    }


def _best_shares(measurements: Iterable[Measurement], rows: Sequence[Row], book: KernelBook) -> Shares:
    best: Shares = {}
    layouts = {m.layout.layout_id: m.layout for m in measurements if m.layout is not None}
    for row in rows:
        layout, rates = layouts.get(str(row["layout_id"])), book.rates(row["device"], row["precision"])
        if layout is None or rates is None:
            continue
        point = _point(row)
        for block in _blocks(layout):
            stands_for = representative(block)
            for times in book.times(row["device"], block, layout.width, row["precision"], point).values():
                key = (row["device"], block.kind, replace(point, decode=1))
                seen = best.setdefault(key, dict.fromkeys(PHASES, 0.0))
                for phase, share in _shares(stands_for, layout.width, rates, point, times).items():
                    seen[phase] = max(seen[phase], share)
    return best


def _better(
    entry: Entry, measurement: Measurement, best: Shares, book: KernelBook
) -> Iterator[tuple[Potential, list[dict[str, Any]]]]:
    """For each kind of block, the layout's rows with that kernel at its best; the largest gain first."""
    layout = measurement.layout
    assert layout is not None
    precision: PrecisionName = next(name for name in PRECISIONS if name == measurement.precision)
    options: list[tuple[float, Potential, list[dict[str, Any]]]] = []
    for kind in sorted({block.kind for block in _blocks(layout)}):
        rows: list[dict[str, Any]] = []
        potential: Potential | None = None
        gain = 0.0
        for row in entry.rows:
            saved, shares = _saved(row, measurement, layout, kind, precision, best, book)
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
    row: Row,
    measurement: Measurement,
    layout: Layout,
    kind: str,
    precision: PrecisionName,
    best: Shares,
    book: KernelBook,
) -> tuple[dict[str, float], tuple[dict[str, float], dict[str, float]] | None]:
    """Milliseconds that the best share of the roofline would save in a row, by phase; and both shares."""
    saved, shares = dict.fromkeys(PHASES, 0.0), None
    device, point = str(row["device"]), _point(row)
    rates = book.rates(device, precision)
    limit = best.get((device, kind, replace(point, decode=1)))
    if rates is None or limit is None:
        return saved, None
    for block, count in _blocks(layout).items():
        lowering = measurement.lowerings.get(block_id(block, layout.width))
        times = book.times(device, block, layout.width, precision, point).get(lowering or "")
        if block.kind != kind or times is None:
            continue
        now = _shares(representative(block), layout.width, rates, point, times)
        shares = (now, limit)
        for phase in PHASES:
            saved[phase] += count * times[phase] * max(0.0, 1 - now[phase] / limit[phase])
    return saved, shares

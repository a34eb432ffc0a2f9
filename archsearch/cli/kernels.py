"""Commands about blocks and their kernels: `tune` compares the lowerings of a layout's blocks, `blocks` the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import INTERRUPTED, NOTHING_MEASURED, CommandError
from archsearch.cli.layouts import precision_option
from archsearch.cli.opening import open_devices, stop_on_signals
from archsearch.cli.output import Row, console, count, one_of, print_list
from archsearch.cli.tuners import open_tuners
from archsearch.progress import DevicePanel

if TYPE_CHECKING:
    from archsearch.tuning import Tuner
    from search_space.layout import Layout

TELL_EVERY_S = 20.0
MIN_CONTEXT, MAX_CONTEXT, MAX_CONTEXTS = 16, 131_072, 12


def tune_command(
    layouts: Sequence[str],
    *,
    devices: Path,
    device: Sequence[str] | None,
    workload: str,
    precision: str,
    output_format: str,
    store: str | None,
    runs: Path,
) -> int:
    """`archsearch tune`; exit code 5 when no device gave a choice."""
    from archsearch.configuration import DEFAULT_ANCHORS
    from archsearch.kernels import capped, tuning_rows
    from archsearch.layout_ids import find_layout
    from archsearch.tuning import representative
    from profiler.workloads import parse_workload
    from reports.tables import FORMATS
    from search_space.layout import block_id, distinct_blocks

    one_of(output_format, FORMATS, "--format")
    wanted = precision_option(precision)
    load = capped(parse_workload(workload))
    named: list[Layout] = [find_layout(text, store=store, runs=runs).layout for text in layouts or DEFAULT_ANCHORS]
    blocks = list(dict.fromkeys((representative(b), width) for layout in named for b, width in distinct_blocks(layout)))

    def work(name: str, tuner: Tuner, panel: DevicePanel) -> Iterator[Row]:
        for number, (block, width) in enumerate(blocks, 1):
            panel.say(f"{name}: block {number} of {len(blocks)}: {block_id(block, width)}")
            tuning = tuner.tuning(block, width, wanted, load, partial(panel.device, name, block.kind))
            if tuning is not None:
                yield from tuning_rows(tuning)

    rows = _on_each_device(work, devices, device, store=store, runs=runs)
    if rows is None:
        return INTERRUPTED
    print_list(rows, _TUNE, output_format, right=(4, 5, 6, 7, 8))
    if output_format == "table" and rows:
        console(stderr=True).print(_ROOF)
    _say_unsettled(rows, lambda row: f"{row['block_id']} at prompt {row['prompt']}")
    return 0 if any(row["chosen"] for row in rows) else NOTHING_MEASURED


def blocks_command(
    *,
    devices: Path,
    device: Sequence[str] | None,
    context: str,
    iso: str,
    width: int,
    precision: str,
    figure: Path | None,
    output_format: str,
    store: str | None,
    runs: Path,
) -> int:
    """`archsearch blocks`; exit code 5 when no device gave numbers."""
    from archsearch.block_table import contestants, measure_context
    from archsearch.errors import ComparisonError
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    wanted = precision_option(precision)
    contexts = _contexts(context)
    kinds = contestants(_width(width), "params" if one_of(iso, ("params", "width"), "--iso") == "params" else "width")
    if figure is not None and figure.suffix.lower() != ".html":
        raise CommandError(f"--figure {figure}: the figure is a page; its name must end in .html")
    if figure is not None and not figure.absolute().parent.is_dir():
        raise CommandError(f"--figure {figure}: there is no folder {figure.parent}")

    def work(name: str, tuner: Tuner, panel: DevicePanel) -> Iterator[Row]:
        for number, length in enumerate(contexts, 1):
            label = f"context {length}"
            panel.say(f"{name}: {label} ({number} of {len(contexts)})")
            told = partial(panel.device, name, label)
            try:
                measured = [*measure_context(tuner.measurer, kinds, width, wanted, length, tuner.cache_bytes, told)]
            except ComparisonError as error:
                panel.say(f"{name}: {error}")
                continue
            yield from (row.to_json() for row in measured)

    rows = _on_each_device(work, devices, device, store=store, runs=runs)
    if rows is None:
        return INTERRUPTED
    print_list(rows, _BLOCKS, output_format, right=range(2, 13))
    if output_format == "table" and rows:
        console(stderr=True).print(_ROOF)
        console(stderr=True).print(_RATIO)
    _say_unsettled(rows, lambda row: f"{row['block']} at context {row['context']:,}")
    if figure is not None and rows:
        _write_figure(rows, figure)
    return 0 if rows else NOTHING_MEASURED


def _on_each_device(
    work: Callable[[str, Tuner, DevicePanel], Iterator[Row]],
    devices: Path,
    device: Sequence[str] | None,
    *,
    store: str | None,
    runs: Path,
) -> list[Row] | None:
    """The rows that `work` gives for one device after the other; None when the user stops."""
    from archsearch.measuring import Interrupted
    from profiler.errors import ProfilerError

    rows: list[Row] = []
    with (
        stop_on_signals() as cancel,
        open_devices(devices, device) as sessions,
        DevicePanel(every_s=TELL_EVERY_S) as panel,
        open_tuners(sessions, store=store, runs=runs, cancel=cancel, say=panel.say) as tuners,
    ):
        for name, tuner in tuners.items():
            try:
                for row in work(name, tuner, panel):
                    rows.append(row)
            except Interrupted:
                panel.say("stopped by you; what was compared is kept")
                return None
            except ProfilerError as error:
                panel.say(f"archsearch: {name}: {error}")
            panel.idle(name)
    return rows


def _say_unsettled(rows: Sequence[Row], title: Callable[[Row], str]) -> None:
    """Name what may not have the times of a device that has warmed up, its lowerings in one line."""
    from archsearch.table import NOT_WARM

    found: dict[str, list[str]] = {}
    for row in rows:
        if row["warm"] is False:
            found.setdefault(f"{row['device']}: {title(row)}", []).append(row["lowering"])
    for what, lowerings in found.items():
        console(stderr=True).print(f"{what} ({', '.join(lowerings)}): {NOT_WARM}")


def _contexts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and MIN_CONTEXT <= int(part) <= MAX_CONTEXT for part in parts):
        raise CommandError(
            f"--context {text!r}: token counts from {MIN_CONTEXT} to {MAX_CONTEXT}, commas between, such as 512,4096"
        )
    found = sorted({int(part) for part in parts})
    if len(found) > MAX_CONTEXTS:
        raise CommandError(f"--context names {len(found)} lengths; at most {MAX_CONTEXTS} are compared in one go")
    return found


def _width(width: int) -> int:
    if not 256 <= width <= 8192 or width % 256:  # between, heads of 256 cannot make up equal parameters
        raise CommandError(f"--width {width}: a multiple of 256 from 256 to 8192")
    return width


def _write_figure(rows: Sequence[Row], path: Path) -> None:
    from reports.figures import blocks_figure
    from reports.page import write_page

    try:
        write_page(blocks_figure(rows), path)
    except OSError as error:
        raise CommandError(f"--figure {path}: {error.strerror or error}") from error
    console(stderr=True).print(f"written to {path}")


def _ms(row: Row, phase: str) -> str:
    from reports.formatting import with_interval

    value = row[f"{phase}_ms"]
    return "—" if value is None else with_interval(value, row[f"{phase}_ms_low"], row[f"{phase}_ms_high"])


def _ratio(row: Row, phase: str) -> str:
    value, low, high = (row[f"{phase}_ratio{end}"] for end in ("", "_low", "_high"))
    return "—" if value is None else "1" if low == high else f"{value:.2f} ({low:.2f}-{high:.2f})"


def _share(row: Row, phase: str) -> str:
    share = row[f"{phase}_roof_share"]
    return "—" if share is None else f"{share:.0%}"


_ROOF = (
    "ms are of one block with the norm before it; in decode its weights come from memory and not from a cache; ± is "
    "half a 95% interval; roof: the share of what the device's best products would reach with the block's bytes and "
    "operations"
)

_RATIO = (
    "ratio: times the first block's time, paired within processes, with its 95% interval; it is known better than the "
    "times themselves where the machine's speed wanders"
)

_TUNE: Mapping[str, Callable[[Row], Any]] = {
    "device": itemgetter("device"),
    "block": itemgetter("block_id"),
    "lowering": itemgetter("lowering"),
    "": lambda row: "*" if row["chosen"] else "",
    "prompt": itemgetter("prompt"),
    "prefill ms": lambda row: _ms(row, "prefill"),
    "roof": lambda row: _share(row, "prefill"),
    "decode ms": lambda row: _ms(row, "decode"),
    "its roof": lambda row: _share(row, "decode"),
    "why": lambda row: row["error"] or (row["why"] if row["chosen"] else ""),
}

_BLOCKS: Mapping[str, Callable[[Row], Any]] = {
    "device": itemgetter("device"),
    "block": itemgetter("block"),
    "context": lambda row: f"{row['context']:,}",
    "parameters": lambda row: count(row["params"]),
    "lowering": lambda row: row["lowering"] or "none",
    "prefill ms": lambda row: _ms(row, "prefill"),
    "ratio": lambda row: _ratio(row, "prefill"),
    "roof": lambda row: _share(row, "prefill"),
    "decode ms": lambda row: _ms(row, "decode"),
    "its ratio": lambda row: _ratio(row, "decode"),
    "its roof": lambda row: _share(row, "decode"),
    "state KiB": lambda row: f"{row['state_bytes'] / 1024:,.0f}",
    "peak MiB": lambda row: "—" if row["peak_rss_mib"] is None else f"{row['peak_rss_mib']:,.0f}",
}

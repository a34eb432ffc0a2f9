"""`archsearch measure`: one layout or ONNX file, on the devices, afresh."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.cli.exits import INTERRUPTED, NO_DEVICE, NOTHING_MEASURED, CommandError
from archsearch.cli.layouts import lowering_options, precision_option
from archsearch.cli.opening import chosen_devices, open_devices, stop_on_signals
from archsearch.cli.output import console, one_of
from archsearch.cli.profiles import print_profiles, with_profiles
from archsearch.cli.run import seconds
from archsearch.cli.studies import ADHOC_STUDY, open_store
from archsearch.cli.tuners import open_tuners
from archsearch.progress import DevicePanel
from search_space.blocks import EXPORTED, letter_colors

if TYPE_CHECKING:
    from archsearch.measurement import Measurement
    from archsearch.store import Store
    from archsearch.subjects import Subject
    from profiler.devices import Device
    from profiler.workloads import Workload

MAX_PROCESSES = 12
"""Of one measurement made by hand: a narrow interval is worth a minute there; a search spreads its time."""

TELL_EVERY_S = 20.0
"""Seconds between two lines on what a device does, where there is no terminal."""

COLUMNS = (
    "name", "code", "device", "workload", "prompt", "decode", "batch", "precision", "status", "ttft_ms",
    "prefill_tokens_per_s", "decode_ms", "decode_ms_p95", "decode_tokens_per_s", "peak_rss_mib", "weights_mib",
    "state_mib", "total_params", "embedding_share", "reason",
)  # fmt: skip

_NOT_QUIET = "before the intervals were narrow (2%): the device is not quiet enough for them"
_STOPPED = {
    "interval": "stopped because the intervals were narrow enough (2%)",
    "time_budget": f"stopped because the time budget was used up {_NOT_QUIET}; more narrows them: --time-budget 5m",
    "max_processes": f"stopped after {MAX_PROCESSES} processes, {_NOT_QUIET}",
}


def measure_command(
    what: str,
    *,
    devices: Path,
    device: Sequence[str] | None,
    workload: str,
    precision: str,
    batch: str | None,
    lowering: Sequence[str] | None,
    tune: bool,
    with_weights: Path | None,
    time_budget: str,
    profile: bool,
    output_format: str,
    seed: int,
    store: str | None,
    runs: Path,
) -> int:
    """Measure and print; exit code 5 when no device gave numbers."""
    from profiler.workloads import parse_workload
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    budget_s = seconds(time_budget)
    load = parse_workload(workload, batch)
    if with_weights is None:
        subject = _subject(what, load, precision, lowering, seed, store, runs)
        chosen_devices(devices, device)  # what is wrong with them is found before anything is made
        return _measure(subject, devices, device, tune, budget_s, profile, output_format, seed, store, runs)
    _require_local(chosen_devices(devices, device))
    with _trained(what, with_weights, load, precision, lowering, runs) as subject:
        return _measure(subject, devices, device, tune, budget_s, profile, output_format, seed, store, runs)


def _measure(
    subject: Subject,
    devices: Path,
    device: Sequence[str] | None,
    tune: bool,
    budget_s: float,
    profile: bool,
    output_format: str,
    seed: int,
    store: str | None,
    runs: Path,
) -> int:
    from archsearch.measuring import Interrupted, Measurer
    from archsearch.table import rows
    from profiler.errors import AgentDied, ResultError, TransportError
    from profiler.jobs import Protocol
    from reports.tables import render

    database = open_store(ADHOC_STUDY, store=store, runs=runs, create=True)
    database.create_study(ADHOC_STUDY, {"format": 1, "adhoc": True})
    log = console(stderr=True)
    measured: list[Measurement] = []
    failures = 0
    protocol = Protocol(seed=seed, time_budget_s=budget_s, max_processes=MAX_PROCESSES, profile=True)
    with (
        stop_on_signals() as cancel,
        open_devices(devices, device) as sessions,
        DevicePanel(every_s=TELL_EVERY_S) as panel,
        open_tuners(sessions, store=store, runs=runs, cancel=cancel, say=panel.say) as tuners,
    ):
        for session in sessions:
            name = session.device.name
            measurer = Measurer(
                session,
                database,
                study=ADHOC_STUDY,
                protocol=protocol,
                cancel=cancel,
                say=panel.say,
                tuner=tuners[name] if tune else None,
            )
            panel.say(f"{name}: measuring {subject.label} ({subject.workload.name}, {subject.precision})")
            try:
                measurer.sweep()
                told = partial(panel.device, name, subject.label)
                measured.append(measurer.measure(subject, fresh=True, on_status=told).measurement)
            except Interrupted:
                panel.say("stopped by you; nothing of this measurement is kept")
                return INTERRUPTED
            except (AgentDied, ResultError) as error:
                measured.append(measurer.store_unmeasured(subject, "failed", str(error)))
            except TransportError as error:
                failures += 1
                panel.say(f"archsearch: {name} cannot go on: {error}")
            panel.idle(name)
    table = with_profiles(rows(measured), measured) if profile else rows(measured)
    print(render(table, list(COLUMNS), output_format, letter_styles=letter_colors()), end="")
    if profile and output_format in ("table", "md"):
        print_profiles(measured, output_format)
    for measurement in measured:
        for line in [*remarks(measurement), *_unlike_before(database, measurement)]:
            log.print(f"{measurement.device}: {line}")
    database.close()
    if not measured:
        return NO_DEVICE if failures else NOTHING_MEASURED
    return 0 if any(m.status == "ok" for m in measured) else NOTHING_MEASURED


def _unlike_before(database: Store, measurement: Measurement) -> list[str]:
    """Whether the last measurement under the same key disagrees; processes of one sitting share a device's state."""
    from archsearch.records import from_record

    if measurement.status != "ok":
        return []
    records = database.measurements(ADHOC_STUDY)
    mine = next((record for record in records if record.job_id == measurement.job_id), None)
    if mine is None or measurement.layout is None:
        return []
    same = [r for r in records if r.key_hash == mine.key_hash and r.status == "ok" and r.job_id != mine.job_id]
    if not same:
        return []
    before = from_record(same[-1], {measurement.layout.layout_id: measurement.layout})
    lines = []
    for old, new in zip(before.measured_points, measurement.measured_points, strict=True):
        if old.summary and new.summary and not old.summary.decode_ms.overlaps(new.summary.decode_ms):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(before.created_unix))
            lines.append(
                f"{new.point.text}: decode was {old.summary.decode_ms.value:.4g} ms on {when}, outside this interval: "
                "the device is in another state (clocks, neighbours); compare only what is measured beside each other"
            )
    return lines


def remarks(measurement: Measurement) -> list[str]:
    """What a reader of the numbers must know: why it failed, what was discarded, what is underpowered."""
    from search_space.layout import by_kind

    if measurement.status != "ok":
        return [f"{measurement.status}: {measurement.reason}"]
    lines = []
    for view in measurement.measured_points:
        summary = view.summary
        if summary is None:
            continue
        text = f"{view.point.text}: {summary.processes} processes, {summary.decode_samples} decode samples"
        text += f", spread between processes {summary.decode_spread:.1%} (decode), {summary.ttft_spread:.1%} (TTFT)"
        if summary.p95_underpowered:
            text += "; p95 is underpowered (fewer than 130 samples)"
        if summary.discarded:
            text += f"; {summary.discarded} sequences discarded because others used the processor"
        if not summary.warm:
            text += "; warm-up was not seen to end in every process: the result may be unstable"
        lines.append(text)
    if measurement.result is not None and measurement.result.stopped_because:
        lines.append(_STOPPED[measurement.result.stopped_because])
    lines += [
        f"{block} runs as exported by torch: its time is of that graph, not of a kernel tuned for it"
        for block, lowering in by_kind(measurement.lowerings).items()
        if EXPORTED in lowering.split("+")
    ]
    return lines


def _subject(
    what: str,
    workload: Workload,
    precision: str,
    lowering: Sequence[str] | None,
    seed: int,
    store: str | None,
    runs: Path,
) -> Subject:
    from archsearch.onnx_files import foreign_subject, onnx_file

    if (path := onnx_file(what)) is not None:
        return foreign_subject(path, workload)
    from archsearch.candidates import prepare
    from archsearch.layout_ids import find_layout
    from archsearch.subjects import Subject

    named = find_layout(what, store=store, runs=runs)
    prepared = prepare(
        named.layout,
        workload=workload,
        precision=precision_option(precision),
        lowerings=lowering_options(lowering),
        seed=seed,
    )
    return Subject(
        label=named.name or named.layout.code,
        workload=workload,
        precision=precision,
        layout=named.layout,
        prepared=prepared,
        name=named.name,
        pins=lowering_options(lowering),
        seed=seed,
    )


def _require_local(devices: Sequence[Device]) -> None:
    """Trained weights are measured as a file that lies on the device: that of this machine, so far."""
    far = [f"{device.name} ({device.transport})" for device in devices if device.transport != "local"]
    if far:
        raise CommandError(
            f"--with-weights measures devices with `transport: local` only, not {', '.join(far)}",
            hint="--device NAME chooses one; without the option seeded random weights of the same size are measured",
        )


@contextmanager
def _trained(
    what: str, checkpoint: Path, workload: Workload, precision: str, lowering: Sequence[str] | None, runs: Path
) -> Iterator[Subject]:
    """A layout with trained weights, exported into a temporary folder beside the studies."""
    from archsearch.cli.export import say_ignored, write_export
    from archsearch.onnx_files import foreign_subject, onnx_file
    from search_space.export import export_layout
    from search_space.notation import resolve

    if onnx_file(what) is not None:
        raise CommandError(f"{what} has its weights already; --with-weights goes with a layout")
    named = resolve(what)
    candidate = export_layout(
        named.layout,
        precision=precision_option(precision),
        context=workload.max_context,
        lowerings=lowering_options(lowering),
    )
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs, prefix=".trained-") as folder:
        say_ignored(write_export(candidate, named, Path(folder), checkpoint))
        subject = foreign_subject(Path(folder) / "model.onnx", workload)
        name = f"{named.name or named.layout.code} ({checkpoint.name})"
        yield replace(subject, label=name, name=name, precision=precision)

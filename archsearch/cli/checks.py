"""`archsearch devices check`: is each device ready, and why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import NO_DEVICE, OK
from archsearch.cli.opening import chosen_devices
from archsearch.cli.output import Row, console, one_of, print_list

if TYPE_CHECKING:
    from profiler.checkup import Checkup
    from profiler.devices import Device
    from profiler.readiness import DeviceReport

MOST_AT_ONCE = 8


def check_command(name: str | None, *, devices: Path, output_format: str) -> int:
    """Look at one device, enabled or not, or at all that are enabled; exit code 3 when any is not ready."""
    from profiler.device_files import load_devices
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    chosen = [load_devices(devices).named(name)] if name is not None else chosen_devices(devices, None)
    reports = _look_at(chosen)
    if output_format == "table":
        for report in reports:
            _print_report(report)
    else:
        print_list([report.row() for report in reports], COLUMNS, output_format)
    return OK if all(report.ready for report in reports) else NO_DEVICE


def _look_at(devices: Sequence[Device]) -> list[DeviceReport]:
    """Reports in the devices' order. This machine comes last: its load would be our own while we look at others."""
    from profiler.readiness import check_device

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        far = {device.name: pool.submit(check_device, device) for device in devices if device.transport != "local"}
        found = {name: future.result() for name, future in far.items()}
    found.update({device.name: check_device(device) for device in devices if device.transport == "local"})
    return [found[device.name] for device in devices]


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "device": lambda row: row["device"],
    "state": lambda row: "READY" if row["ready"] else "NOT READY",
    "why": lambda row: "; ".join(row["reasons"]),
    "model": lambda row: row["model"] or row["cpu_model"] or "",
    "onnxruntime": lambda row: row["onnxruntime"] or "",
    "free MiB": lambda row: "" if row["free_mib"] is None else f"{row['free_mib']:,.0f}",
}


def _print_report(report: DeviceReport) -> None:
    """For people: a line on the state and its reasons, then what is known."""
    out = console()
    out.print(f"{report.device.name}: {'READY' if report.ready else 'NOT READY'}")
    for reason in report.reasons:
        out.print(f"  because   {reason}")
    for title, text in _lines(report):
        if text:
            out.print(f"  {title:<9} {text}")
    for advice in report.advice:
        out.print(f"  try       {advice}")


def _lines(report: DeviceReport) -> Iterator[tuple[str, str]]:
    told = report.told
    kernel = report.kernel and f"kernel {report.kernel}"
    if told is None:
        yield "system", _joined(kernel, report.machine)
    else:
        yield "device", _joined(told.model, told.soc, told.cpu_model, _cores(told), _memory(told))
        yield (
            "system",
            _joined(told.os, kernel, told.os_build, told.machine, told.libc),
        )
        yield "runtime", _runtime(report, told)
        yield "now", _now(told)
        yield "measures", "nobody" if told.lease is None else told.lease.text
    if report.free_mib is not None:
        yield "folder", _joined(f"{report.free_mib / 1024:,.1f} GiB free in {report.work_dir}", _holds(told))


def _joined(*parts: str | None) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _cores(told: Checkup) -> str:
    from profiler.readiness import core_text

    clocks = core_text(told.core_groups)
    physical = sum(group.physical for group in told.core_groups)
    threads = "" if physical in (0, told.cores) else f" ({physical} physical)"
    return f"{told.cores or 'unknown'} cores{threads}" + (f": {clocks}" if clocks else "")


def _memory(told: Checkup) -> str:
    return "" if told.memory_mib is None else f"{told.memory_mib / 1024:.1f} GiB"


def _runtime(report: DeviceReport, told: Checkup) -> str:
    absent = report.row()["providers_missing"] or []
    return _joined(
        f"Python {told.python}",
        told.numpy and f"numpy {told.numpy}",
        told.onnxruntime and f"onnxruntime {told.onnxruntime}",
        " ".join(name.removesuffix("ExecutionProvider") for name in told.providers),
        *(f"no {name}" for name in absent),
        told.method,
    )


def _now(told: Checkup) -> str:
    cell = told.battery
    return _joined(
        None if told.temperature_c is None else f"{told.temperature_c:.0f} °C",
        told.governor and f"governor {told.governor}",
        None if told.other_cpu is None else f"others use {told.other_cpu:.0%} of the processor",
        None if cell is None else f"battery {_percent(cell.level_percent)} ({cell.status or 'not known'})",
        told.screen and f"screen {told.screen}",
    )


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}%"


def _holds(told: Checkup | None) -> str:
    if told is None:
        return ""
    jobs = f"{len(told.jobs)} job{'' if len(told.jobs) == 1 else 's'}"
    return _joined(None if told.weights_mib is None else f"{told.weights_mib:,.0f} MiB of weights", jobs)

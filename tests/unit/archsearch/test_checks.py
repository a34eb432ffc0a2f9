"""What people read of a device that has been looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archsearch.cli.checks import COLUMNS, _print_report
from archsearch.cli.output import print_list
from profiler.checkup import parse_checkup
from profiler.devices import SshDevice
from profiler.readiness import DeviceReport

TOLD: dict[str, Any] = {
    "model": "GMKtec EVO-X2", "cpu_model": "AMD RYZEN AI MAX+ 395", "cores": 32, "memory_mib": 127_000.0,
    "os": "Ubuntu 24.04", "kernel": "6.14.0", "machine": "x86_64", "libc": "glibc 2.39", "python": "3.12.3",
    "numpy": "2.4.6", "onnxruntime": "1.31.1", "providers": ["CPUExecutionProvider"], "temperature_c": 41.2,
    "governor": "powersave", "other_cpu": 0.004, "free_mib": 800_000.0, "weights_mib": 300.0,
    "core_groups": [{"cores": list(range(32)), "max_mhz": 5187.0, "physical": 16}],
    "battery": {"level_percent": 80.0, "status": "Charging", "on_power": True},
}  # fmt: skip
BOX = SshDevice(name="box", transport="ssh", host="h")


def report(reasons: tuple[str, ...] = (), **changes: Any) -> DeviceReport:
    told = parse_checkup(json.dumps({**TOLD, **changes}).encode())
    return DeviceReport(
        device=BOX, reachable=True, work_dir="/w", told=told, kernel=told.kernel, machine=told.machine,
        free_mib=told.free_mib, reasons=reasons,
    )  # fmt: skip


def test_a_ready_device_on_a_page(capsys: pytest.CaptureFixture[str]):
    _print_report(report())
    assert capsys.readouterr().out.splitlines() == [
        "box: READY",
        "  device    GMKtec EVO-X2, AMD RYZEN AI MAX+ 395, 32 cores (16 physical): 32x5187 MHz, 124.0 GiB",
        "  system    Ubuntu 24.04, kernel 6.14.0, x86_64, glibc 2.39",
        "  runtime   Python 3.12.3, numpy 2.4.6, onnxruntime 1.31.1, CPU",
        "  now       41 °C, governor powersave, others use 0% of the processor, battery 80% (Charging)",
        "  measures  nobody",
        "  folder    781.2 GiB free in /w, 300 MiB of weights, 0 jobs",
    ]


def test_a_device_cannot_write_on_the_terminal(capsys: pytest.CaptureFixture[str]):
    _print_report(report(cpu_model="[bold red]x[/]\x1b[2J", model=":smile: \x9b31m", governor="a\nb: READY"))
    out = capsys.readouterr().out
    assert "[bold red]x[/]" in out
    assert ":smile:" in out
    assert not {"\x1b", "\x9b"} & set(out)
    assert "\nb: READY" not in out


def test_what_is_not_known_is_said_so(capsys: pytest.CaptureFixture[str]):
    _print_report(report(cores=None, core_groups=[]))
    out = capsys.readouterr().out
    assert "unknown cores" in out
    assert "None" not in out


def test_every_field_is_there_for_programs(capsys: pytest.CaptureFixture[str]):
    unknown = DeviceReport(device=BOX, reachable=False, work_dir="~/w", reasons=("nobody answers",))
    assert unknown.row().keys() == report().row().keys()
    row = unknown.row()
    assert (row["ready"], row["reachable"], row["set_up"]) == (False, False, False)
    assert {row[name] for name in ("model", "battery", "lease", "python", "temperature_c", "providers_missing")} == {
        None
    }
    for form in ("json", "csv", "md"):
        print_list([unknown.row(), report().row()], COLUMNS, form)
        out = capsys.readouterr().out
        assert "nobody answers" in out
        assert "GMKtec" in out

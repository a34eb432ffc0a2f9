"""Is a device ready to measure? Every reason why not, and what would make it better.

Reasons say why a measurement would not start, or would not give numbers; advice is about the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from profiler.checkup import Checkup, CoreGroup, ask, by_shell
from profiler.devices import Device
from profiler.errors import ConnectionLost, ResultError, TransportError
from profiler.transports import Transport, make_transport
from profiler.untrusted import printable

LEAST_FREE_MIB: Final = 512.0
"""Below that even a model of 350M parameters in int4 finds no room on the disk."""
LEAST_BATTERY_PERCENT: Final = 20.0
"""Without a charger; below it phones save energy."""
SAME_CLOCK: Final = 0.9
"""Cores whose highest clocks differ by less count as alike: makers let single cores go a little higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """What was found out about one device.

    Attributes:
        device: Which.
        reachable: It answered.
        work_dir: Its work folder; as configured when it did not answer.
        told: What its Python told; None where no Python of it could run the agent.
        kernel: Its release; None where nothing was told.
        machine: Such as x86_64, likewise.
        free_mib: Of the work folder's disk.
        reasons: Why it is not ready; empty when it is.
        advice: What would make it better.
    """

    device: Device
    reachable: bool
    work_dir: str
    told: Checkup | None = None
    kernel: str | None = None
    machine: str | None = None
    free_mib: float | None = None
    reasons: Sequence[str] = field(default_factory=tuple)
    advice: Sequence[str] = field(default_factory=tuple)

    @property
    def ready(self) -> bool:
        """Whether a measurement could begin now."""
        return not self.reasons

    @property
    def set_up(self) -> bool:
        """Whether it has all that the agent needs."""
        return self.told is not None and self.told.numpy is not None and self.told.onnxruntime is not None

    def row(self) -> dict[str, Any]:
        """Every fact with a stable name, None for what is not known."""
        names = [name for name in Checkup.model_fields if name not in ("kernel", "machine", "free_mib")]
        told = {} if self.told is None else self.told.model_dump(mode="json")
        wanted = [provider.name for provider in self.device.providers]
        absent = [name for name in wanted if self.told is not None and name not in self.told.providers]
        big, threads = proposal(self.device, self.told)
        return {
            "device": self.device.name,
            "transport": self.device.transport,
            "ready": self.ready,
            "reasons": list(self.reasons),
            "advice": list(self.advice),
            "reachable": self.reachable,
            "set_up": self.set_up,
            "work_dir": self.work_dir,
            "kernel": self.kernel,
            "machine": self.machine,
            "free_mib": self.free_mib,
            "providers_missing": absent if self.set_up else None,
            "proposed_cores": list(big) or None,
            "proposed_threads": threads or None,
            **{name: told.get(name) for name in names},
        }


def host_onnxruntime() -> str:
    """Version of ONNX Runtime on this machine: what devices should have too."""
    return metadata.version("onnxruntime")


def check_device(device: Device) -> DeviceReport:
    """Look at a device; nothing is measured. Takes a few seconds, and longer where it does not answer."""
    transport: Transport | None = None
    try:
        transport = make_transport(device)
        transport.open()
        return _look(device, transport)
    except (TransportError, ResultError) as error:
        lost = "is it switched on, and can it be reached from here?" if isinstance(error, ConnectionLost) else None
        hint = error.hint or lost
        return DeviceReport(
            device=device,
            reachable=isinstance(error, ResultError),
            work_dir=device.work_dir,
            reasons=(printable(str(error)),),
            advice=(printable(hint),) if hint else (),
        )
    finally:
        if transport is not None:
            transport.close()


def _look(device: Device, transport: Transport) -> DeviceReport:
    told, why = ask(transport)
    kernel, machine, free = by_shell(transport) if told is None else (told.kernel, told.machine, told.free_mib)
    reasons, advice = judge(device, told, why=why, here=host_onnxruntime())
    if told is None and free is not None and free < LEAST_FREE_MIB:
        reasons.append(_no_room(free, transport.work_dir))
    return DeviceReport(
        device=device, reachable=True, work_dir=printable(transport.work_dir), told=told, kernel=kernel,
        machine=machine, free_mib=free, reasons=tuple(reasons), advice=tuple(advice),
    )  # fmt: skip


def judge(device: Device, told: Checkup | None, *, why: str = "", here: str) -> tuple[list[str], list[str]]:
    """Reasons why a device is not ready, and advice.

    Args:
        device: As configured.
        told: What it said of itself.
        why: Where it said nothing, why not.
        here: Version of onnxruntime on this machine.
    """
    if told is None:
        return [f"not set up ({why}): {_remedy(device)}"], []
    return [*_reasons(device, told)], [*_advice(device, told, here)]


def _remedy(device: Device) -> str:
    if device.transport == "local":
        return "set `python` in the device file to one with numpy and onnxruntime"
    if named := getattr(device, "python", None):
        return (
            f"install numpy and onnxruntime for the {named} that the device file names, or take `python` out of it "
            f"and run `archsearch devices setup {device.name}`"
        )
    return f"run `archsearch devices setup {device.name}`"


def _no_room(free: float, work_dir: str) -> str:
    return f"{free:,.0f} MiB are free in {work_dir}: {LEAST_FREE_MIB:,.0f} MiB are the least"


def _reasons(device: Device, told: Checkup) -> Iterator[str]:
    absent = [name for name in ("numpy", "onnxruntime") if getattr(told, name) is None]
    if absent:
        broken = [problem for problem in told.problems if "ModuleNotFoundError" not in problem]
        why = "; ".join([f"its Python {told.python} has no {' and no '.join(absent)}", *broken])
        yield f"not set up ({why}): {_remedy(device)}"
    else:
        missing = [provider.name for provider in device.providers if provider.name not in told.providers]
        if missing:
            yield f"its onnxruntime has no {', '.join(missing)}; it has {', '.join(told.providers)}"
    if told.free_mib is not None and told.free_mib < LEAST_FREE_MIB:
        yield _no_room(told.free_mib, device.work_dir)
    known = {core for group in told.core_groups for core in group.cores}
    if device.cores and known and (unknown := sorted(set(device.cores) - known)):
        yield f"`cores` names {', '.join(map(str, unknown))}, and it has {_ranges(sorted(known))}"
    rules = device.cooling
    hottest, heat = rules.max_temperature_c, told.temperature_c
    if hottest is not None and heat is not None and heat > hottest:
        yield f"{heat:.0f} °C (limit {hottest:.0f} °C): let it cool"
    if told.lease is not None:
        yield f"it measures now: {told.lease.text}"
    elif told.other_cpu is not None and told.other_cpu > rules.max_other_cpu:
        yield (
            f"others use {told.other_cpu:.0%} of its processor (limit {rules.max_other_cpu:.0%}): "
            f"{told.busiest or 'nobody can be named'}"
        )
    cell = told.battery
    level = None if cell is None or cell.on_power else cell.level_percent
    if level is not None and level < LEAST_BATTERY_PERCENT:
        yield f"its battery is at {level:.0f}% and is not charged"


def _advice(device: Device, told: Checkup, here: str) -> Iterator[str]:
    there = told.onnxruntime
    if there is not None and there != here:
        own = getattr(device, "python", None) or device.transport == "local"
        what = f"install {here} there" if own else f"`archsearch devices setup {device.name}` brings {here}"
        yield f"onnxruntime is {there} there and {here} here, and their results are kept apart: {what}"
    if device.cooling.max_temperature_c is not None and told.temperature_c is None:
        yield "it shows no temperature: `max_temperature_c` has no effect"
    if told.other_cpu is None:
        yield "it does not show how busy it is: samples that others disturbed cannot be told (`max_other_cpu`)"
    if told.battery is not None and told.battery.on_power is False:
        yield "it runs on its battery: plug it in, clocks may be lower without"
    if told.screen not in (None, "Awake"):
        yield f"its screen is off ({told.screen}): phones lower their clocks then"
    big, threads = proposal(device, told)
    if big:
        yield (
            f"its cores differ ({core_text(told.core_groups)}) and share the work evenly: for the fast ones alone set "
            f"`cores: [{', '.join(map(str, big))}]` and `threads: {threads}`; `archsearch measure` tells what is faster"
        )


def proposal(device: Device, told: Checkup | None) -> tuple[tuple[int, ...], int]:
    """Ids of the fast cores and how many they really are, for a device file that names none; else nothing and 0."""
    big = () if told is None or device.cores else big_cores(told.core_groups)
    groups = told.core_groups if told is not None else ()
    return big, sum(group.physical for group in groups if set(group.cores) <= set(big))


def big_cores(groups: Sequence[CoreGroup]) -> tuple[int, ...]:
    """Ids of the fast cores, where some of the others reach less than `SAME_CLOCK` of their clock; else none."""
    clocks = [group.max_mhz for group in groups if group.max_mhz]
    if len(clocks) < len(groups) or not clocks or min(clocks) >= SAME_CLOCK * max(clocks):
        return ()
    return tuple(
        sorted(core for group in groups for core in group.cores if (group.max_mhz or 0.0) >= SAME_CLOCK * max(clocks))
    )


def core_text(groups: Sequence[CoreGroup]) -> str:
    """For people: ``2x4470 + 6x3530 MHz``; empty where clocks are not shown."""
    if not groups or any(group.max_mhz is None for group in groups):
        return ""
    return " + ".join(f"{len(group.cores)}x{group.max_mhz:.0f}" for group in groups) + " MHz"


def _ranges(numbers: Sequence[int]) -> str:
    """``0-3, 6`` of sorted numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

"""Is a device ready to measure? What it is, what it has, what it does now, and every reason why not.

Reasons say why a measurement would not start, or would not give numbers; advice says what would make it better. What a
device tells is untrusted: bounded, typed, and without characters that a terminal would obey.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from profiler.devices import Device
from profiler.errors import CommandTimeout, ConnectionLost, RemoteFileMissing, ResultError, TransportError
from profiler.results import MAX_STATUS_BYTES, Environment, MiB, Text, Word, read_model
from profiler.runner import place_agent
from profiler.transports import Transport, make_transport

CHECK_S: Final = 120.0
LEAST_FREE_MIB: Final = 512.0
"""Below that even a model of 350M parameters in int4 finds no room on the disk."""
LEAST_BATTERY_PERCENT: Final = 20.0
"""Without a charger; below it phones save energy."""
SAME_CLOCK: Final = 0.9
"""Cores whose highest clocks differ by less count as alike: makers let single cores go a little higher."""
_SHELL: Final = 'uname -r; uname -m; df -Pk . | tail -n 1 | awk "{print \\$4}"'


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class CoreGroup(_Told):
    """Cores with the same highest clock."""

    cores: Annotated[tuple[Annotated[int, Field(ge=0, le=65535)], ...], Field(min_length=1, max_length=4096)]
    max_mhz: Annotated[float, Field(ge=0, le=1e6)] | None = None
    physical: Annotated[int, Field(ge=1, le=4096)]


class Battery(_Told):
    """The device's own battery."""

    level_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    status: Word | None = None
    on_power: bool | None = None


class LeaseHolder(_Told):
    """Who measures there now."""

    pid: Annotated[int, Field(ge=2, le=2**31)] | None = None
    label: Word = ""
    seconds: Annotated[float, Field(ge=0, le=1e10)] | None = None

    @property
    def text(self) -> str:
        """For people."""
        since = "" if self.seconds is None else f" for {self.seconds:.0f} s"
        return f"{self.label or 'a job'} (process {self.pid}){since}"


class JobThere(_Told):
    """A job's folder; `pid` of its agent while that runs."""

    id: Word
    state: Word | None = None
    pid: Annotated[int, Field(ge=2, le=2**31)] | None = None


class Checkup(Environment):
    """The answer to `agent check`: the environment, and what a job need not know."""

    usable_cores: Annotated[int, Field(ge=1, le=65536)] | None = None
    last_level_cache: Word | None = None
    available_mib: MiB | None = None
    swap_mib: MiB | None = None
    method: Word | None = None
    providers: Annotated[tuple[Word, ...], Field(max_length=64)] = ()
    problems: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    model: Word | None = None
    soc: Word | None = None
    os_build: Word | None = None
    core_groups: Annotated[tuple[CoreGroup, ...], Field(max_length=256)] = ()
    battery: Battery | None = None
    screen: Word | None = None
    other_cpu: Annotated[float, Field(ge=0, le=1.5)] | None = None
    busiest: Text | None = None
    lease: LeaseHolder | None = None
    jobs: Annotated[tuple[JobThere, ...], Field(max_length=1000)] = ()
    weights_mib: MiB | None = None
    free_mib: Annotated[float, Field(ge=0, le=2**44)] | None = None


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


def printable(text: str) -> str:
    """The text without characters that move a cursor, change colours or turn the direction of writing."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def parse_checkup(raw: bytes) -> Checkup:
    """The answer to `agent check`.

    Raises:
        ResultError: It is not one.
    """
    what = "the device's answer"
    if len(raw) > MAX_STATUS_BYTES:
        raise ResultError(f"{what}: {len(raw)} bytes, more than the {MAX_STATUS_BYTES} allowed")
    try:
        text = json.dumps(_printable(json.loads(raw)))
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{what} is not JSON") from error
    return read_model(Checkup, text.encode(), 8 * MAX_STATUS_BYTES, what)


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


def ask(
    transport: Transport, python: Sequence[str] | None = None, *, briefly: bool = False
) -> tuple[Checkup | None, str]:
    """What the agent tells of an open device; None, and why, where none of its Pythons can run it.

    Args:
        transport: Open.
        python: In place of the transport's.
        briefly: Only what a job would know, versions above all.

    Raises:
        TransportError: The link broke.
        ResultError: The answer is not one.
    """
    agent = place_agent(transport)
    prefix = tuple(python or transport.python)
    command = ["info"] if briefly else ["check", transport.work_dir]
    try:
        done = transport.run([*prefix, agent, *command], timeout_s=CHECK_S)
    except RemoteFileMissing:
        return None, f"it has no {prefix[0]}"
    except CommandTimeout as error:
        return None, str(error)
    if done.exit_code != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.exit_code}"]
        return None, printable(f"{' '.join(prefix)}: {lines[-1][:200]}")
    return parse_checkup(done.stdout), ""


def by_shell(transport: Transport) -> tuple[str | None, str | None, float | None]:
    """What needs no Python: kernel, machine, free MiB."""
    try:
        done = transport.run(["sh", "-c", _SHELL], timeout_s=30)
    except (RemoteFileMissing, CommandTimeout):
        return None, None, None
    lines = [printable(line)[:200] for line in done.stdout.decode(errors="replace").splitlines()[:3]]
    kernel, machine, free = [*lines, *[""] * 3][:3]
    return kernel or None, machine or None, int(free) / 1024 if free.isdecimal() and len(free) < 16 else None


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
    if cell is not None and not cell.on_power and (cell.level_percent or 100.0) < LEAST_BATTERY_PERCENT:
        yield f"its battery is at {cell.level_percent:.0f}% and is not charged"


def _advice(device: Device, told: Checkup, here: str) -> Iterator[str]:
    there = told.onnxruntime
    if there is not None and there != here:
        own = getattr(device, "python", None) or device.transport == "local"
        what = f"install {here} there" if own else f"`archsearch devices setup {device.name}` brings {here}"
        yield f"onnxruntime is {there} there and {here} here, and their results are kept apart: {what}"
    if device.cooling.max_temperature_c is not None and told.temperature_c is None:
        yield "it shows no temperature: `max_temperature_c` has no effect"
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

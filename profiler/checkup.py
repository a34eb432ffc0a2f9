"""What a device tells of itself, asked through its Python or, where it has none, through its shell.

It is untrusted: bounded, typed, and without characters that a terminal would obey.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from profiler.errors import CommandTimeout, RemoteFileMissing, ResultError
from profiler.installed import place_agent
from profiler.results import MAX_STATUS_BYTES, Environment, MiB, Text, Word
from profiler.transports import Transport
from profiler.untrusted import parse_json, printable

CHECK_S: Final = 120.0
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
    told = parse_json(Checkup, text.encode(), 8 * MAX_STATUS_BYTES, what)
    if told.python is None:
        raise ResultError(f"{what} does not say which Python it has: it is not one of the agent's")
    return told


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

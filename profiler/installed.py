"""The agent on a device, and what the device says of itself through it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from profiler.devices import Device
from profiler.errors import CommandTimeout, DeviceUnavailable, RemoteFileMissing
from profiler.patience import PatientLink
from profiler.results import Environment, parse_environment
from profiler.transports import Transport

INFO_S: Final = 120.0
"""How long a device may take to say who it is: it loads onnxruntime from a cold disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFile:
    """The agent as one file.

    Attributes:
        name: File name, with a hash of the content.
        data: The file.
    """

    name: str
    data: bytes


def bundled_agent() -> AgentFile:
    """The agent of this version."""
    from profiler.agent_bundle import agent_bytes, agent_name

    return AgentFile(name=agent_name(), data=agent_bytes())


def place_agent(transport: Transport, agent: AgentFile | None = None) -> str:
    """Put the agent into the work folder of an open transport, unless it is there; its path on the device.

    Raises:
        TransportError: The device could not be written to.
    """
    agent = agent or bundled_agent()
    path = str(PurePosixPath(transport.work_dir) / agent.name)
    if not transport.exists(path):
        transport.push(agent.data, path)
    return path


def identity(environment: Environment) -> dict[str, object]:
    """What separates series of measurements; host name, kernel and addresses change without changing a number."""
    memory = environment.memory_mib
    return {
        "machine": environment.machine,
        "cpu_model": environment.cpu_model,
        "cores": environment.cores,
        "memory_gib": None if memory is None else round(memory / 1024),
        "os": environment.os,
        "libc": environment.libc,
        "governor": environment.governor,
    }


def ask_environment(
    device: Device, link: PatientLink, agent_path: str, python: Sequence[str] | None = None
) -> Environment:
    """Who a device is and what it can do, by the agent at a path there, under a Python or that of the transport.

    Raises:
        DeviceUnavailable: It lacks Python, numpy, onnxruntime, or a provider that its entry names.
        ResultError: What it says is not an environment.
        TransportError: The device does not answer.
    """
    argv = (*(python or link.transport.python), agent_path, "info")
    where = f"device {device.name!r}"
    hint = f"It needs Python 3.11 or newer with numpy and onnxruntime: {_remedy(device)}."
    try:
        done = link.call(lambda: link.transport.run(argv, timeout_s=INFO_S))
    except (RemoteFileMissing, CommandTimeout) as error:
        raise DeviceUnavailable(f"{where}: {error}", hint=hint) from error
    if done.exit_code != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.exit_code}"]
        raise DeviceUnavailable(f"{where}: {shlex.join(argv)} failed: {lines[-1][:300]}", hint=hint)
    environment = parse_environment(done.stdout)
    absent = [name for name in ("numpy", "onnxruntime") if getattr(environment, name) is None]
    if absent:
        problems = environment.further("problems") or []
        why = f" ({'; '.join(map(str, problems))[:300]})" if isinstance(problems, list) and problems else ""
        raise DeviceUnavailable(f"{where}: its Python has no {' and no '.join(absent)}{why}", hint=hint)
    _require_providers(device, environment)
    return environment


def _require_providers(device: Device, environment: Environment) -> None:
    """Refuse a provider that the device's onnxruntime was not built with: it would fall back in silence."""
    known = environment.further("providers")
    wanted = [provider.name for provider in device.providers]
    if isinstance(known, list) and (absent := [name for name in wanted if name not in known]):
        raise DeviceUnavailable(
            f"device {device.name!r}: its onnxruntime has no {', '.join(absent)}",
            hint=f"It has {', '.join(map(str, known))[:300]}.",
        )


def _remedy(device: Device) -> str:
    if device.transport == "local":
        return "set `python` in the device file"
    own = f"`archsearch devices setup {device.name}` installs them"
    return f"set another `python` in the device file, or none: then {own}" if getattr(device, "python", None) else own

"""Puts the agent and what it needs on a device, so that measuring there asks nothing of its owner.

One mechanism for every transport: whatever makes a Python (an `Installer`, one per transport) works in a new folder
below `WORK/python`; the last step writes `WORK/python/python.sh`, which starts it. Until then the device measures with
what it had, and what a broken set-up leaves is removed by the next one. Nothing outside the work folder is written, and
nothing in it removed that set-up did not make.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from profiler.agent.folder import is_script
from profiler.checkup import Checkup, ask, by_shell
from profiler.devices import Device
from profiler.errors import DeviceUnavailable, ProfilerError, UnsupportedTransport
from profiler.occupied import content_of
from profiler.readiness import host_onnxruntime
from profiler.setup.bundle import BundleInstaller
from profiler.setup.making import Installer, Say, answers, command_of, made_in, missing_of, require_room, script_of
from profiler.setup.site import Site
from profiler.setup.venv import VenvInstaller
from profiler.transports import Transport, make_transport
from profiler.transports._base import PYTHON_SCRIPT
from profiler.transports._shell import WINDOWS_NEEDS

_LONGEST_SCRIPT = 65536


def _installer(device: Device, python: str | None, bundle: Path | None) -> Installer:
    makers: dict[str, Callable[[], Installer]] = {
        "ssh": lambda: VenvInstaller(python=python, onnxruntime=host_onnxruntime()),
        "adb": lambda: BundleInstaller(bundle),
    }
    if device.transport not in makers:
        raise UnsupportedTransport(f"this version cannot set up devices with `transport: {device.transport}`")
    return makers[device.transport]()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """A device that can measure.

    Attributes:
        changed: Something was installed; otherwise all was there.
        told: What the device tells of itself, versions included.
    """

    changed: bool
    told: Checkup


def set_up(
    device: Device, *, say: Say, again: bool = False, python: str | None = None, bundle: Path | None = None
) -> SetUp:
    """Install what the device lacks. Measures nothing; `DeviceSession` opens on success.

    Args:
        device: Which.
        say: Called with one sentence per step.
        again: Make anew what is there.
        python: A Python on the device to begin with; None to look for one.
        bundle: A file of `profiler.android` for a device over ADB; None to make it here.

    Raises:
        UnsupportedTransport: This version cannot reach, or set up, such a device.
        TransportError: It does not answer, or has no room.
        DeviceUnavailable: It cannot be set up, with the reason and what to try; it is as it was.
    """
    transport = make_transport(device)
    transport.open()
    try:
        told, why = ask(transport)
        if told is not None and told.lease is not None:
            raise DeviceUnavailable(
                f"device {device.name!r} measures now: {told.lease.text}", hint="Set it up when that has ended."
            )
        here = host_onnxruntime()
        missing = missing_of(told, why)
        if device.transport == "local" or getattr(device, "python", None) or transport.windows:
            _require_as_named(device, missing, windows=transport.windows)
            assert told is not None
            return SetUp(changed=False, told=told)
        own = transport.exists(PYTHON_SCRIPT)
        if own and not again and not missing and told is not None and told.onnxruntime == here:
            return SetUp(changed=False, told=told)
        if own and not again:
            say(missing or f"onnxruntime is {told.onnxruntime if told else None} there and {here} here")
        return SetUp(changed=True, told=_install(transport, _installer(device, python, bundle), told, say))
    finally:
        transport.close()


def _require_as_named(device: Device, missing: str, *, windows: bool) -> None:
    if not missing:
        return
    if windows:
        raise DeviceUnavailable(
            f"device {device.name!r}: {missing}; it runs Windows, where set-up installs nothing",
            hint=WINDOWS_NEEDS,
        )
    if device.transport == "local":
        raise DeviceUnavailable(
            f"device {device.name!r}: {missing}",
            hint="Nothing is installed on this machine: name a Python with numpy and onnxruntime as its `python`.",
        )
    raise DeviceUnavailable(
        f"device {device.name!r}: {missing}; it is the one that `python` in the device file names, which goes before "
        "anything that set-up makes",
        hint="Take `python` out of the device file; `--python` names a Python that set-up shall begin with.",
    )


def _install(transport: Transport, installer: Installer, told: Checkup | None, say: Say) -> Checkup:
    _, _, free = by_shell(transport) if told is None else (None, None, told.free_mib)
    require_room(transport, free)
    root = PYTHON_SCRIPT.partition("/")[0]
    site = Site(transport, root=f"{transport.work_dir}/{root}", token=secrets.token_hex(4), say=say)
    before = made_in(transport, root)
    if not _may_write(transport):
        raise DeviceUnavailable(
            f"{transport.work_dir}/{PYTHON_SCRIPT} is in the way, and is not what set-up wrote; nothing was changed",
            hint="Move it, or set work_dir to a folder of its own.",
        )
    try:
        transport.mkdir(site.scratch)
        start = installer.install(site)
        made = answers(transport, command_of(site.root, start))
        transport.push(script_of(start), PYTHON_SCRIPT)
        answers(transport, ["sh", f"{transport.work_dir}/{PYTHON_SCRIPT}"])
    except BaseException:
        with suppress(ProfilerError):
            for name in made_in(transport, root):
                if name.endswith(site.token):
                    transport.remove(f"{root}/{name}")
        raise
    for name in (*before, site.scratch.rpartition("/")[2]):
        transport.remove(f"{root}/{name}")
    return made


def _may_write(transport: Transport) -> bool:
    """Whether there is no script yet, or one of set-up's."""
    if not transport.exists(PYTHON_SCRIPT):
        return True
    content = content_of(transport, PYTHON_SCRIPT, _LONGEST_SCRIPT)
    return content is not None and is_script(content)

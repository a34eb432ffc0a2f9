"""Versions of onnxruntime side by side on a device, to be compared on purpose; its own Python stays as it is.

Each lies in `WORK/runtimes`: a folder of its own, as set-up makes them, and a script that starts it. The script is
written last, after what was made has told its version, and a runtime without its script is never used: what an attempt
leaves that was broken off is removed by the next one. They stay for the next comparison, until `devices clean`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from packaging.version import InvalidVersion, Version

from profiler import android
from profiler.agent.folder import RUNTIME, started_by
from profiler.checkup import Checkup, ask, by_shell
from profiler.devices import Device
from profiler.errors import (
    BundleError,
    ConfigError,
    DeviceUnavailable,
    ProfilerError,
    TransportError,
    UnsupportedTransport,
)
from profiler.occupied import content_of, names_in, occupied
from profiler.setup.bundle import BundleInstaller
from profiler.setup.making import (
    NEEDED_MIB,
    Installer,
    Say,
    answers,
    command_of,
    made_in,
    missing_of,
    require_room,
    script_of,
)
from profiler.setup.site import Site
from profiler.setup.venv import VenvInstaller
from profiler.setup.wheels import NoWheel
from profiler.transports import Transport
from profiler.untrusted import printable

FOLDER: Final = "runtimes"
_LONGEST_VERSION = 64
_LONGEST_SCRIPT = 65536
_LISTED = "`pip index versions onnxruntime` lists what there is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A version of onnxruntime on a device.

    Attributes:
        version: As `runtime_version` gives it.
        python: Argument prefix that starts the Python which has it.
        told: What that Python told of itself, the version included.
    """

    version: str
    python: tuple[str, ...]
    told: Checkup


def runtime_version(text: str) -> str:
    """A version as PEP 440 writes it: of digits, lower-case letters, ``.``, ``!`` and ``+``.

    Raises:
        ConfigError: It is none.
    """
    shown = text if len(text) <= _LONGEST_VERSION else f"{text[:_LONGEST_VERSION]}..."
    try:
        return str(Version(shown))  # one that is cut off is none
    except InvalidVersion as error:
        raise ConfigError(
            [f"{shown!r} is no version of onnxruntime: it must be one as PEP 440 has them, such as 1.23.2"],
            hint=_LISTED,
        ) from error


def same_version(one: str, other: str) -> bool:
    """Whether two versions are the same, as 1.22 and 1.22.0 are; what is no version is the same as nothing."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


def require_runtimes(transport: Transport, device: Device, versions: Sequence[str], *, say: Say) -> tuple[Runtime, ...]:
    """Runtimes of these versions on an open device: those that are there, and what is missing is made.

    Two programs that make runtimes in one work folder at the same time disturb each other; neither uses what is broken.

    Args:
        transport: Open.
        device: Which; a `python` that its file names is the base of what is made.
        versions: As `runtime_version` gives them.
        say: Called with one sentence before each step that takes long; what it raises ends the work.

    Raises:
        UnsupportedTransport: Nothing can be installed there: it runs Windows, for one.
        DeviceUnavailable: There is no such version for it, or it measures now; the message says which.
        TransportError: It does not answer, or has no room.
    """
    if transport.windows:
        raise UnsupportedTransport(
            f"device {device.name!r} runs Windows, where no runtimes are installed: they cannot be compared there",
            hint=f"Compare them on the other devices (--device NAME), or set `enabled: false` for {device.name!r}.",
        )
    return _Runtimes(transport, device, say).require(versions)


class _Runtimes:
    """`WORK/runtimes` of one open device."""

    def __init__(self, transport: Transport, device: Device, say: Say) -> None:
        self._transport = transport
        self._device = device
        self._say = say
        self._root = f"{transport.work_dir}/{FOLDER}"

    def require(self, versions: Sequence[str]) -> tuple[Runtime, ...]:
        found = {version: self._there(version) for version in versions}
        self._tidy()
        missing = [version for version, runtime in found.items() if runtime is None]
        if missing:
            now = occupied(self._transport)
            if now.running:
                raise DeviceUnavailable(
                    f"device {self._device.name!r} measures now ({now.running[0].job_id}): nothing is installed",
                    hint="Try again when that has ended.",
                )
            require_room(self._transport, by_shell(self._transport)[2], NEEDED_MIB * len(missing))
        return tuple(found[version] or self._make(version) for version in versions)

    def _script(self, version: str) -> str:
        """Name of the script: two runtimes of one version on different Pythons are two."""
        _, base = self._installer(version)
        return f"onnxruntime-{version}-{hashlib.sha256(json.dumps(base).encode()).hexdigest()[:8]}.sh"

    def _installer(self, version: str) -> tuple[Callable[[], Installer], list[str]]:
        """What makes a version there, and what it begins with."""
        python: str | None = getattr(self._device, "python", None)
        if self._device.transport == "adb":
            return lambda: BundleInstaller(onnxruntime=version), ["bundle", android.recipe(version)]
        if self._device.transport == "local":
            python = python or sys.executable
        elif self._device.transport != "ssh":
            raise UnsupportedTransport(
                f"this version cannot install runtimes on devices with `transport: {self._device.transport}`"
            )
        return lambda: VenvInstaller(python=python, onnxruntime=version), ["venv", python or ""]

    def _there(self, version: str) -> Runtime | None:
        """The runtime that was made before, if it still is what it should be; else its script is removed."""
        name = self._script(version)
        if not self._transport.exists(f"{FOLDER}/{name}"):
            return None
        python = ("sh", f"{self._root}/{name}")
        told, why = ask(self._transport, python, briefly=True)
        why = missing_of(told, why) or _not_it(told, version)
        if told is not None and not why:
            return Runtime(version=version, python=python, told=told)
        self._say(f"onnxruntime {version} is there, and does not run ({printable(why)}); it is made anew")
        self._transport.remove(f"{FOLDER}/{name}")
        return None

    def _tidy(self) -> None:
        """Remove what no script starts: the remains of attempts that were broken off.

        A pip whose driver was killed may still write there; then it goes the next time.
        """
        scripts = [name for name in names_in(self._transport, FOLDER) or () if RUNTIME.fullmatch(name)]
        contents = [content_of(self._transport, f"{FOLDER}/{name}", _LONGEST_SCRIPT) for name in scripts]
        used = {started_by(content) for content in contents if content is not None}
        for name in made_in(self._transport, FOLDER):
            if name not in used:
                with suppress(TransportError):
                    self._transport.remove(f"{FOLDER}/{name}")

    def _make(self, version: str) -> Runtime:
        self._say(f"installing onnxruntime {version} in {self._root}")
        script = self._script(version)
        site = Site(self._transport, root=self._root, token=secrets.token_hex(4), say=self._say)
        try:
            self._transport.mkdir(site.scratch)
            start = self._installed(site, version)
            _require_it(answers(self._transport, command_of(site.root, start)), version)
            self._transport.push(script_of(start), f"{FOLDER}/{script}")
            python = ("sh", f"{self._root}/{script}")
            made = Runtime(version=version, python=python, told=answers(self._transport, python))
        except BaseException:
            with suppress(ProfilerError):
                self._transport.remove(f"{FOLDER}/{script}")
                for name in made_in(self._transport, FOLDER):
                    if name.endswith(site.token):
                        self._transport.remove(f"{FOLDER}/{name}")
            raise
        self._transport.remove(f"{FOLDER}/{site.scratch.rpartition('/')[2]}")
        return made

    def _installed(self, site: Site, version: str) -> str:
        """Make it; the path of what starts it, relative to the folder."""
        try:
            return self._installer(version)[0]().install(site)
        except NoWheel as error:
            raise DeviceUnavailable(
                str(error), hint=f"{_LISTED}; `python` in the device file names another Python to begin with"
            ) from error
        except BundleError as error:
            raise DeviceUnavailable(f"onnxruntime {version}: {error}", hint=error.hint) from error


def _require_it(told: Checkup, version: str) -> None:
    if why := _not_it(told, version):
        raise DeviceUnavailable(f"onnxruntime {version} was installed, and {printable(why)}", hint=_LISTED)


def _not_it(told: Checkup | None, version: str) -> str:
    """Why what told of itself is not this version; empty when it is."""
    if told is not None and told.onnxruntime is not None and same_version(told.onnxruntime, version):
        return ""
    return f"it says that it is {None if told is None else told.onnxruntime}"

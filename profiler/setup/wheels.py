"""Wheels that this machine fetches for a device: with its own pip, whose settings (index, proxy) are honoured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from profiler.errors import DeviceUnavailable

DOWNLOAD_S: Final = 1800.0
"""60 MB at the 40 kB/s of a bad link."""
_OFFLINE = "Set-up needs the internet, or an index of your own (pip's index-url), on this machine."


class NoWheel(DeviceUnavailable):
    """The index has nothing for this device and Python, or does not answer.

    Attributes:
        reason: What pip says.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """For which interpreter wheels must be, as pip counts it there.

    Attributes:
        python: Such as ``3.12``.
        abis: ABI tags, best first.
        platforms: Platform tags, best first.
    """

    python: str
    abis: tuple[str, ...]
    platforms: tuple[str, ...]


def fetch_pip(folder: Path, python: str) -> Path:
    """Download the wheel of pip itself that suits a Python, such as ``3.12``; the file.

    Raises:
        DeviceUnavailable: This machine has no pip, or gets no answer.
    """
    try:
        [wheel] = fetch(["pip"], folder, Target(python=python, abis=("none",), platforms=("any",)))
    except NoWheel as error:  # every index has one: nobody answered, which pip tells in the same words
        raise DeviceUnavailable(
            f"pip could not be downloaded on this machine: {error.reason}", hint=_OFFLINE
        ) from error
    return wheel


def fetch(requirements: Sequence[str], folder: Path, target: Target) -> list[Path]:
    """Download wheels and all that they depend on; the files, sorted by name.

    Raises:
        NoWheel: There is none for this target.
        DeviceUnavailable: This machine has no pip, or gets no answer.
    """
    tags = ["--python-version", target.python, "--implementation", "cp"]
    tags += [word for abi in target.abis for word in ("--abi", abi)]
    tags += [word for platform in target.platforms for word in ("--platform", platform)]
    where = f"for Python {target.python}" + (f" on {target.platforms[0]}" if target.platforms else "")
    _pip(["download", "--only-binary=:all:", "--dest", str(folder), *tags, *requirements], requirements, where)
    return sorted(folder.glob("*.whl"))


def _pip(arguments: Sequence[str], requirements: Sequence[str], where: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", *arguments]
    wanted = f"{', '.join(requirements)} {where}"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceUnavailable(f"{wanted}: not downloaded within {DOWNLOAD_S:g} s") from error
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise DeviceUnavailable(
            "this machine's Python has no pip, which fetches what devices need",
            hint=f"{sys.executable} -m ensurepip",
        )
    reason = last_error(done.stderr)
    if "No matching distribution" in done.stderr:
        raise NoWheel(f"there is no wheel of {wanted} ({reason})", reason=reason)
    raise DeviceUnavailable(f"{wanted} could not be downloaded on this machine: {reason}", hint=_OFFLINE)


def last_error(stderr: str) -> str:
    """What pip says went wrong, on one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no reason given"])[-1][:300]

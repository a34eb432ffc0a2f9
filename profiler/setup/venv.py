"""A virtual environment on a device that has a Python: no root, no compiler, no pip and no internet needed there.

The device's Python makes it without pip (Debian keeps `ensurepip` in a package of its own); pip's own wheel comes from
this machine and runs as the file it is. It asks for numpy and onnxruntime there first; where it does not get them, this
machine downloads the wheels that it says it could use, and sends them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from profiler.errors import CommandTimeout, DeviceUnavailable, RemoteFileMissing, ResultError, TransportError
from profiler.results import MAX_STATUS_BYTES, Word
from profiler.setup.site import Site
from profiler.setup.wheels import DOWNLOAD_S, NoWheel, Target, fetch, fetch_pip, last_error
from profiler.untrusted import parse_json, printable

LEAST_PYTHON: Final = (3, 10)
"""What the agent's code asks for; the wheels of onnxruntime may ask for more."""
NUMPY: Final = "numpy>=1.26"
_PYTHONS: Final = (
    "python3", *(f"python3.{minor}" for minor in (13, 12, 14, 11, 10)), "/usr/bin/python3", "/usr/local/bin/python3",
    "/opt/homebrew/bin/python3",
)  # fmt: skip
_FIND: Final = """
code=$1; shift
for name in "$@"; do
  found=$(command -v "$name" 2>/dev/null) && "$found" -s -c "$code" 2>/dev/null
done
exit 0
"""
_PROBE: Final = """
import importlib.util as u, json, os, struct, sys
print(json.dumps({"path": os.path.abspath(sys.executable), "version": list(sys.version_info[:3]),
  "implementation": sys.implementation.name, "bits": 8 * struct.calcsize("P"), "system": sys.platform,
  "lacks": [name for name in ("venv", "zlib", "ssl") if u.find_spec(name) is None]}))
"""
_TAGS: Final = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pip._vendor.packaging.tags import sys_tags
tags = list(sys_tags())
print(json.dumps({"abis": list(dict.fromkeys(t.abi for t in tags)),
  "platforms": list(dict.fromkeys(t.platform for t in tags if t.platform != "any"))}))
"""
_MAKE_S = 180.0
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,79}")


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BasePython(_Told):
    """A Python that was found on the device.

    Attributes:
        path: Absolute.
        version: Three numbers.
        implementation: Such as cpython.
        bits: Of a pointer.
        system: `sys.platform` there.
        lacks: Which of the modules that set-up needs it does not have.
    """

    path: Annotated[str, Field(max_length=4096, pattern="^/")]
    version: tuple[int, int, int]
    implementation: Word
    bits: int
    system: Word
    lacks: Annotated[tuple[Word, ...], Field(max_length=8)]

    @property
    def text(self) -> str:
        """For people."""
        return printable(f"Python {'.'.join(map(str, self.version))} ({self.path})")

    def objection(self, least: tuple[int, int]) -> str:
        """Why it cannot be used; empty when it can."""
        if self.implementation != "cpython":
            return f"it is {printable(self.implementation)}, and onnxruntime needs CPython"
        if self.bits != 64:
            return f"it is a program of {self.bits} bits, and onnxruntime needs 64"
        if self.version[:2] < least:
            return f"onnxruntime needs {least[0]}.{least[1]} or newer"
        return f"it has no {' and no '.join(self.lacks)}" if self.lacks else ""


class _Tags(_Told):
    abis: Annotated[tuple[Annotated[str, Field(pattern=_TAG.pattern)], ...], Field(min_length=1, max_length=100)]
    platforms: Annotated[tuple[Annotated[str, Field(pattern=_TAG.pattern)], ...], Field(min_length=1, max_length=500)]


class VenvInstaller:
    """Makes `WORK/python/venv-<hash of what goes in>-<token>`.

    Args:
        python: The Python to begin with; None to look for one.
        onnxruntime: The version to install: for set-up this machine's, so that both run the same kernels.
    """

    def __init__(self, *, python: str | None, onnxruntime: str) -> None:
        self._python = python
        self._onnxruntime = onnxruntime
        self._requirements = (NUMPY, f"onnxruntime=={onnxruntime}")

    def install(self, site: Site) -> str:
        """Try the Pythons of the device, one after the other, until wheels are found for one.

        Raises:
            NoWheel: There are none for any of them.
            DeviceUnavailable: There is no Python to begin with, or something else is amiss.
            TransportError: The disk is full, or the link broke.
        """
        reason = ""
        for base in self._bases(site):
            name = f"venv-{self._hash(base)}-{site.token}"
            try:
                self._make(site, base, f"{site.root}/{name}")
            except NoWheel as error:
                reason = str(error)
                site.say(f"{reason}; looking for another Python")
                site.transport.remove(f"{site.root}/{name}")
                continue
            return f"{name}/bin/python"
        raise NoWheel(
            reason,
            reason=reason,
            hint="Install another Python there (3.11 to 3.13 have most), or here an onnxruntime with one for it; or "
            "set `python` to one there with an onnxruntime of your own.",
        )

    def _hash(self, base: BasePython) -> str:
        inputs = json.dumps([base.path, base.version, self._requirements])
        return hashlib.sha256(inputs.encode()).hexdigest()[:12]

    def _bases(self, site: Site) -> list[BasePython]:
        """What can be begun with, in the order of `_PYTHONS`, each version once.

        Raises:
            DeviceUnavailable: Nothing; the message names what was found.
        """
        names = (self._python,) if self._python else _PYTHONS
        done = site.run(["sh", "-c", _FIND, "sh", _PROBE, *names], timeout_s=_MAKE_S)
        least = max(LEAST_PYTHON, _least_for(self._onnxruntime))
        usable: dict[tuple[int, int], BasePython] = {}
        refused = []
        for line in done.stdout.splitlines()[:20]:
            base = parse_json(BasePython, line, MAX_STATUS_BYTES, "what a Python there says of itself")
            if base.path.startswith(f"{site.root}/"):
                continue
            if objection := base.objection(least):
                refused.append(f"{base.text}: {objection}")
            else:
                usable.setdefault(base.version[:2], base)
        if usable:
            return list(usable.values())
        found = "; ".join(dict.fromkeys(refused)) or f"no {self._python or 'python3'} was found there"
        raise DeviceUnavailable(
            f"the device has no Python that set-up could begin with ({found})",
            hint=f"Install Python {least[0]}.{least[1]} or newer there (Debian, Ubuntu: `sudo apt install python3 "
            "python3-venv`; macOS: `brew install python`), or name one that is not found: --python PATH.",
        )

    def _make(self, site: Site, base: BasePython, folder: str) -> None:
        site.say(f"making a virtual environment of its {base.text}")
        self._require(site, [base.path, "-s", "-m", "venv", "--without-pip", folder], _MAKE_S, "no virtual environment")
        python, version = f"{folder}/bin/python", f"{base.version[0]}.{base.version[1]}"
        with tempfile.TemporaryDirectory(prefix="archsearch-wheels-") as local:
            wheel = fetch_pip(Path(local), version)
            pip = f"{site.scratch}/{wheel.name}"
            site.transport.push(wheel, pip)
        # What is imported is compiled then; the rest of these packages, thousands of files, never needs to be.
        options = ["--quiet", "--only-binary=:all:", "--no-compile", "--no-warn-script-location"]
        install = [python, "-s", f"{pip}/pip", "install", *options]
        what = f"numpy and onnxruntime {self._onnxruntime}"
        site.say(f"asking its own pip for {what} (a minute or two on a slow link)")
        refusal = self._try(site, [*install, "--retries", "0", "--timeout", "10", *self._requirements])
        if refusal:
            site.say(f"it does not get them ({refusal}); downloading them here and sending them")
            links = self._send_wheels(site, python, pip, version)
            self._require(
                site, [*install, "--no-index", "--find-links", links, *self._requirements], DOWNLOAD_S, "not installed"
            )

    def _try(self, site: Site, argv: Sequence[str]) -> str:
        """Why pip there did not install; empty when it did.

        Raises:
            TransportError: The disk is full.
        """
        try:
            done = site.run(argv, timeout_s=DOWNLOAD_S)
        except CommandTimeout as error:
            return str(error)
        stderr = done.stderr.decode(errors="replace")
        if "No space left" in stderr:
            raise TransportError(
                f"{site.root}: no space left on the device",
                hint="Free some space there, or set work_dir to another disk.",
            )
        return printable(last_error(stderr)) if done.exit_code != 0 else ""

    def _require(self, site: Site, argv: Sequence[str], timeout_s: float, what: str) -> None:
        try:
            done = site.run(argv, timeout_s=timeout_s)
        except (CommandTimeout, RemoteFileMissing) as error:
            raise DeviceUnavailable(f"{what}: {error}") from error
        if done.exit_code != 0:
            said = done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace")
            raise DeviceUnavailable(
                f"{what}: {printable(last_error(said))}", hint="--python names another Python there."
            )

    def _send_wheels(self, site: Site, python: str, pip: str, version: str) -> str:
        """The folder on the device with the wheels that this machine downloaded for it."""
        done = site.run([python, "-s", "-c", _TAGS, pip], timeout_s=_MAKE_S)
        try:
            tags = parse_json(_Tags, done.stdout, MAX_STATUS_BYTES, "the tags of its pip")
        except ResultError as error:
            raise DeviceUnavailable(
                f"its pip does not say which wheels fit: {printable(last_error(done.stderr.decode(errors='replace')))}"
            ) from error
        target = Target(python=version, abis=tags.abis, platforms=tags.platforms)
        links = f"{site.scratch}/wheels"
        with tempfile.TemporaryDirectory(prefix="archsearch-wheels-") as local:
            wheels = fetch(self._requirements, Path(local), target)
            total = sum(wheel.stat().st_size for wheel in wheels) / 1e6
            site.say(f"sending {len(wheels)} wheels, {total:.0f} MB")
            for wheel in wheels:
                site.transport.push(wheel, f"{links}/{wheel.name}")
        return links


def _least_for(onnxruntime: str) -> tuple[int, int]:
    """The oldest Python for which a version of onnxruntime is made: known of this machine's, by its own metadata."""
    if metadata.version("onnxruntime") != onnxruntime:
        return LEAST_PYTHON
    said = re.search(r">=\s*(\d+)\.(\d+)", metadata.metadata("onnxruntime")["Requires-Python"] or "")
    return (int(said[1]), int(said[2])) if said else LEAST_PYTHON

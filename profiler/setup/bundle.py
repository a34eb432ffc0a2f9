"""A Python for devices that have none and could not build one: made here, sent whole, unpacked there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from profiler import android
from profiler.errors import CommandTimeout, DeviceUnavailable, TransportError
from profiler.setup.site import Site
from profiler.untrusted import printable

_UNPACK_S: Final = 600.0
_COMPILE: Final = 'cd -- "$1" && shift && exec sh python.sh "$@"'


class BundleInstaller:
    """Makes `WORK/python/bundle-<hash of its content>-<token>`.

    Args:
        file: A bundle that was made before, on another machine maybe; None to make it, or take the one kept here.
        onnxruntime: The version in one that is made; None for this machine's.
    """

    def __init__(self, file: Path | None = None, *, onnxruntime: str | None = None) -> None:
        self._file = file
        self._onnxruntime = onnxruntime

    def install(self, site: Site) -> str:
        """Send the bundle, have the device's `tar` unpack it, and compile its modules once."""
        machine = site.run(["uname", "-m"], timeout_s=30).stdout.decode(errors="replace").strip()
        if machine != "aarch64":
            raise DeviceUnavailable(
                f"its processor runs as {printable(machine)!r}, and the Python that is sent to phones is for aarch64",
                hint="Only 64-bit ARM phones can be set up.",
            )
        asked = self._onnxruntime
        made = android.bundle(say=site.say, onnxruntime=asked) if self._file is None else android.read(self._file)
        name = f"bundle-{made.sha256[:12]}-{site.token}"
        folder, archive = f"{site.root}/{name}", f"{site.scratch}/bundle.tar.gz"
        site.say(f"sending Python and onnxruntime {made.ort_version}, {made.size / 1e6:.0f} MB")
        site.transport.push(made.path, archive)
        site.transport.mkdir(folder)
        site.say(f"unpacking it there, {made.unpacked_size / 1e6:.0f} MB")
        self._do(site, ["tar", "-xzf", archive, "-C", folder])
        self._do(site, ["sh", "-c", _COMPILE, "sh", folder, *android.COMPILE])
        return f"{name}/python.sh"

    @staticmethod
    def _do(site: Site, argv: list[str]) -> None:
        try:
            done = site.run(argv, timeout_s=_UNPACK_S)
        except CommandTimeout as error:
            raise TransportError(f"{argv[0]} did not end within {_UNPACK_S:g} s on the device") from error
        if done.exit_code != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.exit_code}"]
            raise DeviceUnavailable(f"{shlex.join(argv[:2])} failed on the device: {printable(said[-1][:300])}")

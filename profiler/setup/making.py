"""What every set-up does around an installer: is there room, what was made before, does what was made run?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from profiler.agent.folder import MADE
from profiler.checkup import Checkup, ask
from profiler.errors import DeviceUnavailable, TransportError
from profiler.setup.site import Site
from profiler.transports import Transport
from profiler.untrusted import printable

NEEDED_MIB: Final = 400.0
"""Free space that set-up asks for: 40 MB of wheels, 130 MB that they unpack to, and as much to work with."""

Say = Callable[[str], None]


class Installer(Protocol):
    """A way to make a Python with numpy and onnxruntime on a device."""

    def install(self, site: Site) -> str:
        """Make it in new folders of `site.root`, whose names end in `site.token`.

        Returns:
            Path, relative to `site.root`, of what starts it: a program, or a script for `sh` if it ends in ``.sh``.

        Raises:
            ProfilerError: It cannot be made; the message says why, the hint what to try.
        """


def require_room(transport: Transport, free_mib: float | None, needed_mib: float = NEEDED_MIB) -> None:
    """Refuse to begin what would fill the disk; a device that does not tell its room is tried.

    Raises:
        TransportError: There is less than `needed_mib`.
    """
    if free_mib is not None and free_mib < needed_mib:
        raise TransportError(
            f"{transport.work_dir}: {free_mib:.0f} MiB are free, and set-up needs {needed_mib:.0f}",
            hint="Free some space there, or set work_dir to another disk.",
        )


def made_in(transport: Transport, folder: str) -> tuple[str, ...]:
    """What set-up made there; the rest is somebody else's."""
    names = transport.listdir(folder) if transport.exists(folder) else ()
    return tuple(name for name in names if MADE.fullmatch(name))


def command_of(root: str, start: str) -> list[str]:
    """Argument prefix that starts what an installer made."""
    return ["sh"] * start.endswith(".sh") + [f"{root}/{start}"]


def script_of(start: str) -> bytes:
    """A script for `sh` that starts what an installer made, from beside it (`profiler.agent.folder.is_script`)."""
    how = "exec sh" if start.endswith(".sh") else "exec"
    return f'unset PYTHONHOME PYTHONPATH; {how} "${{0%/*}}/{start}" "$@"\n'.encode()


def missing_of(told: Checkup | None, why: str) -> str:
    """What keeps a Python from measuring, in words; empty when nothing does."""
    if told is None:
        return why
    absent = [name for name in ("numpy", "onnxruntime") if getattr(told, name) is None]
    return "; ".join([f"its Python has no {' and no '.join(absent)}", *told.problems]) if absent else ""


def answers(transport: Transport, python: Sequence[str]) -> Checkup:
    """What the agent tells under a Python that was just made.

    Raises:
        DeviceUnavailable: It does not start there, or lacks a package.
    """
    told, why = ask(transport, python, briefly=True)
    missing = missing_of(told, why)
    if missing or told is None:
        raise DeviceUnavailable(
            f"what was installed does not run there: {printable(missing)}",
            hint="Is its processor or system older than what onnxruntime's wheels are built for?",
        )
    return told

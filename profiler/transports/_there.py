"""One operation on a device, in Python: `PythonDialect` sends this file as text, with a call of `main` behind it.

Standard library and Python 3.10 only, and little of it: every operation starts a Python. They end with the exit codes
of the scripts of `PosixDialect`, and write what those write. Paths have forward slashes both ways, on Windows too.

What concerns Windows was tried with a Windows Python under Wine 8, and never on Windows.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from typing import Any

MISSING, OUTSIDE, DIFFERENT = 64, 65, 66
NO_PROGRAM = 127
MARK = b"\x1ehere\x1e\n"
WINDOWS = os.name == "nt"
_RESTED_S = 86_400.0
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\..*\.part")

# Constants of winbase.h and winnt.h.
_NO_WINDOW, _NEW_GROUP, _BREAKAWAY = 0x0800_0000, 0x0000_0200, 0x0100_0000
_ALL_ACCESS, _TERMINATE, _SYNCHRONIZE, _SAME_ACCESS, _STILL_RUNS = 0x1F_FFFF, 0x0001, 0x0010_0000, 0x0002, 258
_KILL_ON_CLOSE, _BREAKAWAY_OK, _EXTENDED_LIMITS = 0x2000, 0x0800, 9


def main(operation: str, *arguments: str) -> None:
    """Carry out one operation and end."""
    for stream in (1, 2):
        os.write(stream, MARK)
    try:
        code = OPERATIONS[operation](*arguments) or 0
    except OSError as error:
        say(2, f"{error.strerror or error}\n")
        code = 1
    os._exit(code if 0 <= code < 256 else 255)  # Windows has codes of 32 bits


def say(stream: int, text: str) -> None:
    """Write all of a text, without buffers in between."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(stream, data) :]


def slashed(path: str) -> str:
    """With forward slashes."""
    return path.replace("\\", "/") if WINDOWS else path


def open_folder(configured: str) -> int:
    """Create the work folder and tell its real name."""
    path = os.path.expanduser(configured) if configured.startswith("~/") else configured
    os.makedirs(path, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        say(2, "not writable\n")
        return 1
    say(1, slashed(os.path.realpath(path)) + "\n")
    return 0


def run(work: str, program: str, *arguments: str) -> int:
    """Become a command, or stand for it: told first is the number to kill, and whether the program was found."""
    try:
        os.chdir(work)
    except FileNotFoundError:
        return MISSING
    found = shutil.which(program)
    say(2, f"{os.getpid()} {'missing' if found is None else 'found'}\n")
    if found is None:
        return NO_PROGRAM
    if not WINDOWS:
        os.execv(found, [program, *arguments])  # noqa: S606 - a shell would have to be quoted for
    keep = job_of_all_children()
    code = subprocess.Popen([found, *arguments]).wait()
    del keep  # a number, which stays open until this process ends
    return code


def start(work: str, log: str, program: str, *arguments: str) -> int:
    """Start a process that outlives us, tell its number, and end."""
    os.chdir(work)
    found = shutil.which(program)
    if found is None:
        say(2, f"no such program: {program}\n")
        return MISSING
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "ab") as output:
        where: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        if WINDOWS:
            flags = _NO_WINDOW | _NEW_GROUP | _BREAKAWAY  # else it would end with the server's session
            child = subprocess.Popen([found, *arguments], creationflags=flags, **where)
            own_job(child)
        else:
            child = subprocess.Popen([found, *arguments], start_new_session=True, **where)
    say(1, f"{child.pid}\n")
    return 0


def kernel() -> Any:
    """The library of Windows."""
    library: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    for name in ("CreateJobObjectW", "OpenProcess", "GetCurrentProcess"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


class Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; only the flags are set."""

    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", ctypes.c_uint32),
        ("working_sets", ctypes.c_size_t * 2),
        ("active", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("classes", ctypes.c_uint32 * 2),
        ("io", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


def new_job(library: Any) -> ctypes.c_void_p:
    """A job whose processes end when its last handle is closed."""
    job = ctypes.c_void_p(library.CreateJobObjectW(None, None))
    limits = Limits(flags=_KILL_ON_CLOSE | _BREAKAWAY_OK)
    library.SetInformationJobObject(job, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits))
    return job


def job_of_all_children() -> ctypes.c_void_p:
    """Put this process into a job that only it holds: whoever ends it ends all that it started."""
    library = kernel()
    job = new_job(library)
    library.AssignProcessToJobObject(job, ctypes.c_void_p(library.GetCurrentProcess()))
    return job


def own_job(child: subprocess.Popen[bytes]) -> None:
    """The same for a child, which alone holds the handle: as OpenSSH does for what it starts."""
    library = kernel()
    job, process = new_job(library), ctypes.c_void_p(int(child._handle))  # type: ignore[attr-defined,unused-ignore]
    library.AssignProcessToJobObject(job, process)
    held = ctypes.c_void_p()
    here = ctypes.c_void_p(library.GetCurrentProcess())
    library.DuplicateHandle(here, job, process, ctypes.byref(held), 0, False, _SAME_ACCESS)


def kill(number: str) -> int:
    """End a process and all that it started; one that is gone is fine."""
    pid = int(number)
    if WINDOWS:
        library = kernel()
        if process := library.OpenProcess(_TERMINATE, False, pid):
            library.TerminateProcess(ctypes.c_void_p(process), 1)
        return 0
    for end, what in ((os.killpg, pid), (os.kill, pid)):
        try:
            end(what, signal.SIGKILL)
        except OSError:
            continue
        break
    return 0


def terminate(number: str) -> int:
    """Ask a process to end. Windows has no such thing for a process without a window: there it is ended."""
    if WINDOWS:
        return kill(number)
    with contextlib.suppress(OSError):
        os.kill(int(number), signal.SIGTERM)
    return 0


def alive(number: str) -> int:
    """0 while a process runs."""
    pid = int(number)
    if WINDOWS:
        library = kernel()
        process = library.OpenProcess(_SYNCHRONIZE, False, pid)
        return 0 if process and library.WaitForSingleObject(ctypes.c_void_p(process), 0) == _STILL_RUNS else 1
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b") ")[2]
    except FileNotFoundError:
        state = subprocess.run(["ps", "-o", "stat=", "-p", number], stdout=subprocess.PIPE, check=False).stdout.strip()
    except PermissionError:
        return 0
    except OSError:
        return 1
    return 1 if state[:1] in (b"Z", b"X", b"") else 0


def exists(path: str) -> int:
    """0 for anything of this name, a broken link too."""
    return 0 if os.path.lexists(path) else 1


def names(folder: str) -> int:
    """Names in a folder, each behind it a NUL."""
    if not os.path.isdir(folder):
        return MISSING
    say(1, "".join(f"{name}\0" for name in os.listdir(folder)))
    return 0


def make_folder(path: str) -> int:
    """With its parents."""
    os.makedirs(path, exist_ok=True)
    return 0


def remove(work: str, parent: str, path: str) -> int:
    """Remove a file or folder, unless a link leads out of the work folder on the way."""
    if not os.path.lexists(path):
        return 0
    real = os.path.normcase(os.path.realpath(parent)) + os.sep
    if not real.startswith(os.path.normcase(os.path.realpath(work)) + os.sep):
        return OUTSIDE
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, onerror=writable_first if WINDOWS else None)
    else:
        os.unlink(path)
    return 0


def writable_first(_function: Callable[..., Any], path: str, _error: Any) -> None:
    """Windows does not remove what is read-only."""
    os.chmod(path, stat.S_IWRITE)
    os.unlink(path)


def arrived(partial: str, target: str, digest: str, folder: str, *rubbish: str) -> int:
    """Give a file that was sent its name if it is what was sent; remove what earlier transfers left."""
    discard(*rubbish)
    seen, size = hashlib.sha256(), 0
    with open(partial, "rb") as file:
        while chunk := file.read(1 << 20):
            seen.update(chunk)
            size += len(chunk)
    if seen.hexdigest() != digest:
        say(1, f"{size}\n")
        discard(partial)
        return DIFFERENT
    os.replace(partial, target)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            if _PARTIAL.fullmatch(name) and time.time() - os.lstat(path).st_mtime > _RESTED_S:
                os.unlink(path)
        except OSError:
            continue
    return 0


def discard(*paths: str) -> int:
    """Remove files; those that are gone are fine."""
    for path in paths:
        try:
            os.unlink(path)
        except OSError:
            continue
    return 0


def nothing() -> int:
    """An answer."""
    return 0


OPERATIONS: dict[str, Callable[..., int]] = {
    "open": open_folder, "run": run, "start": start, "kill": kill, "terminate": terminate, "alive": alive,
    "exists": exists, "list": names, "mkdir": make_folder, "remove": remove, "arrived": arrived, "discard": discard,
    "nothing": nothing,
}  # fmt: skip

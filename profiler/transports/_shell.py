"""Devices reached through a POSIX shell: what SSH and ADB have in common.

A subclass executes one command line and moves the bytes of one file; everything else is said here in scripts for `sh`,
which Linux, macOS and Android have. Scripts are constants. What varies travels as arguments behind them, each quoted by
`quoted`, the only place that makes command lines: no name of a file or device is ever read as code.
"""

from __future__ import annotations

import hashlib
import posixpath
import secrets
import shlex
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from profiler.errors import CommandTimeout, ConnectionLost, RemoteFileMissing, TransferError, TransportError
from profiler.transports._base import MAX_OUTPUT_BYTES, PYTHON_SCRIPT, SPAWN, Completed, Transport, checksum

_SHORT_S = 30.0
"""For commands that touch a few files."""
_LONGEST_PATH = 4096
MISSING, _OUTSIDE, _DIFFERENT = 64, 65, 66

_OPEN = """
case $1 in "~/"*) set -- "$HOME/${1#??}";; esac
mkdir -p -- "$1" && cd -P -- "$1" && [ -w . ] && pwd -P
"""
_RUN = """
cd -- "$1" || exit 64; shift
if command -v "$1" >/dev/null 2>&1; then echo "$$ found" >&2; exec "$@"; fi
echo "$$ missing" >&2; exit 127
"""
_BEGIN = r"printf '\036here\036\n'; printf '\036here\036\n' >&2"
_MARK = b"\x1ehere\x1e\n"
"""Every script begins with it on both streams: what a shell or its start files say before is none of ours."""
_KILL = 'kill -s KILL -- "-$1" 2>/dev/null || kill -s KILL "$1" 2>/dev/null; true'
_ALIVE = """
kill -0 "$1" 2>/dev/null || exit 1
if [ -r "/proc/$1/stat" ]; then IFS= read -r s <"/proc/$1/stat" || exit 1; s=${s##*) }
else s=$(ps -o stat= -p "$1") || exit 1; fi
case $s in [ZX]*) exit 1;; esac
"""
_EXISTS = '[ -e "$1" ] || [ -L "$1" ]'
_LIST = '[ -d "$1" ] || exit 64; cd -- "$1" && find . -mindepth 1 -maxdepth 1 -print0'
_REMOVE = """
[ -e "$3" ] || [ -L "$3" ] || exit 0
d=$(cd -P -- "$2" && pwd -P) || exit 1
case $d/ in "$1"/*) rm -rf -- "$3";; *) exit 65;; esac
"""
_ARRIVED = """
partial=$1 target=$2 digest=$3 folder=$4; shift 4
[ "$#" = 0 ] || rm -f -- "$@"
if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum <"$partial"); else s=$(shasum -a 256 <"$partial"); fi
if [ "${s%% *}" != "$digest" ]; then wc -c <"$partial"; rm -f -- "$partial"; exit 66; fi
mv -f -- "$partial" "$target" || exit 1
set -- "$folder"/.*.part
[ -e "$1" ] && find "$folder" -maxdepth 1 -name ".*.part" -type f -mtime +1 -exec rm -f -- {} ";" 2>/dev/null
true
"""
"""Also removes what earlier transfers into the folder left: our own at once, a stranger's, which may still be written
to, once it has rested for a day."""


class TimedOut(Exception):  # noqa: N818 - caught here and nowhere else
    """A command line did not end in time; what it had written to stderr until then says which process it is."""

    def __init__(self, stderr: bytes) -> None:
        super().__init__()
        self.stderr = stderr


class WroteTooMuch(Exception):  # noqa: N818 - caught here and nowhere else
    """A command line wrote more than `MAX_OUTPUT_BYTES` and still runs.

    Args:
        stderr: The beginning of what it wrote there.
    """

    def __init__(self, stderr: bytes) -> None:
        super().__init__()
        self.stderr = stderr


def quoted(script: str, *arguments: str) -> str:
    """The command line that runs a script of ours in `sh` with these arguments."""
    # `exec`: the number of that `sh` is then the number of its process group, whatever shell the account has.
    return "exec " + shlex.join(["sh", "-c", f"{_BEGIN}\n{script.strip()}", "sh", *arguments])


def heard(done: Completed) -> Completed:
    """What a script of ours wrote, without what the shell said before it began.

    Raises:
        TransportError: It did not begin.
    """
    out, err = _after_mark(done.stdout), _after_mark(done.stderr)
    if out is None or err is None:
        raise TransportError(f"the device's shell does not run scripts: {said(done)}", hint="It needs a POSIX shell.")
    return Completed(exit_code=done.exit_code, stdout=out, stderr=err)


def _after_mark(data: bytes) -> bytes | None:
    _, mark, rest = data.partition(_MARK)
    return rest if mark else None


class ShellTransport(Transport):
    """What SSH and ADB have in common.

    Args:
        work_dir: As configured: absolute, or ``~/`` for the account's home.
        python: As configured; None for what `archsearch devices setup` made, or else ``python3``.
    """

    short_s: float = _SHORT_S
    """How long commands that touch a few files are waited for."""

    def __init__(self, work_dir: str, python: str | None = None) -> None:
        self._configured = work_dir
        self._configured_python = python
        self._work = ""
        self._python: tuple[str, ...] = (python or "python3",)
        self._left: list[str] = []  # absolute paths of files that a lost link left half written

    @abstractmethod
    def _execute(self, line: str, *, stdin: bytes, timeout_s: float) -> Completed:
        """Have the device's shell run one command line.

        Raises:
            TimedOut: It still runs. Nothing was killed.
            WroteTooMuch: As `TimedOut`.
            ConnectionLost: The link broke.
        """

    @abstractmethod
    def _upload(self, source: bytes | Path, path: str) -> int:
        """Write all bytes to an absolute path; the bytes that crossed the link."""

    @abstractmethod
    def _download(self, path: str, max_bytes: int) -> bytes:
        """Read an absolute path whole.

        Raises:
            RemoteFileMissing: There is no such file.
            TransferError: It is larger.
        """

    def _require_link(self) -> None:
        """Raise ConnectionLost if the device does not answer at all; asked when a command did not end in time."""

    @property
    def work_dir(self) -> str:
        """As configured until open, then absolute and without links."""
        return self._work or self._configured

    @property
    def python(self) -> tuple[str, ...]:
        """What the device file names, else what set-up made there, else ``python3``; known once open."""
        return self._python

    def _find_python(self) -> None:
        """Look whether the device was set up; called by `open` once the work folder is there."""
        if self._configured_python is None:
            made = self._path(PYTHON_SCRIPT)
            self._python = ("sh", made) if self.exists(made) else ("python3",)

    def _make_work_dir(self) -> None:
        """Create the work folder; called by `open` once commands can run.

        Raises:
            TransportError: It cannot be created or written to.
        """
        done = self._script(_OPEN, self._configured)
        if done.exit_code != 0:
            raise TransportError(
                f"{self._configured}: {said(done) or 'not writable'}",
                hint="Set work_dir to a folder that you may write to.",
            )
        found = done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
        if not found.startswith("/") or "\n" in found or len(found) > _LONGEST_PATH:
            raise TransportError(
                f"{self._configured}: the device's shell says {found[:200]!r} in place of a folder",
                hint="Let its start-up files (.bashrc) write only when the shell is interactive.",
            )
        self._work = found

    def _script(self, script: str, *arguments: str, timeout_s: float | None = None) -> Completed:
        """Run one of our scripts.

        Raises:
            ConnectionLost: It did not end, which none of them can take so long for: nobody is there.
        """
        timeout_s = self.short_s if timeout_s is None else timeout_s
        try:
            return heard(self._execute(quoted(script, *arguments), stdin=b"", timeout_s=timeout_s))
        except TimedOut as error:
            raise ConnectionLost(f"the device's shell did not answer within {timeout_s:g} s") from error
        except WroteTooMuch as error:
            raise TransportError("the device's shell does not stop writing") from error

    def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run in the work folder; at the time-out its process group is killed.

        Both servers begin a command in a session of its own, so that the shell's number is that of the group.
        """
        try:
            done = heard(self._execute(quoted(_RUN, self._work, *argv), stdin=stdin, timeout_s=timeout_s))
        except TimedOut as error:
            self._kill(error.stderr)
            raise CommandTimeout(f"{argv[0]} did not end within {timeout_s:g} s") from error
        except WroteTooMuch as error:
            self._kill(error.stderr)
            raise TransportError(f"{argv[0]} wrote more than {MAX_OUTPUT_BYTES >> 20} MiB") from error
        first, _, stderr = done.stderr.partition(b"\n")
        if first.endswith(b" missing"):
            raise RemoteFileMissing(f"no such file: {argv[0]}")
        if not first.endswith(b" found"):
            raise TransportError(f"{argv[0]} could not be started: {said(done)}")
        return Completed(exit_code=done.exit_code, stdout=done.stdout, stderr=stderr)

    def _kill(self, stderr: bytes) -> None:
        """End a command by the number that `_RUN` wrote first."""
        number = (_after_mark(stderr) or b"")[:20].partition(b" ")[0]
        if number.isdigit() and int(number) > 1:
            self._script(_KILL, number.decode())
        else:
            self._require_link()

    def start_detached(self, argv: Sequence[str], *, log: str) -> int:
        """Start through a Python helper there that hands the process to the system's reaper."""
        found = self._script('cd -- "$1" && command -v "$2" >/dev/null', self._work, argv[0])
        if found.exit_code != 0:
            raise RemoteFileMissing(f"no such program: {argv[0]}")
        target = self._path(log)
        self.mkdir(posixpath.dirname(target))
        done = self.run([*self.python, "-c", SPAWN, target, *argv], timeout_s=self.short_s)
        if done.exit_code != 0 or not done.stdout.strip().isdigit():
            raise TransportError(f"{argv[0]} could not be started: {said(done)}")
        return int(done.stdout)

    def alive(self, pid: int) -> bool:
        """Ask the process table; a zombie is not alive."""
        return self._script(_ALIVE, str(pid)).exit_code == 0

    def terminate(self, pid: int, *, force: bool = False) -> None:
        """SIGTERM to the process, or SIGKILL to its group; one that is gone is fine."""
        if pid <= 1:
            raise TransportError(f"{pid} is no process of ours")
        self._script(_KILL if force else 'kill -s TERM "$1" 2>/dev/null; true', str(pid))

    def push(self, source: bytes | Path, remote: str) -> int:
        """Write beside the target, have the device compute its checksum, rename."""
        target = self._path(remote)
        size, digest = checksum(source)
        folder, name = posixpath.split(target)
        mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        partial = f"{folder}/.{mark}.{secrets.token_hex(4)}.part"
        self.mkdir(folder)
        self._left.append(partial)  # until we know better
        try:
            sent = self._upload(source, partial)
        except ConnectionLost:
            raise
        except TransportError:
            self._script('rm -f -- "$1"', partial)  # a full disk has no room for half a file
            raise
        rubbish = [path for path in self._left if path != partial]
        timeout_s = self.short_s + size / 1e6
        done = self._script(_ARRIVED, partial, target, digest, folder, *rubbish, timeout_s=timeout_s)
        self._left.clear()
        if done.exit_code == _DIFFERENT:
            arrived = done.stdout.decode(errors="replace").strip() or "no"  # somebody removed the folder
            raise TransferError(f"{remote}: {arrived} bytes arrived of {size}, or their checksum differs")
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}", hint=_disk_hint(done))
        return sent

    def pull(self, remote: str, *, max_bytes: int) -> bytes:
        """Read a file whole."""
        return self._download(self._path(remote), max_bytes)

    def exists(self, remote: str) -> bool:
        """Whether a file or folder of this name is there, a broken link too."""
        return self._script(_EXISTS, self._path(remote)).exit_code == 0

    def listdir(self, remote: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        done = self._script(_LIST, self._path(remote))
        if done.exit_code == MISSING:
            raise RemoteFileMissing(f"no such folder: {remote}")
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}")
        names = done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
        return tuple(sorted(name.removeprefix("./") for name in names))

    def mkdir(self, remote: str) -> None:
        """Create a folder and its parents."""
        done = self._script('mkdir -p -- "$1"', self._path(remote))
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}", hint=_disk_hint(done))

    def remove(self, remote: str) -> None:
        """Remove a file or folder inside the work folder; links on the way must not lead out of it."""
        path = posixpath.normpath(self._path(remote))
        if not path.startswith(f"{self._work}/"):
            raise TransportError(f"{remote}: not inside {self._work}; nothing was removed")
        done = self._script(_REMOVE, self._work, posixpath.dirname(path), path)
        if done.exit_code == _OUTSIDE:
            raise TransportError(f"{remote}: a link leads out of {self._work}; nothing was removed")
        if done.exit_code != 0:
            raise TransportError(f"{remote}: {said(done)}")

    def _path(self, remote: str) -> str:
        return posixpath.join(self._work, remote)


def said(done: Completed) -> str:
    """The last line that a command complained with, or its exit code."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {done.exit_code}"


def _disk_hint(done: Completed) -> str | None:
    if b"No space left" in done.stderr or b"quota" in done.stderr:
        return "The disk is full: free some space, or set work_dir to another disk."
    if b"ermission denied" in done.stderr or b"Read-only" in done.stderr:
        return "Set work_dir to a folder that you may write to."
    return None

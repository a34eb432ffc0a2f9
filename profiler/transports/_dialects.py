"""What is asked of a device, said in the language that it understands.

A dialect says one operation as a command line and what goes into that command's input before anything else. Both say
the same: operations begin with `MARK` on both streams (what a shell or its start files say before is none of ours),
end with the same exit codes, and write the same.

- `PosixDialect`: scripts for `sh`, which Linux, macOS and Android have.
- `PythonDialect`: one Python program (`_there.py`), which is not on the command line but in the input of a constant
  command: nothing that varies is ever quoted, and no limit on lines matters. For Windows, whose shells have neither
  these scripts nor quoting that can say everything; it works wherever there is a Python.
"""

from __future__ import annotations

import ntpath
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources

from profiler.transports._quoting import sh_line
from profiler.transports._there import DIFFERENT, MARK, MISSING, OUTSIDE

__all__ = ["DIFFERENT", "MARK", "MISSING", "OUTSIDE", "Dialect", "PosixDialect", "PythonDialect", "quoted"]

_OPEN = """
case $1 in "~/"*) set -- "$HOME/${1#??}";; esac
mkdir -p -- "$1" && cd -P -- "$1" || exit 1
[ -w . ] || { echo "not writable" >&2; exit 1; }
pwd -P
"""
_RUN = """
cd -- "$1" || exit 64; shift
if command -v "$1" >/dev/null 2>&1; then echo "$$ found" >&2; exec "$@"; fi
echo "$$ missing" >&2; exit 127
"""
_BEGIN = r"printf '\036here\036\n'; printf '\036here\036\n' >&2"
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
[ -e "$1" ] && find "$folder" -maxdepth 1 -name ".$HEX.*.part" -type f -mtime +1 -exec rm -f -- {} ";" 2>/dev/null
true
""".replace("$HEX", 16 * "[0-9a-f]")
"""Also removes what earlier transfers into the folder left: our own at once, a stranger's, which may still be written
to, once it has rested for a day."""

SCRIPTS = {
    "open": _OPEN, "run": _RUN, "kill": _KILL, "alive": _ALIVE, "exists": _EXISTS, "list": _LIST, "remove": _REMOVE,
    "arrived": _ARRIVED, "terminate": 'kill -s TERM "$1" 2>/dev/null; true', "mkdir": 'mkdir -p -- "$1"',
    "discard": 'rm -f -- "$@"', "find": 'cd -- "$1" && command -v "$2" >/dev/null', "nothing": "exit 0",
}  # fmt: skip
_BOOT = "exec(open(0,'rb',0,closefd=False).readline())"
"""Reads one line, byte by byte, and carries it out; what is behind it belongs to others."""
_READ_PROGRAM = (
    "f=open(0,'rb',0,closefd=False);b=b'';"
    "exec(\"while len(b)<{size}:\\n c=f.read({size}-len(b))\\n b+=c or __import__('os')._exit(1)\");exec(b)\n"
)


def quoted(script: str, *arguments: str) -> str:
    """The command line that runs a script of ours in `sh` with these arguments."""
    # `exec`: the number of that `sh` is then the number of its process group, whatever shell the account has.
    return "exec " + sh_line(["sh", "-c", f"{_BEGIN}\n{script.strip()}", "sh", *arguments])


class Dialect(ABC):
    """A language for operations.

    Attributes:
        starts: It has the operation `start`; else a detached process is started by running Python.
        windows: The device runs Windows.
        python: What starts Python on a device that does not say otherwise.
    """

    starts: bool = False
    windows: bool = False
    python: str = "python3"

    @abstractmethod
    def command(self, operation: str, *arguments: str) -> tuple[str, bytes]:
        """The command line, and the beginning of its input."""

    def join(self, work: str, remote: str) -> str:
        """A path in the work folder, or an absolute one as it is."""
        return posixpath.join(work, remote)

    def plain(self, path: str) -> str:
        """Without ``..`` and doubled slashes."""
        return posixpath.normpath(path)

    def absolute(self, path: str) -> bool:
        """Whether it says where it begins."""
        return path.startswith("/")

    def for_sftp(self, path: str) -> bytes:
        """As the device's SFTP server wants it; names there are bytes of any kind."""
        return path.encode("utf-8", "surrogateescape")


class PosixDialect(Dialect):
    """Constant scripts; what varies travels as arguments behind them, and no name is ever read as code."""

    def command(self, operation: str, *arguments: str) -> tuple[str, bytes]:
        """Everything is on the command line."""
        return quoted(SCRIPTS[operation], *arguments), b""


class PythonDialect(Dialect):
    """A program for Python.

    Args:
        line: Makes command lines for the account's shell.
        python: What starts Python there.
        windows: The device runs Windows.
    """

    starts = True
    python = "python"

    def __init__(self, line: Callable[[Sequence[str]], str], python: str, *, windows: bool) -> None:
        self._line = line(["exec"] * (not windows) + [python, "-I", "-S", "-c", _BOOT])
        self.windows = windows

    def command(self, operation: str, *arguments: str) -> tuple[str, bytes]:
        """The program, with a call of what is wanted, is in the input."""
        program = f"{_program()}\nmain(*{[operation, *arguments]!a})\n".encode()
        return self._line, _READ_PROGRAM.format(size=len(program)).encode() + program

    def join(self, work: str, remote: str) -> str:
        """On Windows with forward slashes, ``C:/...`` being absolute."""
        return ntpath.join(work, remote).replace("\\", "/") if self.windows else super().join(work, remote)

    def plain(self, path: str) -> str:
        """Without ``..`` and doubled slashes."""
        return ntpath.normpath(path).replace("\\", "/") if self.windows else super().plain(path)

    def absolute(self, path: str) -> bool:
        """On Windows, with a drive."""
        return path[1:3] == ":/" if self.windows else super().absolute(path)

    def for_sftp(self, path: str) -> bytes:
        """Windows' own server says ``/C:/...``."""
        return super().for_sftp(f"/{path}" if self.windows else path)


@cache
def _program() -> str:
    return resources.files("profiler.transports").joinpath("_there.py").read_text(encoding="utf-8")

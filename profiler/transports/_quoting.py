"""Argument lists as command lines: one function per shell, and nothing else makes command lines.

What a shell cannot be given at all is refused, never changed.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from profiler.errors import TransportError

LONGEST_CMD_LINE = 8191
"""Characters that cmd.exe takes; a process may be given 32,767 (CreateProcess)."""
_CMD_MEANS = frozenset('()!^"<>&|')
"""What cmd.exe gives a meaning to. Behind a caret none has any."""


def sh_line(argv: Sequence[str]) -> str:
    """For a POSIX `sh`: any character but NUL."""
    _require(argv, "\0", "sh")
    return shlex.join(argv)


def cmd_line(argv: Sequence[str]) -> str:
    """For `cmd.exe /c "LINE"`, as OpenSSH on Windows starts it.

    Two readers follow each other: cmd.exe itself, then the started program's own splitting of its command line. The
    words are quoted for the second (the rules of Microsoft's C runtime), then each of its characters that means
    something to cmd.exe gets a caret, its quotes too: cmd.exe then never believes itself inside a string, whose end it
    would see elsewhere than the program does. The program's own name has real quotes, for cmd.exe has to find it. Line
    ends cannot be said; nor can ``%``, which `cmd /c` has no way to escape: `%NAME%` would be replaced. The line is
    limited to `LONGEST_CMD_LINE`.

    Raises:
        TransportError: An argument cannot be said to this shell.
    """
    _require(argv, "\0\r\n%", "cmd.exe")
    program, *arguments = argv
    _require([program], '"', "cmd.exe")
    words = subprocess.list2cmdline(arguments)
    line = f'"{program}" ' + "".join(f"^{char}" if char in _CMD_MEANS else char for char in words)
    if len(line) > LONGEST_CMD_LINE:
        raise TransportError(f"a command line of {len(line)} characters is too long for cmd.exe ({LONGEST_CMD_LINE})")
    return line


def powershell_line(argv: Sequence[str]) -> str:
    """For PowerShell, as OpenSSH on Windows starts it (`powershell -c LINE`).

    Between single quotes nothing has a meaning but the quote, of which PowerShell knows five, and which is doubled.
    Windows PowerShell (5.1) and PowerShell before 7.3 lose double quotes inside the arguments of programs; they are
    therefore refused here, and no command line of ours has any. Empty arguments are lost likewise.

    Raises:
        TransportError: An argument cannot be said to this shell.
    """
    _require(argv, '\0\r\n"', "PowerShell")
    if "" in argv or any(word.endswith("\\") for word in argv):
        raise TransportError(f"PowerShell cannot pass on an argument that is empty or ends in a backslash: {argv!r}")
    for quote in "'\u2018\u2019\u201a\u201b":
        argv = [word.replace(quote, quote * 2) for word in argv]
    return "& " + " ".join(f"'{word}'" for word in argv) + "; exit $LASTEXITCODE"


def _require(argv: Sequence[str], forbidden: str, shell: str) -> None:
    for word in argv:
        for char in forbidden:
            if char in word:
                raise TransportError(f"{shell} cannot pass on {char!r} in an argument: {word[:80]!r}")

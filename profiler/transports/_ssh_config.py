"""OpenSSH's configuration of a user: one text out of all its files, and what it says of one host."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from profiler.errors import TransportError

_WORD = re.compile(r"\s*(\w+)[\s=]")
_BLOCKS = ("host", "match")
_DEPTH = 16
"""Files that include files: OpenSSH's limit."""


def expanded(path: str, what: str) -> Path:
    """A path with its ``~`` or ``~user`` replaced.

    Raises:
        TransportError: There is no such user here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise TransportError(f"{what} {path!r}: no such home folder here") from error


def lookup(path: Path, alias: str, *, port: int | None = None, user: str | None = None) -> dict[str, Any]:
    """What a configuration says of a host, its keywords in lower case; empty where there is no such file.

    Args:
        path: The file; what it includes is looked for beside it.
        alias: The host as it was asked for.
        port: Goes before the configuration's, also where that says ``%p``; None to leave it alone.
        user: As `port`, for ``%r``.

    Raises:
        TransportError: A file cannot be read, or says what cannot be understood.
    """
    import paramiko

    if not path.is_file():
        return {}
    first = ([] if port is None else [f"Port {port}"]) + ([] if user is None else [f"User {user}"])
    text = "\n".join([*first, *_lines(path, root=path, within="", depth=0)])
    try:
        said = dict(paramiko.SSHConfig.from_text(text).lookup(alias))
    except KeyError as error:  # the library asks for these without looking whether they are there
        raise TransportError(f"{path}: CanonicalizeHostname needs CanonicalDomains") from error
    except Exception as error:
        raise TransportError(f"{path}: {error}") from error
    number = said.get("port", "22")
    if not (str(number).isdecimal() and len(str(number)) <= 5 and 1 <= int(number) <= 65535):
        raise TransportError(f"{path}: Port {number!r} of {alias} is not a number from 1 to 65535")
    return said


def _lines(path: Path, *, root: Path, within: str, depth: int) -> Iterator[str]:
    """The lines of a file, those that it includes in their places.

    A file that is included within a block counts only where the block does: its own blocks get the block's criteria
    beside theirs, and the block begins anew behind it. (One by ``Match host`` ends too early when what it includes
    changes the host's name.)

    Args:
        path: The file.
        root: The user's configuration; the names of included files are relative to its folder.
        within: Criteria of the block that includes the file, as ``Match`` has them; empty at the top.
        depth: How many files have included one another up to here.
    """
    if depth > _DEPTH:
        raise TransportError(f"{path}: more than {_DEPTH} files include one another")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from error
    block = within
    for number, line in enumerate(text.split("\n"), start=1):
        word = _word(line)
        value = line.strip()[len(word) :].lstrip(" \t=")
        try:
            if word in _BLOCKS:
                block = _both(within, _criteria(word, value))
                yield f"Match {block}" if within else line
            elif word == "include":
                for file in _included(value, root):
                    lines = list(_lines(file, root=root, within=block, depth=depth + 1))
                    yield from lines
                    if any(_word(line) in _BLOCKS for line in lines):
                        yield f"Match {block or 'all'}"
            else:
                yield line
        except ValueError as error:
            raise TransportError(f"{path}:{number}: {line.strip()!r}: {error}") from error


def _word(line: str) -> str:
    """The keyword of a line, in lower case; empty for comments."""
    found = _WORD.match(line)
    return found[1].lower() if found else ""


def _criteria(word: str, value: str) -> str:
    """``Host a b`` as a criterion of ``Match``, which can be joined with others."""
    return value.strip() if word == "match" else f"originalhost {shlex.quote(','.join(shlex.split(value)))}"


def _both(outer: str, inner: str) -> str:
    """``Match all`` goes with no other criterion, and adds none."""
    return " ".join(part for part in (outer, inner) if part and part.lower() != "all") or (inner and "all")


def _included(value: str, root: Path) -> Iterator[Path]:
    for pattern in shlex.split(value):
        path = root.parent / expanded(pattern, "Include")
        yield from (Path(name) for name in sorted(glob(str(path))) if Path(name).is_file())  # noqa: PTH207 - no .names

"""Files of host keys (known_hosts): read line by line as OpenSSH reads them, and the project's own written.

The format is in sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": names are patterns (``*``, ``?``, ``!`` for those that are not
meant) or one hashed name; ``@revoked`` before them forbids a key; ``@cert-authority`` lines, which no plain key is
compared with, comments and whatever cannot be read are passed over.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import TransportError

if TYPE_CHECKING:
    import paramiko

_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}
"""Names may be in any encoding: what is not understood is kept as it is."""
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
"""Kinds of signatures by one type of key, ``ssh-rsa``."""
_NO_NAME = re.compile(r"[\s,*?!|]|^[@#]|^$")
"""What would not be read again as the one name that it is."""


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` shows it: ``SHA256:`` and the base64 of the hash."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def matches(names: str, name: str) -> bool:
    """Whether the first field of a line means a host, as OpenSSH decides it; a name that is denied (``!``) wins."""
    name = name.lower()
    if names.startswith("|"):
        return _is_hash_of(names, name)
    found = False
    for pattern in names.lower().split(","):
        if fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):  # brackets are not special there
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(field: str, name: str) -> bool:
    """``|1|salt|hash``: HMAC-SHA1 of the name, with a salt as long as the hash."""
    _, version, *parts = field.split("|")
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts)
    except ValueError:
        return False
    name_bytes = name.encode(**_TEXT)
    return version == "1" and hmac.compare_digest(hmac.new(salt, name_bytes, "sha1").digest(), digest)


@dataclass(frozen=True, slots=True)
class _Line:
    names: str
    key: paramiko.PKey
    revoked: bool


def _parse(line: str, name: str) -> _Line | None:
    """What a line says of a name; None for other names, comments, authorities, and keys that cannot be read here."""
    import paramiko

    words = line.split()
    revoked = words[:1] == ["@revoked"]
    names, kind, blob = [*words[revoked : revoked + 3], "", "", ""][:3]
    if not blob or names.startswith(("#", "@")) or not matches(names, name):
        return None
    try:
        data = base64.b64decode(blob, validate=True)
        key = paramiko.PKey.from_type_string(kind, data)
    except Exception:  # noqa: BLE001 - damaged keys fail in as many ways as there are libraries below
        return None
    return _Line(names, key, revoked) if (key.get_name(), key.asbytes()) == (kind, data) else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(**_TEXT).split("\n") if path.is_file() else []
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What files of host keys say of one name.

    Attributes:
        keys: By type, the keys that are right: all that the first file which knows this type lists.
        ranks: By type, which file that was: the first is 0.
        revoked: Keys that must never be taken, and the file that says so.
    """

    keys: Mapping[str, tuple[paramiko.PKey, ...]]
    ranks: Mapping[str, int]
    revoked: Mapping[paramiko.PKey, Path]

    def accepts(self, key: paramiko.PKey) -> bool:
        """Whether a host that shows this key is the known one."""
        return key not in self.revoked and key in self.keys.get(key.get_name(), ())

    def instead_of(self, key: paramiko.PKey) -> paramiko.PKey | None:
        """What is known where this key is shown: one of its type, or else of another; None when nothing is."""
        same = self.keys.get(key.get_name(), ())
        return next((known for known in (*same, *(key for keys in self.keys.values() for key in keys))), None)

    def in_order(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """Kinds of host keys in the order to ask for them: those that are known first, the first file's before all."""
        return tuple(sorted(kinds, key=lambda kind: self.ranks.get("ssh-rsa" if kind in _RSA else kind, math.inf)))


def known_keys(files: Sequence[Path], name: str) -> Known:
    """What is known of a host's keys.

    Args:
        files: Files of host keys; those that do not exist know nothing.
        name: Under which its key stands there: ``host``, ``[host]:port``, or an alias.

    Raises:
        TransportError: A file cannot be read.
    """
    found = [(path, [entry for line in _lines(path) if (entry := _parse(line, name))]) for path in files]
    revoked = {entry.key: path for path, entries in found for entry in entries if entry.revoked}
    keys: dict[str, tuple[paramiko.PKey, ...]] = {}
    ranks: dict[str, int] = {}
    for rank, (_, entries) in enumerate(found):
        for entry in entries:
            kind = entry.key.get_name()
            if entry.key not in revoked and ranks.setdefault(kind, rank) == rank:
                keys[kind] = (*keys.get(kind, ()), entry.key)
    return Known(keys=keys, ranks=ranks, revoked=revoked)


def keep(path: Path, name: str, key: paramiko.PKey) -> None:
    """Write a host's key into a file, in place of every key that was known for this name there.

    Lines for other names stay, and so do names that share a line with this one; what is revoked stays revoked.

    Raises:
        TransportError: The file cannot be written, or the name cannot stand in it.
    """
    if _NO_NAME.search(name):
        raise TransportError(
            f"{path}: a key cannot be kept under the name {name!r}", hint="Set another HostKeyAlias in ~/.ssh/config."
        )
    kept = [line for old in _lines(path) if (line := _without(old, name)) is not None]
    text = "\n".join([f"{name} {key.get_name()} {key.get_base64()}", *kept]).rstrip("\n") + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = path.with_name(f".known_hosts.{os.getpid()}")
        new.write_bytes(text.encode(**_TEXT))
        new.replace(path)
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from error


def _without(line: str, name: str) -> str | None:
    """A line without its word on one name; None when it has no word on another."""
    entry = _parse(line, name)
    if entry is None or entry.revoked:
        return line
    if entry.names.startswith("|"):
        return None
    names = [other for other in entry.names.split(",") if other.lower() != name.lower()]
    if matches(",".join(names), name):  # a pattern: it goes on to mean the others
        names.append(f"!{name}")
    if all(other.startswith("!") for other in names):
        return None
    return line.replace(entry.names, ",".join(names), 1)

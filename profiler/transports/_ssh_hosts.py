"""Hosts of OpenSSH's kind: where they are, whose keys are known, what goes wrong on the way.

`~/.ssh/config` is honoured for host name, port, user, keys, jump hosts, proxy commands and known hosts; what the
device file says goes before it. A host key that is not known is refused: `archsearch devices trust NAME` shows its
fingerprint and keeps the key in a file of this project's own; the user's `known_hosts` counts beside it.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.errors import AccessRefused, ConnectionLost, TransportError

if TYPE_CHECKING:
    import paramiko

DEFAULT_PORT = 22
_CONFIG = Path("~/.ssh/config")


def own_known_hosts() -> Path:
    """The file of host keys that `archsearch devices trust` writes."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "archsearch" / "known_hosts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One host, as the device file and `~/.ssh/config` together describe it.

    Attributes:
        host: Name or address to connect to.
        port: TCP port.
        user: Account.
        key_name: Under which its key stands in known_hosts files: ``host``, ``[host]:port``, or its alias.
        keys: Private keys to try; none for the agent's and those of ``~/.ssh``.
        jump: Hosts to go through, as OpenSSH writes them (``user@host:port``, commas between); None for none.
        proxy_command: A command whose standard streams are the link, or None.
        known_hosts: Files of host keys, the first that knows a host counts; the project's own comes first.
    """

    host: str
    port: int
    user: str
    key_name: str
    keys: tuple[str, ...]
    jump: str | None
    proxy_command: str | None
    known_hosts: tuple[Path, ...]

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.user}@{self.host}:{self.port}"


def endpoint(
    alias: str,
    *,
    port: int | None = None,
    user: str | None = None,
    key_file: str | None = None,
    jump: str | None = None,
    known_hosts: str | None = None,
    config: Path = _CONFIG,
) -> Endpoint:
    """What is known of a host: the arguments first, then OpenSSH's configuration, then its defaults.

    Raises:
        TransportError: The configuration file cannot be read.
    """
    import paramiko

    said: Any = {}
    path = config.expanduser()
    if path.is_file():
        try:
            said = paramiko.SSHConfig.from_path(str(path)).lookup(alias)
        except Exception as error:
            raise TransportError(f"{path}: {error}") from error
    host, number = said.get("hostname", alias), int(port or said.get("port", DEFAULT_PORT))
    files = known_hosts or said.get("userknownhostsfile", "~/.ssh/known_hosts")
    jump = jump or said.get("proxyjump")
    command = said.get("proxycommand")
    return Endpoint(
        host=host, port=number, user=user or said.get("user") or getpass.getuser(),
        key_name=said.get("hostkeyalias") or (host if number == DEFAULT_PORT else f"[{host}]:{number}"),
        keys=(key_file,) if key_file else tuple(said.get("identityfile", ())),
        jump=None if jump == "none" else jump, proxy_command=None if command == "none" else command,
        known_hosts=(own_known_hosts(), *(Path(file).expanduser() for file in files.split())),
    )  # fmt: skip


def hops(place: Endpoint) -> Iterator[Endpoint]:
    """The hosts on the way to a place, the first to be connected first."""
    for text in (place.jump or "").split(","):
        user, _, rest = text.strip().rpartition("@")
        host, _, port = rest.partition(":")
        if not host or (port and not port.isdecimal()):
            if text.strip():
                raise TransportError(f"jump {text.strip()!r} is not of the form user@host:port")
            continue
        yield endpoint(host, port=int(port) if port else None, user=user or None)


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` shows it: ``SHA256:`` and the base64 of the hash."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def refuse_unknown(place: Endpoint, device: str) -> paramiko.MissingHostKeyPolicy:
    import paramiko

    class Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
            raise AccessRefused(
                f"the key of {place.title} is not known ({key.get_name()} {fingerprint(key)})",
                hint=f"`archsearch devices trust {device}` shows it and keeps it, once you have compared it.",
            )

    return Refuse()


@contextmanager
def link_errors(place: Endpoint, device: str) -> Iterator[None]:
    """Errors of the link as ours."""
    import paramiko

    try:
        yield
    except paramiko.BadHostKeyException as error:
        raise AccessRefused(
            f"the key of {place.title} has changed: known is {fingerprint(error.expected_key)}, shown is "
            f"{fingerprint(error.key)}; somebody may be in between",
            hint=f"If the device was set up anew, `archsearch devices trust {device}` keeps the new key.",
        ) from error
    except paramiko.AuthenticationException as error:
        raise AccessRefused(
            f"{place.title} does not let us in: {error}",
            hint=f"Does `ssh -p {place.port} {place.user}@{place.host}` work? Name the right `user` and `key_file`, or "
            "load the key into your agent (ssh-add).",
        ) from error
    except FileNotFoundError as error:
        raise TransportError(f"{error.filename}: not there", hint="Is `key_file` right in the device file?") from error
    except socket.gaierror as error:
        raise TransportError(f"{place.host}: {error.strerror}", hint="Is `host` right in the device file?") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectionLost(f"{place.title}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why a link broke, without the library's own words where it has some for this."""
    if str(error).startswith("Error reading SSH protocol banner"):
        return "the connection was closed before an SSH server answered"
    return getattr(error, "strerror", None) or str(error) or "the connection was closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A host whose key is not known, or another than the known one.

    Attributes:
        place: Which.
        key: What it shows.
        before: What is known of it, or None.
    """

    place: Endpoint
    key: paramiko.PKey
    before: paramiko.PKey | None

    @property
    def shown(self) -> str:
        """Fingerprint of the key that it shows."""
        return fingerprint(self.key)

    @property
    def known(self) -> str | None:
        """Fingerprint of the known key, or None."""
        return None if self.before is None else fingerprint(self.before)

    def trust(self) -> Path:
        """Keep the key in the project's own file, in place of any that was known there; the file.

        Raises:
            TransportError: It cannot be written.
        """
        path = own_known_hosts()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            kind = self.key.get_name()
            kept = [line for line in old if line.split()[:2] != [self.place.key_name, kind]]
            new = path.with_name(f".known_hosts.{os.getpid()}")
            new.write_text(
                "\n".join([*kept, f"{self.place.key_name} {kind} {self.key.get_base64()}", ""]), encoding="utf-8"
            )
            new.replace(path)
        except OSError as error:
            raise TransportError(f"{path}: {error.strerror}") from error
        return path


def keys_of(path: Path, place: Endpoint) -> dict[str, paramiko.PKey]:
    """Keys of a place in a known_hosts file, by type."""
    import paramiko

    if not path.is_file():
        return {}
    try:
        found = paramiko.HostKeys(str(path)).lookup(place.key_name)
    except Exception as error:
        raise TransportError(f"{path}: not a file of host keys ({error})") from error
    return {} if found is None else dict(found)

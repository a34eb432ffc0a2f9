"""Hosts of OpenSSH's kind: where they are, and whose keys are known.

`~/.ssh/config` is honoured for host name, port, user, keys, jump hosts, proxy commands and known hosts; what the
device file says goes before it. A host key that is not known is refused: `archsearch devices trust NAME` shows its
fingerprint and keeps the key in a file of this project's own; the user's `known_hosts` counts beside it.
"""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import AccessRefused, TransportError
from profiler.transports._known_hosts import Known, fingerprint, keep, known_keys
from profiler.transports._ssh_config import expanded, lookup

if TYPE_CHECKING:
    import paramiko

DEFAULT_PORT = 22
_CONFIG = Path("~/.ssh/config")
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<address>[^]]+)\]|(?P<host>[^][:@/]+))(?::(?P<port>[0-9]{1,5}))?/?"
)


def own_known_hosts() -> Path:
    """The file of host keys that `archsearch devices trust` writes."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expanded(base, "XDG_CONFIG_HOME") / "archsearch" / "known_hosts"


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
        key_named: The device file names the key: one that cannot be used is an error.
        is_jump: It is on the way to the device.
    """

    host: str
    port: int
    user: str
    key_name: str
    keys: tuple[str, ...]
    jump: str | None
    proxy_command: str | None
    known_hosts: tuple[Path, ...]
    key_named: bool = False
    is_jump: bool = False

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
        TransportError: The configuration file cannot be read, or a path starts in the home folder of nobody.
    """
    said = lookup(expanded(str(config), "configuration"), alias, port=port, user=user)
    host, number = said.get("hostname", alias), int(port or said.get("port", DEFAULT_PORT))
    files = [known_hosts] if known_hosts else said.get("userknownhostsfile", "~/.ssh/known_hosts").split()
    jump = jump or said.get("proxyjump")
    command = said.get("proxycommand")
    name = said.get("hostkeyalias") or (host if number == DEFAULT_PORT else f"[{host}]:{number}")
    return Endpoint(
        host=host, port=number, user=user or said.get("user") or getpass.getuser(), key_name=name.lower(),
        keys=(key_file,) if key_file else tuple(said.get("identityfile", ())), key_named=key_file is not None,
        jump=None if jump == "none" else jump, proxy_command=None if command == "none" else command,
        known_hosts=(own_known_hosts(), *(expanded(file, "known_hosts") for file in files)),
    )  # fmt: skip


def hops(place: Endpoint, *, config: Path = _CONFIG) -> tuple[Endpoint, ...]:
    """The hosts on the way to a place, the first to be connected first.

    The first of those that are listed is reached as the configuration says, perhaps through others; each further one
    from the one before it, whatever the configuration says of it.

    Raises:
        TransportError: One is not of the form that OpenSSH reads, or the way leads in a circle.
    """
    way: list[Endpoint] = []
    while place.jump:
        listed = [_hop(text.strip(), config) for text in place.jump.split(",") if text.strip()]
        if not listed:
            break
        way = [*listed, *way]
        place = listed[0]
        if place.title in [other.title for other in way[1:]]:
            raise TransportError(
                f"jump hosts lead in a circle: {' - '.join(other.title for other in way)}",
                hint=f"Write `ProxyJump none` for {place.host} in ~/.ssh/config.",
            )
    return tuple(way)


def _hop(text: str, config: Path) -> Endpoint:
    found = _HOP.fullmatch(text)
    if found is None or (found["port"] and not 1 <= int(found["port"]) <= 65535):
        raise TransportError(f"jump {text!r} is not of the form user@host:port (an address of IPv6 as [address]:port)")
    port = int(found["port"]) if found["port"] else None
    place = endpoint(found["address"] or found["host"], port=port, user=found["user"], config=config)
    return replace(place, is_jump=True)


def host_keys(place: Endpoint) -> Known:
    """What its files of host keys say of a place.

    Raises:
        TransportError: A file cannot be read.
    """
    return known_keys(place.known_hosts, place.key_name)


def host_key_policy(place: Endpoint, device: str, known: Known) -> paramiko.MissingHostKeyPolicy:
    """What judges every key that a place shows: the client itself is given none to compare with."""
    import paramiko

    class Judge(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
            refuse_revoked(place, known, key)
            if known.accepts(key):
                return
            shown, before = f"{key.get_name()} {fingerprint(key)}", known.instead_of(key)
            if before is None:
                raise AccessRefused(
                    f"the key of {place.title} is not known ({shown})",
                    hint=f"`archsearch devices trust {device}` shows it and keeps it, once you have compared it.",
                )
            raise AccessRefused(
                f"the key of {place.title} has changed: known is {before.get_name()} {fingerprint(before)}, shown is "
                f"{shown}; somebody may be in between",
                hint=f"If the device was set up anew, `archsearch devices trust {device}` keeps the new key.",
            )

    return Judge()


def refuse_revoked(place: Endpoint, known: Known, key: paramiko.PKey) -> None:
    """Nothing, unless a file says that this key must not be taken.

    Raises:
        AccessRefused: It does.
    """
    if key in known.revoked:
        raise AccessRefused(
            f"the key of {place.title} is revoked in {known.revoked[key]} ({key.get_name()} {fingerprint(key)}); "
            "whoever shows it may not be the device",
            hint="Make a new host key on the device (ssh-keygen -A), unless the line is wrong.",
        )


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
        """Type and fingerprint of the known key, or None."""
        return None if self.before is None else f"{self.before.get_name()} {fingerprint(self.before)}"

    def trust(self) -> Path:
        """Keep the key in the project's own file, in place of any that was known there; the file.

        Raises:
            TransportError: It cannot be written.
        """
        path = own_known_hosts()
        keep(path, self.place.key_name, self.key)
        return path

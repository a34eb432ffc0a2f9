"""Links to hosts of OpenSSH's kind: what carries them, and what goes wrong on the way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from profiler.errors import AccessRefused, ConnectionLost, TransportError
from profiler.transports._known_hosts import Known
from profiler.transports._ssh_hosts import Endpoint

if TYPE_CHECKING:
    import paramiko


def _which(place: Endpoint) -> str:
    return f"Is `{'jump' if place.is_jump else 'host'}` right in the device file, or what ~/.ssh/config says of it?"


def socket_to(place: Endpoint, before: paramiko.Transport | None, *, timeout_s: float, lost_after_s: float) -> Any:
    """What carries a link: a channel of the one before it, the streams of a command, or a connection.

    Args:
        place: Where to.
        before: The link to the host before it on the way; None for the first.
        timeout_s: How long an answer is waited for.
        lost_after_s: A connection on which sent data stays unanswered for so long ends.

    Raises:
        TransportError: The name cannot be one of a host, or the command does not start.
        OSError: Nobody answers.
    """
    if before is not None:
        return before.open_channel("direct-tcpip", (place.host, place.port), ("", 0), timeout=timeout_s)
    if place.proxy_command:
        return _proxy(place)
    try:
        link = socket.create_connection((place.host, place.port), timeout=timeout_s)
    except UnicodeError as error:  # before anybody is asked: parts of names are neither empty nor above 63 letters
        raise TransportError(f"{place.host!r} cannot be the name of a host", hint=_which(place)) from error
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(lost_after_s * 1000))
    return link


def _proxy(place: Endpoint) -> paramiko.ProxyCommand:
    import paramiko

    try:
        return paramiko.ProxyCommand(place.proxy_command)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TransportError(
            f"{place.title}: its ProxyCommand does not start ({place.proxy_command}): {why}",
            hint="It is in ~/.ssh/config; it is started without a shell. Is the program installed?",
        ) from error


def link_over(way: Any, known: Known, **options: Any) -> paramiko.Transport:
    """A link that asks for host keys of the known types first, so that it is these which are compared."""
    import paramiko

    link = paramiko.Transport(way, **options)
    offered = link.get_security_options()
    offered.key_types = known.in_order(offered.key_types)
    return link


@contextmanager
def link_errors(place: Endpoint, patience_s: float) -> Iterator[None]:
    """Errors of the link as ours; `patience_s` is how long each step of it was waited for."""
    import paramiko

    try:
        yield
    except paramiko.SFTPError as error:
        raise TransportError(
            f"{place.title}: its SFTP server sends what is not SFTP",
            hint="Its start-up files write although the shell is not interactive: let them be silent then.",
        ) from error
    except paramiko.AuthenticationException as error:
        if str(error) == "Authentication timeout.":
            raise ConnectionLost(f"{place.title}: {_no_answer(patience_s)}") from error
        raise AccessRefused(f"{place.title} does not let us in: it closed the connection when it was shown a key",
            hint="Too many keys in your agent? Name the right one by `key_file`.",
        ) from error  # fmt: skip
    except socket.gaierror as error:
        raise TransportError(f"{place.host}: {error.strerror}", hint=_which(place)) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectionLost(f"{place.title}: {_reason(error, patience_s)}") from error


def _no_answer(seconds: float) -> str:
    return f"no answer within {seconds:g} s"


def _reason(error: Exception, patience_s: float) -> str:
    """Why a link broke, without the library's own words where it has some for this."""
    if str(error).startswith("Error reading SSH protocol banner"):
        if isinstance(error.__context__, TimeoutError):
            return _no_answer(patience_s)
        return "the connection was closed before an SSH server answered"
    if str(error) in ("No existing session", "Timeout opening channel."):
        return _no_answer(patience_s)
    return getattr(error, "strerror", None) or str(error) or "the connection was closed"

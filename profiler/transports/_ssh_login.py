"""Being let in by a host: which private keys are tried, and what is said when none is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import AccessRefused
from profiler.transports._ssh_config import expanded

if TYPE_CHECKING:
    import paramiko

    from profiler.transports._ssh_hosts import Endpoint

_DEFAULTS = tuple(f"~/{folder}/id_{kind}" for folder in (".ssh", "ssh") for kind in ("ed25519", "ecdsa", "rsa"))
"""Where keys are when nobody says it; without the dot on some Windows machines."""
_PUBLIC = (b"ssh-", b"ecdsa-", b"sk-")
_PROMPTS = frozenset({"keyboard-interactive", "password"})


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A key file that is not opened here.

    Attributes:
        why: What is wrong with it.
        may_be_held: The agent may hold its key, so that the file is not needed.
    """

    why: str
    may_be_held: bool = False


def _load(path: Path) -> paramiko.PKey | _Unusable:
    import paramiko

    try:
        if path.exists() and not path.is_file():
            return _Unusable(f"{path} is not a file")
        return paramiko.PKey.from_path(path)
    except FileNotFoundError as error:
        return _Unusable(f"{error.filename} is not there")
    except OSError as error:
        return _Unusable(f"{path}: {error.strerror}")
    except (TypeError, paramiko.PasswordRequiredException):  # the first is what the library below says
        return _Unusable(f"{path} is encrypted: load it into your agent, ssh-add {path}", may_be_held=True)
    except Exception:  # noqa: BLE001 - whatever else the libraries below say of a file that is no key
        if path.read_bytes().startswith(_PUBLIC):
            return _Unusable(f"{path} is a public key: the private one is named without .pub", may_be_held=True)
        return _Unusable(f"{path} is not a private key that can be read here")


@contextmanager
def _agent_keys(problems: list[str]) -> Iterator[tuple[paramiko.PKey, ...]]:
    """Keys of the agent, which signs with them for as long as it is asked to; none where there is no agent."""
    import paramiko

    try:
        agent = paramiko.Agent()
    except paramiko.SSHException:
        problems.append("what is at SSH_AUTH_SOCK is no agent")
        yield ()
        return
    with closing(agent):
        yield agent.get_keys()


class Login:
    """Offers keys to a host, one after the other: the files that were named, the agent's, those of `~/.ssh`.

    Raises:
        AccessRefused: The file that the device file names is not a key.
        TransportError: It is in the home folder of nobody.
    """

    def __init__(self, place: Endpoint) -> None:
        self._place = place
        self._unusable: list[str] = []
        self._named = list(self._read(place.keys, needed=place.key_named))
        self._defaults = list(self._read([path for path in _DEFAULTS if expanded(path, "key file").is_file()]))

    def _read(self, paths: Sequence[str], *, needed: bool = False) -> Iterator[paramiko.PKey]:
        for path in paths:
            key = _load(expanded(path, "key file"))
            if not isinstance(key, _Unusable):
                yield key
            elif needed and not key.may_be_held:
                raise AccessRefused(key.why, hint="Is `key_file` right in the device file?")
            else:
                self._unusable.append(key.why)

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Be let in over a link whose host key was checked.

        Raises:
            AccessRefused: No key is taken, or there is none.
            paramiko.SSHException: The link broke.
        """
        import paramiko

        tried, others = 0, list(self._unusable)
        with _agent_keys(others) as held:
            for key in (*self._named, *held, *self._defaults):
                tried += 1
                try:
                    wanted = transport.auth_publickey(self._place.user, key)
                except paramiko.BadAuthenticationType as error:
                    others.append(f"it asks for {' or '.join(error.allowed_types)}")
                    break
                except paramiko.SSHException as error:
                    if not transport.is_active() or str(error) == "Authentication timeout.":
                        raise
                    continue
                if _PROMPTS & set(wanted):  # a second factor: whoever sits here is asked
                    transport.auth_interactive_dumb(self._place.user)
                if transport.is_authenticated():
                    return
        keys = {0: "there is no key to show it", 1: "it does not take our key"}.get(tried, "it takes none of our keys")
        raise AccessRefused(f"{self._place.title} does not let us in: {'; '.join([keys, *others])}", hint=self._hint())

    def _hint(self) -> str:
        place = self._place
        if place.is_jump:
            return (
                "`key_file` is of the device alone: keys of jump hosts come from ~/.ssh/config or the agent (ssh-add)."
            )
        return (
            f"Does `ssh -p {place.port} {place.user}@{place.host}` work? Name the right `user` and `key_file`, or "
            "load the key into your agent (ssh-add)."
        )

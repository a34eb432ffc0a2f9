"""Where an SSH device is, from the device file and OpenSSH's configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import TransportError
from profiler.transports import Completed
from profiler.transports._dialects import quoted
from profiler.transports._shell import heard
from profiler.transports._ssh_hosts import Unknown, endpoint, fingerprint, hops, own_known_hosts

CONFIG = """\
Host mini
  HostName 10.0.0.7
  User me
  Port 2222
  IdentityFile ~/.ssh/mini_key
  ProxyJump you@gate:2200, inner
  UserKnownHostsFile ~/known_a ~/known_b
Host aliased
  HostKeyAlias stable-name
  Port 2222
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(CONFIG)
    return path


def test_the_configuration_of_openssh_counts_where_the_device_file_is_silent(config: Path):
    place = endpoint("mini", config=config)
    assert (place.host, place.port, place.user, place.key_name) == ("10.0.0.7", 2222, "me", "[10.0.0.7]:2222")
    assert [Path(key).name for key in place.keys] == ["mini_key"]
    assert place.known_hosts == (own_known_hosts(), Path.home() / "known_a", Path.home() / "known_b")
    assert next((hop.user, hop.host, hop.port) for hop in hops(place)) == ("you", "gate", 2200)
    assert all(hop.is_jump for hop in hops(place))
    assert [hop.host for hop in hops(place)] == ["gate", "inner"]
    mine = endpoint("mini", port=22, user="other", key_file="/k", jump="none", known_hosts="/h", config=config)
    assert (mine.port, mine.user, mine.keys, mine.key_name) == (22, "other", ("/k",), "10.0.0.7")
    assert (mine.jump, mine.known_hosts[1:]) == (None, (Path("/h"),))
    assert endpoint("aliased", config=config).key_name == "stable-name"
    plain = endpoint("elsewhere", config=config)
    assert (plain.host, plain.port, plain.jump, plain.keys) == ("elsewhere", 22, None, ())


@pytest.mark.parametrize(
    "jump", ["me@gate:ssh", "gate:99999", "gate:0", "me@::1", "me@", "ssh://", "a@[::1", "http://x"]
)
def test_a_jump_that_is_none_is_refused(config: Path, jump: str):
    with pytest.raises(TransportError, match="not of the form"):
        hops(endpoint("mini", jump=jump, config=config))


@pytest.mark.parametrize(
    ("jump", "where"),
    [
        ("root@[::1]:22", ("root", "::1", 22)),
        ("root@[fe80::1%eth0]", ("root", "fe80::1%eth0", 22)),
        ("ssh://root@gate", ("root", "gate", 22)),
        ("ssh://root@gate:2200/", ("root", "gate", 2200)),
        ("me@my.org@gate", ("me@my.org", "gate", 22)),
        (",", None),
    ],
)
def test_jumps_are_read_as_openssh_writes_them(config: Path, jump: str, where: tuple[str, str, int] | None):
    way = hops(endpoint("mini", jump=jump, config=config), config=config)
    assert [(hop.user, hop.host, hop.port) for hop in way] == ([] if where is None else [where])


def test_a_jump_host_may_be_behind_others(config: Path):
    config.write_text(
        "Host mini\n ProxyJump inner,last\nHost inner\n ProxyJump outer\nHost last\n ProxyJump never\n"
        "Host outer\n ProxyCommand nc %h %p\nHost a\n ProxyJump b\nHost b\n ProxyJump a\nHost c\n ProxyJump c\n"
    )
    way = hops(endpoint("mini", config=config), config=config)
    assert [hop.host for hop in way] == ["outer", "inner", "last"]
    assert way[0].proxy_command == "nc outer 22"
    for alias in ("a", "c"):
        with pytest.raises(TransportError, match="lead in a circle") as caught:
            hops(endpoint(alias, config=config), config=config)
        assert "ProxyJump none" in str(caught.value.hint)


def test_files_of_host_keys_are_named_as_they_are_written(config: Path):
    assert endpoint("mini", known_hosts="/my hosts/known", config=config).known_hosts[1:] == (Path("/my hosts/known"),)
    with pytest.raises(TransportError, match="no such home folder"):
        endpoint("mini", known_hosts="~nosuchuser/k", config=config)
    assert endpoint("LocalHost", port=2222, config=config).key_name == "[localhost]:2222"


def test_a_kept_key_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place, other = endpoint("mini", config=config), endpoint("aliased", config=config)
    for key in (paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()):
        for where in (place, other):
            path = Unknown(place=where, key=key, before=None).trust()
        known = paramiko.HostKeys(str(path))
        assert len(path.read_text().splitlines()) == 2
        for where in (place, other):
            assert known.check(where.key_name, key)
    assert fingerprint(key).startswith("SHA256:")


@given(
    st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=30), max_size=4)
)
def test_whatever_an_argument_holds_is_no_code(arguments: list[str]):
    line = quoted('for a in "$@"; do printf "%s\\0" "$a"; done', *arguments)
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert heard(Completed(exit_code=0, stdout=done.stdout, stderr=done.stderr)).stdout == b"".join(
        argument.encode() + b"\0" for argument in arguments
    )

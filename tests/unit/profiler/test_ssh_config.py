"""OpenSSH's configuration is read with all its files, as `ssh -G` reads it, and told of where it cannot be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profiler.errors import TransportError
from profiler.transports._ssh_config import expanded, lookup

MAIN = """\
Include "{folder}/more/*"
# Include {folder}/never
Host a b
  Include {folder}/inside {folder}/missing
  Port 2201
Host c
  include={folder}/inside
Match originalhost d
  Include {folder}/inside
Host *
  User everyone
  Port 2299
"""
INSIDE = """\
User within
Host b d
  HostName b-or-d.example
Host c
  HostName c.example
Match all
  Port 2202
"""


@pytest.mark.parametrize("alias", ["a", "b", "c", "d", "e", "f"])
def test_included_files_count_where_openssh_counts_them(tmp_path: Path, alias: str):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "1").write_text("Host e\n  HostName e.example\n")
    (tmp_path / "more" / "2").write_text(f"Host f e\n  HostName f.example\n  Include {tmp_path}/deeper\n")
    (tmp_path / "more" / ".no").write_text("Host *\n  Port 1\n")
    (tmp_path / "deeper").write_text("Host e\n  Port 2203\nHost a\n  Port 3\n")
    (tmp_path / "never").write_text("Host *\n  Port 2\n")
    (tmp_path / "inside").write_text(INSIDE)
    config = tmp_path / "config"
    config.write_text(MAIN.format(folder=tmp_path))
    done = subprocess.run(["ssh", "-G", "-F", str(config), alias], capture_output=True, text=True, check=True)
    theirs = dict(text.split(" ", 1) for text in done.stdout.splitlines() if " " in text)
    said = lookup(config, alias)
    assert {key: said[key] for key in ("hostname", "port", "user")} == {
        key: theirs[key] for key in ("hostname", "port", "user")
    }


def test_names_of_included_files_begin_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "one").write_text("Host one\n  Port 1001\n")
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "two").write_bytes(b"# caf\xe9\nHost two\n  Port 1002\n")
    config = tmp_path / "config"
    config.write_text("Include ~/one config.d/* config.d\n")
    assert [lookup(config, alias).get("port") for alias in ("one", "two", "three")] == ["1001", "1002", None]
    assert lookup(tmp_path / "none", "one") == {}


def test_the_device_file_goes_before_the_configuration_in_commands_too(tmp_path: Path):
    config = tmp_path / "config"
    config.write_text("Host mini\n  Port 2222\n  User me\n  ProxyCommand nc -X %r %h %p\n")
    assert lookup(config, "mini")["proxycommand"] == "nc -X me mini 2222"
    assert lookup(config, "mini", port=22, user="you")["proxycommand"] == "nc -X you mini 22"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Host x\n  Port abc\n", "Port 'abc' of x is not a number from 1 to 65535"),
        ("Port 99999\n", "'99999'"),
        ("Port \N{SUPERSCRIPT TWO}\n", "is not a number"),
        ("CanonicalizeHostname yes\n", "CanonicalizeHostname needs CanonicalDomains"),
        ("Include config\n", "more than 16 files include one another"),
        ("Host y\nInclude 'config\n", r"config:2: .*No closing quotation"),
        ("Include ~nosuchuser/x\n", "no such home folder"),
        ("nonsense\n", "nonsense"),
    ],
)
def test_what_cannot_be_understood_is_told_with_the_file(tmp_path: Path, text: str, said: str):
    config = tmp_path / "config"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(TransportError, match=said) as caught:
        lookup(config, "x")
    assert said.startswith("no such") or str(config) in str(caught.value)


def test_the_home_of_nobody_is_told(tmp_path: Path):
    with pytest.raises(TransportError, match=r"known_hosts '~nosuchuser/k': no such home folder here"):
        expanded("~nosuchuser/k", "known_hosts")

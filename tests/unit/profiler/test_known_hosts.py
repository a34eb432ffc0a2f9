"""Files of host keys are read as OpenSSH reads them, and written without harm to what else they hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest

from profiler.errors import TransportError
from profiler.transports._known_hosts import keep, known_keys, matches

NAME = "[host.example.com]:2222"
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"


def line(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


@pytest.fixture(scope="module")
def keys() -> list[paramiko.PKey]:
    """Two of one type, and one each of two other types."""
    return [
        paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate(bits=384),
        paramiko.RSAKey.generate(2048),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (names, name)
        for name in ("host.example.com", "[host.example.com]:2222", "::1")
        for names in (
            "host.example.com", "HOST.example.com", "other,host.example.com", "*.example.com", "*", "ho?t.example.com",
            "h?t.example.com", "*.example.com,!host.example.com", "!host.example.com,*", "!host.example.com", "",
            "[host.example.com]:2222", "[*]:2222", "[host.example.com]:*", "[h]ost.example.com", "::1", "*:*",
            "host.example.co", "*host*example*", "|1|AAAA|AAAA", "|2|x", "|", "a|b", "host.example.com,",
        )
    ],
)  # fmt: skip
def test_names_are_matched_as_openssh_does(tmp_path: Path, keys: list[paramiko.PKey], names: str, name: str):
    file = tmp_path / "known"
    file.write_text(f"{names} {line(keys[0])}\n")
    theirs = subprocess.run(["ssh-keygen", "-F", name, "-f", str(file)], capture_output=True, check=False)
    assert matches(names, name) == (theirs.returncode == 0)
    assert known_keys([file], name).accepts(keys[0]) == (theirs.returncode == 0)


def test_a_hashed_name_is_matched(tmp_path: Path, keys: list[paramiko.PKey]):
    file = tmp_path / "known"
    file.write_text(f"{NAME} {line(keys[0])}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], capture_output=True, check=True)
    assert file.read_text().startswith("|1|")
    assert known_keys([file], NAME.upper()).accepts(keys[0])
    assert not known_keys([file], "[host.example.com]:2223").keys


def test_what_cannot_be_read_is_passed_over_and_the_rest_counts(tmp_path: Path, keys: list[paramiko.PKey]):
    file = tmp_path / "known"
    right, authority = keys[:2]
    file.write_bytes(
        f"# {NAME} {line(authority)}\n\n@cert-authority * {line(authority)}\n{NAME} {ED25519}\n{NAME} ssh-ed25519 %%%\n"
        f"{NAME} ssh-rsa {right.get_base64()}\n{NAME} 1024 35 1234567\n{NAME}\n@other {NAME} {line(authority)}\n"
        f"@revoked @revoked {NAME} {line(right)}\n".encode()
        + b"caf\xe9 " + line(authority).encode() + b"\n"
        + f"  {NAME}\t{line(right)} a comment\r\n".encode()
    )  # fmt: skip
    known = known_keys([file, tmp_path / "not there", tmp_path], NAME)
    assert known.accepts(right)
    assert not known.accepts(authority)
    assert list(known.keys) == [right.get_name()]


def test_a_revoked_key_is_never_right(tmp_path: Path, keys: list[paramiko.PKey]):
    own, users = tmp_path / "own", tmp_path / "users"
    own.write_text(f"{NAME} {line(keys[0])}\n{NAME} {line(keys[1])}\n")
    users.write_text(f"@revoked *.example.org,[*]:2222 {line(keys[0])}\n@revoked other {line(keys[1])}\n")
    known = known_keys([own, users], NAME)
    assert not known.accepts(keys[0])
    assert known.revoked == {keys[0]: users}
    assert known.accepts(keys[1])
    assert known.instead_of(keys[0]) == keys[1]


def test_any_key_of_the_first_file_that_knows_a_type_is_right(tmp_path: Path, keys: list[paramiko.PKey]):
    own, users = tmp_path / "own", tmp_path / "users"
    one, two, other_curve, rsa = keys
    own.write_text(f"{NAME} {line(rsa)}\n")
    users.write_text(f"{NAME} {line(one)}\n{NAME} {line(two)}\n{NAME} {line(paramiko.RSAKey.generate(2048))}\n")
    known = known_keys([own, users], NAME)
    assert known.accepts(rsa)
    assert known.accepts(one)
    assert known.accepts(two)
    assert len(known.keys["ssh-rsa"]) == 1, "the first file's word counts"
    assert not known.accepts(other_curve)
    assert known.instead_of(other_curve) == rsa, "a host that is known by another type is not unknown"
    kinds = ("ssh-ed25519", other_curve.get_name(), one.get_name(), "rsa-sha2-512", "rsa-sha2-256")
    assert known.in_order(kinds) == ("rsa-sha2-512", "rsa-sha2-256", one.get_name(), "ssh-ed25519", kinds[1])
    assert known_keys([], NAME).instead_of(one) is None


def test_a_kept_key_takes_the_place_of_every_other_for_its_name(tmp_path: Path, keys: list[paramiko.PKey]):
    file = tmp_path / "folder" / "known"
    new, old, old_curve, old_rsa = keys
    file.parent.mkdir()
    file.write_text(f"{NAME} {line(old)}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], capture_output=True, check=True)
    others = [f"# caf\udce9 {NAME}", f"@revoked * {line(old)}", f"{NAME} ssh-dss AAAA", f"elsewhere {line(old)}"]
    shared = [f"alias,{NAME.upper()} {line(old_rsa)} comment", f"{NAME} {line(old_curve)}", f"[*]:2222 {line(old)}"]
    text = file.read_text() + "\n".join([*shared, *others, ""])
    file.write_bytes(text.encode(errors="surrogateescape"))
    keep(file, NAME, new)
    assert file.read_bytes().decode(errors="surrogateescape").split("\n") == [
        f"{NAME} {line(new)}",
        f"alias {line(old_rsa)} comment",
        f"[*]:2222,!{NAME} {line(old)}",
        *others,
        "",
    ]
    known = known_keys([file], NAME)
    assert known.keys == {new.get_name(): (new,)}
    assert known_keys([file], "alias").accepts(old_rsa)
    before = file.read_bytes()
    keep(file, NAME, new)
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["*", "a,b", "!a", "a b", "|1|x", "@revoked", "#a", "", "a?"])
def test_a_name_that_would_mean_others_is_not_kept(tmp_path: Path, keys: list[paramiko.PKey], name: str):
    with pytest.raises(TransportError, match="cannot be kept under the name"):
        keep(tmp_path / "known", name, keys[0])
    assert not list(tmp_path.iterdir())

"""A bundle is kept by what it is made from, is whole or made anew, and starts from wherever it lies."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from profiler import android, android_folder
from profiler.android import bundle, pack, read, recipe
from profiler.errors import BundleError

VERSION = android._installed_version()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files as a bundle's, but few."""
    folder = tmp_path / "folder"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib/python").mkdir(parents=True)
    (folder / "bin/program").write_bytes(b"\x7fELF" * 100)
    (folder / "bin/program").chmod(0o750)
    (folder / "lib/python/os.py").write_text("pass\n")
    return folder


def packed(folder: Path, target: Path) -> Path:
    pack(folder, target, {"onnxruntime": VERSION, "parts": []})
    return target


def kept(folder: Path, cache: Path) -> Path:
    """A bundle where `bundle` looks for it, under its name."""
    cache.mkdir(exist_ok=True)
    made = read(packed(folder, cache / "made"))
    return made.path.rename(cache / f"android-python-{recipe(VERSION)}-{made.sha256[:12]}.tar.gz")


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing can be made."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_equal_files_give_equal_bytes(folder: Path, tmp_path: Path):
    first = packed(folder, tmp_path / "first").read_bytes()
    os.utime(folder / "bin/program", (1, 1))
    (folder / "lib/python/os.py").chmod(0o600)
    assert packed(folder, tmp_path / "second").read_bytes() == first


def test_it_begins_with_its_manifest_and_holds_plain_files(folder: Path, tmp_path: Path):
    target = packed(folder, tmp_path / "bundle")
    with tarfile.open(target) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == ["MANIFEST", "bin/program", "lib/python/os.py"]
    assert [member.mode for member in members] == [0o644, 0o755, 0o644]
    assert all(member.isfile() and member.uid == member.gid == member.mtime == 0 for member in members)
    made = read(target)
    assert (made.ort_version, made.unpacked_size, made.size) == (VERSION, 405, target.stat().st_size)


def test_another_runtime_or_launcher_is_another_recipe(monkeypatch: pytest.MonkeyPatch):
    assert recipe("1.2.3") == recipe("1.2.3") != recipe("1.2.4")
    before = recipe("1.2.3")
    monkeypatch.setattr(android_folder, "LAUNCHER", android_folder.LAUNCHER + "#")
    assert recipe("1.2.3") != before


def test_the_version_that_is_asked_for_is_made_and_kept_beside_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = []

    def make(beside: Path, version: str, say: object) -> Path:
        made.append(version)
        pack(folder, beside / "made", {"onnxruntime": version, "parts": []})
        return beside / "made"

    monkeypatch.setattr(android, "_make", make)
    for _ in range(2):
        for version in ("1.2.3", "1.2.4"):
            assert bundle(say=print, folder=tmp_path / "kept", onnxruntime=version).ort_version == version
    assert made == ["1.2.3", "1.2.4"]


@pytest.mark.usefixtures("no_tools")
def test_one_that_is_there_is_taken_without_a_word(folder: Path, tmp_path: Path):
    there = kept(folder, tmp_path / "cache")
    said: list[str] = []
    assert bundle(say=said.append, folder=tmp_path / "cache") == read(there)
    assert said == []


@pytest.mark.usefixtures("no_tools")
def test_a_damaged_one_is_not_taken(folder: Path, tmp_path: Path):
    there = kept(folder, tmp_path / "cache")
    content = bytearray(there.read_bytes())
    content[-20] ^= 1
    there.write_bytes(content)
    said: list[str] = []
    with pytest.raises(BundleError):
        bundle(say=said.append, folder=tmp_path / "cache")
    assert said[0] == f"{there} is damaged and is made anew"
    assert list((tmp_path / "cache").glob("*.tar.gz")) == []


@pytest.mark.usefixtures("no_tools")
def test_without_the_tool_it_says_what_to_install_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(BundleError, match="mmdebstrap, which is not installed here") as caught:
        bundle(say=lambda _: None, folder=tmp_path / "cache")
    assert "apt-get install mmdebstrap" in str(caught.value.hint)
    assert "--bundle FILE" in str(caught.value.hint)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["android-python.lock"]


def test_a_tool_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "mmdebstrap"
    tool.write_text("#!/bin/sh\necho 'I: starting' >&2\necho 'E: no key for it' >&2\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    with pytest.raises(BundleError, match=r"^mmdebstrap failed: E: no key for it$"):
        bundle(say=lambda _: None, folder=tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=f"in {tmp_path}/file/cache"):
        bundle(say=lambda _: None, folder=tmp_path / "file/cache")


@pytest.mark.parametrize("cut", [10, 200, -6])
def test_a_file_that_is_cut_is_refused(folder: Path, tmp_path: Path, cut: int):
    target = packed(folder, tmp_path / "bundle")
    target.write_bytes(target.read_bytes()[:cut])
    with pytest.raises(BundleError, match="is no bundle, or a damaged one"):
        read(target)


def test_another_archive_is_refused(folder: Path, tmp_path: Path):
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(folder, "folder")
    with pytest.raises(BundleError, match="does not begin with MANIFEST"):
        read(tmp_path / "other.tar.gz")
    with pytest.raises(BundleError, match="no bundle"):
        read(tmp_path / "nothing")


def test_another_format_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = packed(folder, tmp_path / "bundle")
    monkeypatch.setattr(android, "FORMAT", android.FORMAT + 1)
    with pytest.raises(BundleError, match="this version reads format"):
        read(target)


@pytest.fixture
def launched(tmp_path: Path) -> Path:
    """A folder whose loader says how it was called."""
    folder = tmp_path / "the folder"
    (folder / "lib").mkdir(parents=True)
    (folder / "python.sh").write_text(android_folder.LAUNCHER)
    loader = folder / "lib/ld-linux-aarch64.so.1"
    loader.write_text('#!/bin/sh\nprintf "<%s>\\n" "$0" "$@"\nenv\n')
    loader.chmod(0o755)
    return folder


def said(*command: str | Path, **how: object) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, **how)  # type: ignore[call-overload]
    return str(done.stdout).splitlines()


def test_it_starts_python_by_the_loader_from_its_own_folder(launched: Path):
    here = str(launched.resolve())
    lines = said("sh", launched / "python.sh", "-c", "print('a b')", "", env={"LD_PRELOAD": "", "PATH": os.defpath})
    assert lines[:7] == [
        f"<{here}/lib/ld-linux-aarch64.so.1>", "<--library-path>", f"<{here}/lib>", f"<{here}/bin/python3.13>",
        "<-c>", "<print('a b')>", "<>",
    ]  # fmt: skip
    settings = dict(line.split("=", 1) for line in lines[7:])
    assert (settings["PYTHONHOME"], settings["PYTHONPATH"]) == (here, f"{here}/site")
    assert settings["TMPDIR"] == settings["HOME"] == f"{here}/tmp"
    assert Path(settings["TMPDIR"]).is_dir()
    assert settings["ORT_DISABLE_TELEMETRY"] == "1"
    assert "LD_PRELOAD" not in settings


def test_it_may_be_called_from_anywhere(launched: Path, tmp_path: Path):
    here = f"<{launched.resolve()}/lib/ld-linux-aarch64.so.1>"
    assert said("sh", "python.sh", cwd=launched)[0] == here
    assert said("sh", "./the folder/python.sh", cwd=tmp_path)[0] == here
    home = str(tmp_path)
    assert f"HOME={home}" in said("sh", launched / "python.sh", env={"HOME": home, "PATH": os.defpath})


def test_a_path_that_would_be_parted_is_refused(launched: Path):
    folder = launched.rename(launched.with_name("a:b"))
    done = subprocess.run(["sh", folder / "python.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 126
    assert "move the folder" in done.stderr

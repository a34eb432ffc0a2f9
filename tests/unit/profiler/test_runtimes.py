"""Runtimes beside each other in a work folder: made once, never used half made, removed with the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from profiler.agent.folder import MADE, RUNTIME
from profiler.cleaning import clean, survey
from profiler.devices import AdbDevice, LocalDevice, SshDevice
from profiler.errors import BundleError, ConfigError, DeviceUnavailable, TransportError, UnsupportedTransport
from profiler.occupied import Occupied, Running
from profiler.readiness import host_onnxruntime
from profiler.setup import _install, runtimes
from profiler.setup.runtimes import Runtime, require_runtimes, runtime_version, same_version
from profiler.setup.site import Site
from profiler.setup.wheels import NoWheel
from profiler.transports.local import LocalTransport
from tests.unit.profiler.test_setup import Script

HERE = host_onnxruntime()


class Stand:
    """A local device whose runtimes are stand-ins: this Python, under the name of any version."""

    def __init__(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = LocalDevice(name="here", transport="local", work_dir=str(work))
        self.folder = work / "runtimes"
        self.transport = LocalTransport(work)
        self.made: list[tuple[str | None, str]] = []
        self.said: list[str] = []
        self.after: Exception | None = None
        monkeypatch.setattr(runtimes, "VenvInstaller", self._installer)
        monkeypatch.setattr(runtimes, "_not_it", lambda told, version: "" if version in self.fits else "it is another")
        self.fits = ["1.30.0", "1.31.1"]

    def _installer(self, *, python: str | None, onnxruntime: str) -> Any:
        self.made.append((python, onnxruntime))
        stand = self

        class Installer:
            def install(self, site: Site) -> str:
                start = Script().install(site)
                if stand.after is not None:
                    raise stand.after
                return start

        return Installer()

    def require(self, *versions: str) -> tuple[Runtime, ...]:
        return require_runtimes(self.transport, self.device, versions or ("1.30.0", "1.31.1"), say=self.said.append)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    found = Stand(tmp_path / "work", monkeypatch)
    with found.transport:
        yield found


def test_each_is_made_once_and_found_again(stand: Stand):
    first = stand.require()
    assert [one.version for one in first] == ["1.30.0", "1.31.1"]
    assert stand.made == [(sys.executable, "1.30.0"), (sys.executable, "1.31.1")]
    assert {one.told.onnxruntime for one in first} == {HERE}
    scripts = [name for name in stand.names() if RUNTIME.fullmatch(name)]
    folders = [name for name in stand.names() if MADE.fullmatch(name)]
    assert (len(scripts), len(folders)) == (2, 2)
    assert sorted(stand.names()) == sorted(scripts + folders), "nothing is left of the work"
    done = stand.transport.run([*first[0].python, "-c", "print(7)"], timeout_s=60)
    assert done.stdout == b"7\n"
    before = stand.names()
    assert [one.python for one in stand.require()] == [one.python for one in first]
    assert len(stand.made) == 2
    assert stand.names() == before
    assert [one.version for one in stand.require("1.31.1")] == ["1.31.1"]


def test_the_python_of_the_device_file_is_what_is_begun_with(stand: Stand):
    stand.require("1.30.0")
    stand.device = stand.device.model_copy(update={"python": "/opt/python3.12/bin/python3"})
    stand.require("1.30.0")
    assert [python for python, _ in stand.made] == [sys.executable, "/opt/python3.12/bin/python3"]
    assert len(stand.names()) == 4


@pytest.mark.parametrize("error", [DeviceUnavailable("no wheels"), KeyboardInterrupt(), RuntimeError("a bug")])
def test_what_is_broken_off_leaves_nothing(stand: Stand, error: Exception):
    stand.require("1.30.0")
    before, stand.after = stand.names(), error
    with pytest.raises(type(error)):
        stand.require()
    assert stand.names() == before
    stand.after = None
    assert len(stand.require()) == 2


def test_what_a_death_leaves_is_never_used_and_goes_the_next_time(stand: Stand):
    for name in ("venv-0123456789ab-0123abcd/bin/python", "scratch-0123abcd/wheels/x", "mine/thesis", "notes.sh"):
        path = stand.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("exit 1\n")
    [made] = stand.require("1.30.0")
    left = [name for name in stand.names() if MADE.fullmatch(name)]
    assert len(left) == 1
    assert left[0] in Path(made.python[1]).read_text()
    assert {"mine", "notes.sh"} <= set(stand.names()), "what is not ours stays"


@pytest.mark.parametrize("damage", ["gone", "broken", "another"])
def test_one_that_is_not_what_it_should_be_is_made_anew(stand: Stand, damage: str):
    [made] = stand.require("1.30.0")
    script = Path(made.python[1])
    [folder] = [stand.folder / name for name in stand.names() if MADE.fullmatch(name)]
    if damage == "gone":
        (folder / "python.sh").unlink()
    elif damage == "broken":
        (folder / "python.sh").write_text("echo segmentation fault >&2; exit 139\n")
    else:
        script.write_text('exec /usr/bin/false "$@"\n')
    [again] = stand.require("1.30.0")
    assert len(stand.made) == 2
    assert again.told.onnxruntime == HERE
    assert "does not run" in stand.said[-2]
    assert len(stand.names()) == 2


def test_what_says_that_it_is_another_version_is_refused(stand: Stand):
    with pytest.raises(DeviceUnavailable, match=r"onnxruntime 1\.2\.3 was installed, and it is another"):
        stand.require("1.2.3")
    assert stand.names() == []


def test_a_version_that_is_not_to_be_had_says_so(stand: Stand):
    stand.after = NoWheel("there is no wheel of onnxruntime==9.9.9", reason="x")
    with pytest.raises(DeviceUnavailable, match=r"there is no wheel of onnxruntime==9\.9\.9") as caught:
        stand.require("9.9.9")
    assert "pip index versions onnxruntime" in str(caught.value.hint)
    stand.after = BundleError("pip failed", hint="install pip")
    with pytest.raises(DeviceUnavailable, match=r"onnxruntime 9\.9\.9: pip failed"):
        stand.require("9.9.9")


def test_without_room_nothing_is_begun(stand: Stand, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtimes, "by_shell", lambda transport: (None, None, 700.0))
    with pytest.raises(TransportError, match="700 MiB are free, and set-up needs 800"):
        stand.require()
    assert stand.made == []
    assert len(stand.require("1.30.0")) == 1


def test_nothing_is_installed_while_somebody_measures(stand: Stand, monkeypatch: pytest.MonkeyPatch):
    stand.require("1.30.0")
    busy = Occupied(running=(Running(job_id="a-job", pid=7),), signs=(), finished=0, links=frozenset())
    monkeypatch.setattr(runtimes, "occupied", lambda transport: busy)
    with pytest.raises(DeviceUnavailable, match=r"measures now \(a-job\): nothing is installed"):
        stand.require()
    assert len(stand.require("1.30.0")) == 1, "nothing is to be installed"


def test_windows_is_refused(stand: Stand):
    stand.transport.windows = True
    with pytest.raises(UnsupportedTransport, match="runs Windows, where no runtimes are installed"):
        stand.require()


def test_set_up_leaves_them_and_cleaning_takes_them(stand: Stand):
    stand.require()
    before = stand.names()
    _install(stand.transport, Script(), None, print)
    assert stand.names() == before
    (stand.folder / "onnxruntime-1.0-0123abcd.sh").write_text("mine\n")
    found = survey(stand.transport)
    assert {name for name in found.ours if name.startswith("runtimes/")} == {f"runtimes/{name}" for name in before}
    assert found.others == ("runtimes/onnxruntime-1.0-0123abcd.sh",)
    assert "4 in runtimes" in found.text
    (stand.folder / "onnxruntime-1.0-0123abcd.sh").unlink()
    assert clean(stand.transport, survey(stand.transport), force=True), "the work folder is gone too"


def test_one_that_is_being_made_is_a_sign_of_work(stand: Stand):
    (stand.folder / "scratch-0123abcd").mkdir(parents=True)
    (stand.folder / "scratch-0123abcd" / "wheel").touch()
    assert "a set-up is at work there (runtimes/scratch-0123abcd" in survey(stand.transport).signs[0]
    then = stand.folder.stat().st_mtime - 3600
    for path in (stand.folder / "scratch-0123abcd" / "wheel", stand.folder / "scratch-0123abcd"):
        os.utime(path, (then, then))
    assert survey(stand.transport).signs == ()


@pytest.mark.parametrize(
    ("device", "asked"),
    [
        (SshDevice(name="d", transport="ssh", host="h", python="python3.12"), ["venv", "python3.12"]),
        (SshDevice(name="d", transport="ssh", host="h"), ["venv", ""]),
        (LocalDevice(name="d", transport="local"), ["venv", sys.executable]),
    ],
)
def test_what_a_runtime_is_made_of(device: Any, asked: list[str], tmp_path: Path):
    made = runtimes._Runtimes(LocalTransport(tmp_path), device, print)
    assert made._installer("1.30.0")[1] == asked
    assert RUNTIME.fullmatch(made._script("1.30.0"))


def test_phones_get_a_bundle_of_the_version(tmp_path: Path):
    made = runtimes._Runtimes(LocalTransport(tmp_path), AdbDevice(name="p", transport="adb"), print)
    installer, base = made._installer("1.30.0")
    assert base[0] == "bundle"
    assert made._script("1.30.0") != made._script("1.30.1")
    assert installer()._onnxruntime == "1.30.0"  # type: ignore[attr-defined]


@given(st.text(max_size=100))
def test_no_text_becomes_more_than_a_version(text: str):
    try:
        version = runtime_version(text)
    except ConfigError:
        return
    assert set(version) <= set("0123456789abcdefghijklmnopqrstuvwxyz.!+")
    assert RUNTIME.fullmatch(f"onnxruntime-{version}-01234567.sh")
    assert same_version(version, text)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.sampled_from(["", "rc1", ".dev3", ".post2", "a1"]))
def test_versions_stay_what_they_are(numbers: list[int], suffix: str):
    text = ".".join(map(str, numbers)) + suffix
    assert runtime_version(f" v{text} ") == str(Version(text))


@pytest.mark.parametrize("text", ["", "newest", "1.31.1; rm -rf /", "1.31.1 --pre", "1..2", "$(id)", "1" * 5000, "١"])
def test_what_is_no_version(text: str):
    with pytest.raises(ConfigError, match="is no version of onnxruntime") as caught:
        runtime_version(text)
    assert len(str(caught.value)) < 300


def test_equal_versions_in_other_words():
    assert same_version("1.22", "1.22.0")
    assert not same_version("1.22.0", "1.22.1")
    assert not same_version("unknown", "unknown")

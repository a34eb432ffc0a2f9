"""Parts of set-up that need no device: which Python is taken, what pip's failures mean."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profiler.agent.folder import MADE, is_script
from profiler.devices import LocalDevice
from profiler.errors import DeviceUnavailable, UnsupportedTransport
from profiler.readiness import host_onnxruntime
from profiler.setup import _install, _installer, set_up
from profiler.setup.site import Site
from profiler.setup.venv import BasePython
from profiler.setup.wheels import NoWheel, Target, fetch, fetch_pip, last_error
from profiler.transports.local import LocalTransport


def python(**changes: object) -> BasePython:
    fields = {
        "path": "/usr/bin/python3", "version": (3, 12, 3), "implementation": "cpython", "bits": 64, "system": "linux",
        "lacks": (), **changes,
    }  # fmt: skip
    return BasePython.model_validate(fields)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"version": (3, 10, 9)}, "onnxruntime needs 3.11 or newer"),
        ({"implementation": "pypy"}, "it is pypy, and onnxruntime needs CPython"),
        ({"bits": 32}, "it is a program of 32 bits"),
        ({"lacks": ("venv", "ssl")}, "it has no venv and no ssl"),
    ],
)
def test_a_python_that_cannot_be_begun_with(changes: dict[str, object], said: str) -> None:
    assert python(**changes).objection((3, 11)).startswith(said)
    assert bool(python(**changes).objection((3, 11))) == bool(said)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index that answers and holds nothing."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0",
        "PIP_INDEX_URL": folder.as_uri(),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return folder


def test_a_wheel_that_is_not_there_is_told_with_its_target(index: Path, tmp_path: Path) -> None:
    target = Target(python="3.12", abis=("cp312", "none"), platforms=("manylinux_2_39_riscv64", "linux_riscv64"))
    with pytest.raises(NoWheel) as caught:
        fetch(["onnxruntime==1.31.1"], tmp_path / "wheels", target)
    assert "there is no wheel of onnxruntime==1.31.1 for Python 3.12 on manylinux_2_39_riscv64" in str(caught.value)


def test_a_machine_that_reaches_nobody_says_so(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    with pytest.raises(DeviceUnavailable, match="pip could not be downloaded on this machine") as caught:
        fetch_pip(tmp_path / "wheels", "3.12")
    assert not isinstance(caught.value, NoWheel)
    assert "needs the internet" in str(caught.value.hint)


def test_the_last_error_of_pip_is_its_reason() -> None:
    assert last_error("WARNING: a\nERROR: first\nERROR: second\n[notice] update\n") == "second"
    assert last_error("Traceback\nKeyError: x\n") == "KeyError: x"
    assert last_error("") == "no reason given"


def test_nothing_is_installed_on_this_machine(tmp_path: Path) -> None:
    device = LocalDevice(name="here", transport="local", python="/no/python", work_dir=str(tmp_path / "work"))
    said: list[str] = []
    with pytest.raises(DeviceUnavailable, match="it has no /no/python") as caught:
        set_up(device, say=said.append, again=True)
    assert "name a Python with numpy and onnxruntime" in str(caught.value.hint)
    assert said == []
    with_all = LocalDevice(name="here", transport="local", work_dir=str(tmp_path / "work"))
    done = set_up(with_all, say=said.append)
    assert (done.changed, done.told.onnxruntime) == (False, host_onnxruntime())


def test_a_transport_without_an_installer_is_told() -> None:
    with pytest.raises(UnsupportedTransport, match="cannot set up devices with `transport: local`"):
        _installer(LocalDevice(name="here", transport="local"), None, None)


class Script:
    """Makes a Python out of ours."""

    def install(self, site: Site) -> str:
        name = f"venv-0123456789ab-{site.token}"
        site.transport.push(f'exec {sys.executable} "$@"\n'.encode(), f"{site.root}/{name}/python.sh")
        return f"{name}/python.sh"


class Broken(Script):
    def install(self, site: Site) -> str:
        super().install(site)
        site.transport.mkdir(f"{site.root}/mine-{site.token}")
        raise DeviceUnavailable("no wheels")


THEIRS = ("myproject/thesis.py", "scratch/notes", "venv/bin/python", "venv-12/bin/python")


def test_set_up_removes_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "work" / "python"
    old = ("venv-ba9876543210-0123abcd/bin/python", "bundle-ba9876543210-0123abcd/x", "scratch-0123abcd/wheels/x")
    for name in (*THEIRS, *old):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    with LocalTransport(tmp_path / "work") as transport:
        with pytest.raises(DeviceUnavailable, match="no wheels"):
            _install(transport, Broken(), None, print)
        [made] = root.glob("mine-*")
        assert sorted(root.iterdir()) == sorted({*(root / name.split("/")[0] for name in (*THEIRS, *old)), made})
        made.rmdir()
        for _ in range(2):
            assert _install(transport, Script(), None, print).python is not None
            left = {path.name for path in root.iterdir()} - {name.split("/")[0] for name in THEIRS}
            assert [name.partition("-")[0] for name in sorted(left)] == ["python.sh", "venv"]
            assert all((root / name).exists() for name in THEIRS)
        assert is_script((root / "python.sh").read_bytes())
        assert all(MADE.fullmatch(name) for name in left - {"python.sh"})
        assert transport.run(["sh", str(root / "python.sh"), "-c", "print(7)"], timeout_s=60).stdout == b"7\n"


@pytest.mark.parametrize("folder", [False, True])
def test_somebody_elses_script_is_not_written_over(tmp_path: Path, folder: bool) -> None:
    script = tmp_path / "work" / "python" / "python.sh"
    script.parent.mkdir(parents=True)
    script.mkdir() if folder else script.write_text("exec /my/own/python\n")
    in_the_way = pytest.raises(DeviceUnavailable, match=r"python\.sh is in the way, and is not what set-up wrote")
    with LocalTransport(tmp_path / "work") as transport, in_the_way:
        _install(transport, Script(), None, print)
    assert [path.name for path in script.parent.iterdir()] == ["python.sh"]

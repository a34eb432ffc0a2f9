"""Devices of a command: what happens where one cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.cli.exits import NO_DEVICE, CommandError
from archsearch.cli.opening import open_devices

DEVICES = """
devices:
  - {{name: local, transport: local, work_dir: {folder}/local}}
  - {{name: a, transport: local, work_dir: {folder}/a, python: /no/such/python, group: pair}}
  - {{name: b, transport: local, work_dir: {folder}/b, group: pair}}
  - {{name: gone, transport: local, work_dir: {folder}/gone, python: /no/such/python}}
  - {{name: off, transport: local, work_dir: {folder}/off, enabled: false}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "devices.yaml"
    found.write_text(DEVICES.format(folder=tmp_path), encoding="utf-8")
    return found


def test_a_needed_device_that_cannot_be_used_is_told_with_the_reason(path: Path):
    opening = open_devices(path, ["local", "a", "gone"], needed="gone", otherwise="--across worst")
    with pytest.raises(CommandError) as caught, opening:
        pytest.fail("it was opened")
    first, *why = str(caught.value).splitlines()
    assert first == "gone alone counts (--across), and cannot be used"
    assert len(why) == 1, "of the others nothing is said"
    assert why[0].startswith("gone: ")
    assert "/no/such/python" in why[0]
    assert (caught.value.code, caught.value.hint) == (NO_DEVICE, "mend it, or --across worst")


def test_a_needed_device_that_is_not_chosen_is_told(path: Path):
    opening = open_devices(path, ["local"], needed="off", otherwise="--across worst")
    with pytest.raises(CommandError, match=r"off alone counts .* not among the devices of this run") as caught, opening:
        pytest.fail("it was opened")
    assert caught.value.code == NO_DEVICE
    assert caught.value.hint == f"enable it in {path} and name it with --device, or --across worst"


def test_of_a_needed_group_one_device_is_enough(path: Path, capsys: pytest.CaptureFixture[str]):
    with open_devices(path, ["a", "b"], needed="pair") as sessions:
        assert [session.device.name for session in sessions] == ["b"]
    assert "archsearch: left out: a: " in capsys.readouterr().err

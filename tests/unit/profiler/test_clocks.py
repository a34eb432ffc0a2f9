"""Fixed clocks, on folders that look like the kernel's: what was found is put back, whoever dies on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.agent.clocks import Clocks
from profiler.agent.protocol import JobFailure

BIG, LITTLE = (600_000, 4_470_000), (400_000, 3_530_000)


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    for name, (low, high) in (("policy0", LITTLE), ("policy6", BIG)):
        folder = tmp_path / "cpufreq" / name
        folder.mkdir(parents=True)
        for file, value in (("cpuinfo_min_freq", low), ("cpuinfo_max_freq", high)):
            (folder / file).write_text(f"{value}\n")
        for file, value in (("scaling_min_freq", low), ("scaling_max_freq", high)):
            (folder / file).write_text(f"{value}\n")
    return tmp_path / "cpufreq"


def ends(policies: Path) -> list[tuple[int, int]]:
    return [
        (int((policy / "scaling_min_freq").read_text()), int((policy / "scaling_max_freq").read_text()))
        for policy in sorted(policies.iterdir())
    ]


def test_clocks_are_fixed_and_put_back(tmp_path: Path, policies: Path):
    clocks = Clocks(tmp_path / "clocks", policies=policies)
    clocks.fix(4000)
    assert ends(policies) == [(3_530_000, 3_530_000), (4_000_000, 4_000_000)], "each as near as it can"
    clocks.restore()
    assert ends(policies) == [LITTLE, BIG]
    assert not (tmp_path / "clocks").exists()
    clocks.restore()
    assert ends(policies) == [LITTLE, BIG]


def test_what_a_killed_agent_left_is_put_back_by_the_next(tmp_path: Path, policies: Path):
    Clocks(tmp_path / "clocks", policies=policies).fix(2000)
    Clocks(tmp_path / "clocks", policies=policies).restore()
    assert ends(policies) == [LITTLE, BIG]


@pytest.mark.parametrize("damage", ["", "\0", "{", '{"policy0": 5}', '{"policy0": ["x", 1]}', '{"../../etc": [1, 2]}'])
def test_a_damaged_record_harms_nobody(tmp_path: Path, policies: Path, damage: str):
    (tmp_path / "clocks").write_text(damage)
    Clocks(tmp_path / "clocks", policies=policies).restore()
    assert ends(policies) == [LITTLE, BIG]
    assert not (tmp_path / "clocks").exists()


def test_somebody_elses_file_stays(tmp_path: Path, policies: Path):
    (tmp_path / "clocks").write_text("Big Ben\n")
    clocks = Clocks(tmp_path / "clocks", policies=policies)
    clocks.restore()
    with pytest.raises(JobFailure, match="clocks is in the way, and is not ours"):
        clocks.fix(2000)
    assert ends(policies) == [LITTLE, BIG]
    assert (tmp_path / "clocks").read_text() == "Big Ben\n"


def test_a_system_that_does_not_let_us_is_told_and_left_as_it_was(tmp_path: Path, policies: Path):
    with pytest.raises(JobFailure, match="shows no frequency policies"):
        Clocks(tmp_path / "clocks", policies=tmp_path / "nothing").fix(2000)
    (policies / "policy6/scaling_max_freq").unlink()
    (policies / "policy6/scaling_max_freq").mkdir()  # reads fail, whoever asks
    with pytest.raises(JobFailure, match="clocks cannot be fixed"):
        Clocks(tmp_path / "clocks", policies=policies).fix(2000)
    assert (policies / "policy0/scaling_max_freq").read_text() == f"{LITTLE[1]}\n"
    assert not (tmp_path / "clocks").exists()

"""What is told of a device: read from files as kernels write them, bounded, judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler.agent import checkup as looks
from profiler.agent.lease import Lease
from profiler.agent_bundle import agent_bytes, agent_name
from profiler.checkup import Checkup, parse_checkup
from profiler.devices import Cooling, LocalDevice, Provider, SshDevice
from profiler.errors import ResultError
from profiler.readiness import big_cores, check_device, core_text, judge, proposal
from profiler.untrusted import printable
from tests.unit.profiler.samples import ENVIRONMENT

HERE = "1.31.1"
PHONE_BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  present: true
  level: 42
  scale: 50
"""


def told(**changes: Any) -> Checkup:
    fields = {**ENVIRONMENT, "method": "m", "free_mib": 5000.0, "other_cpu": 0.01, **changes}
    return parse_checkup(json.dumps(fields).encode())


def box(**changes: Any) -> SshDevice:
    return SshDevice(name="box", transport="ssh", host="h", **changes)


def files(root: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class TestCores:
    def cpus(self, root: Path, clocks: list[int], siblings: list[str] | None = None) -> list[dict[str, Any]]:
        for core, clock in enumerate(clocks):
            content = {f"cpu{core}/cpufreq/cpuinfo_max_freq": f"{clock}\n"}
            if siblings is not None:
                content[f"cpu{core}/topology/thread_siblings_list"] = siblings[core]
            files(root, content)
        files(root, {"cpufreq/policy0/x": "", "cpuidle/x": ""})
        return looks.core_groups(root)

    def test_a_phone(self, tmp_path: Path) -> None:
        groups = self.cpus(tmp_path, [3530000] * 6 + [4470000] * 2)
        assert groups == [
            {"cores": [6, 7], "max_mhz": 4470.0, "physical": 2},
            {"cores": [0, 1, 2, 3, 4, 5], "max_mhz": 3530.0, "physical": 6},
        ]
        phone = told(core_groups=groups)
        assert core_text(phone.core_groups) == "2x4470 + 6x3530 MHz"
        assert big_cores(phone.core_groups) == (6, 7)
        _, [advice] = judge(box(), phone, here=HERE)
        assert "`cores: [6, 7]` and `threads: 2`" in advice
        assert judge(box(cores=(0, 1)), phone, here=HERE) == ([], [])
        assert proposal(box(), phone) == ((6, 7), 2)
        assert proposal(box(cores=(0, 1)), phone) == ((), 0)

    def test_two_threads_of_a_core_are_one_core(self, tmp_path: Path) -> None:
        groups = self.cpus(tmp_path, [5000000] * 4 + [3000000] * 2, ["0,2", "1,3", "0,2", "1,3", "4", "5"])
        assert [group["physical"] for group in groups] == [2, 2]
        _, [advice] = judge(box(), told(core_groups=groups), here=HERE)
        assert "`cores: [0, 1, 2, 3]` and `threads: 2`" in advice

    def test_cores_that_may_go_a_little_higher_are_like_the_others(self, tmp_path: Path) -> None:
        alike = told(core_groups=self.cpus(tmp_path, [5187000, 5187000, 5090000, 4950000]))
        assert big_cores(alike.core_groups) == ()
        assert judge(box(), alike, here=HERE) == ([], [])

    def test_clocks_that_are_not_shown_prove_nothing(self, tmp_path: Path) -> None:
        groups = looks.core_groups(files(tmp_path, {"cpu0/online": "1", "cpu1/online": "1", "cpu2/online": "0"}))
        assert groups == [{"cores": [0, 1], "max_mhz": None, "physical": 2}]
        assert core_text(told(core_groups=groups).core_groups) == ""
        assert big_cores(told(core_groups=groups).core_groups) == ()


class TestBattery:
    def test_a_laptop_and_its_mouse(self, tmp_path: Path) -> None:
        files(tmp_path, {"AC/type": "Mains", "aa_mouse/type": "Battery", "aa_mouse/scope": "Device"})
        assert looks.battery(tmp_path) is None
        files(tmp_path, {"BAT0/type": "Battery", "BAT0/capacity": "17\n", "BAT0/status": "Discharging\n"})
        found = looks.battery(tmp_path)
        assert found == {"level_percent": 17.0, "status": "Discharging", "on_power": False}
        reasons, advice = judge(box(), told(battery=found), here=HERE)
        assert reasons == ["its battery is at 17% and is not charged"]
        assert "plug it in" in advice[0]
        for level, said in ((0.0, ["its battery is at 0% and is not charged"]), (None, [])):
            assert judge(box(), told(battery={"level_percent": level, "on_power": False}), here=HERE)[0] == said

    def test_a_phone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = {
            "dumpsys": f"case $1 in battery) cat <<E\n{PHONE_BATTERY}E\n;; power) echo '  mWakefulness=Dozing';; esac"
        }
        answers["getprop"] = "case $1 in *manufacturer) echo samsung;; ro.product.model) echo SM-S938B;; esac"
        for name, script in answers.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        found = looks.checkup(tmp_path)
        assert found["battery"] == {"level_percent": 84.0, "status": "Charging", "on_power": True}
        assert (found["model"], found["soc"], found["os_build"]) == ("samsung SM-S938B", "samsung", None)
        assert found["screen"] == "Dozing"
        reasons, advice = judge(box(), told(battery=found["battery"], screen="Dozing"), here=HERE)
        assert reasons == []
        assert "its screen is off" in advice[0]


def test_a_lease_is_looked_at_without_being_taken(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lease")
    assert lease.look() is None
    assert not (tmp_path / "lease").exists()
    code = "import pathlib, sys; sys.path.insert(0, sys.argv[2]); from archsearch_agent.lease import Lease\n"
    code += "assert Lease(pathlib.Path(sys.argv[1])).try_acquire('a job'); print('held', flush=True); sys.stdin.read()"
    agent = tmp_path / agent_name()
    agent.write_bytes(agent_bytes())
    command = [sys.executable, "-c", code, str(tmp_path / "lease"), str(agent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        found = looks.contents(tmp_path)["lease"]
        assert (found["pid"], found["label"]) == (holder.pid, "a job")
        holder.communicate(b"")
    assert lease.look() is None
    assert lease.try_acquire("the next")


def test_somebody_elses_file_serves_as_a_lock_and_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "lease").write_text("of my flat")
    first, second = Lease(tmp_path / "lease"), Lease(tmp_path / "lease")
    assert first.try_acquire("a job")
    assert not second.try_acquire("another")
    first.release()
    assert (tmp_path / "lease").read_text() == "of my flat"
    assert second.try_acquire("another")


def test_the_agent_answers_to_check(tmp_path: Path) -> None:
    agent = tmp_path / agent_name()
    agent.write_bytes(agent_bytes())
    for name in (64 * "a", "llama"):
        (tmp_path / "weights" / name).mkdir(parents=True)
        (tmp_path / "weights" / name / "weights.bin").write_bytes(b"0" * 2**20)
    over = "over-20260101T101500-0123abcd"
    (tmp_path / "jobs" / "2024").mkdir(parents=True)
    (tmp_path / "jobs" / over).mkdir(parents=True)
    status = {"state": "timing", "pid": os.getpid()}  # of an agent that died: its number is another's now
    (tmp_path / "jobs" / over / "status.json").write_text(json.dumps(status))
    command = [sys.executable, str(agent), "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True)
    found = parse_checkup(done.stdout)
    assert found.weights_mib == 1.0
    assert [(job.id, job.state, job.pid) for job in found.jobs] == [(over, "timing", None)]
    assert found.onnxruntime is not None
    assert found.free_mib is not None
    assert found.other_cpu is not None
    assert judge(box(cooling=Cooling(max_other_cpu=1.0)), found, here=found.onnxruntime)[0] == []


@pytest.mark.parametrize(
    ("device", "changes", "said"),
    [
        (box(), {"numpy": None}, "not set up (its Python 3.11 has no numpy): run `archsearch devices setup box`"),
        (
            box(python="/p"),
            {"onnxruntime": None},
            "install numpy and onnxruntime for the /p that the device file names",
        ),
        (
            box(),
            {"onnxruntime": None, "problems": ["onnxruntime: ImportError: libstdc++.so.6"]},
            "has no onnxruntime; onnxruntime: ImportError: libstdc++.so.6)",
        ),
        (
            box(providers=(Provider(name="CUDAExecutionProvider", options={}),)),
            {},
            "has no CUDAExecutionProvider; it has CPUExecutionProvider",
        ),
        (box(), {"free_mib": 100.0}, "100 MiB are free"),
        (box(cores=(0, 9)), {"core_groups": [{"cores": [0, 1, 2], "physical": 3}]}, "`cores` names 9, and it has 0-2"),
        (box(cooling=Cooling(max_temperature_c=40)), {"temperature_c": 71.0}, "71 °C (limit 40 °C)"),
        (box(), {"other_cpu": 0.5, "busiest": "make 99%"}, "others use 50% of its processor (limit 10%): make 99%"),
        (
            box(),
            {"other_cpu": 0.9, "lease": {"pid": 5, "label": "CCG", "seconds": 3.0}},
            "it measures now: CCG (process 5) for 3 s",
        ),
    ],
)
def test_every_reason_is_said(device: SshDevice, changes: dict[str, Any], said: str) -> None:
    [reason], _ = judge(device, told(**changes), here=HERE)
    assert said in reason


def test_a_device_that_could_not_be_asked() -> None:
    [reason], _ = judge(box(), None, why="it has no python3", here=HERE)
    assert reason == "not set up (it has no python3): run `archsearch devices setup box`"
    local = LocalDevice(name="local", transport="local", python="/p")
    [reason], _ = judge(local, None, why="it has no /p", here=HERE)
    assert "set `python` in the device file" in reason


def test_another_runtime_than_here_is_told_and_is_no_fault() -> None:
    reasons, [advice] = judge(box(), told(), here="1.40.0")
    assert reasons == []
    assert "onnxruntime is 1.31.1 there and 1.40.0 here" in advice
    assert "`archsearch devices setup box` brings 1.40.0" in advice
    assert "install 1.40.0 there" in judge(box(python="/p"), told(), here="1.40.0")[1][0]


def test_what_a_device_says_moves_no_cursor() -> None:
    found = told(cpu_model="\x1b[31mred\x9b2J\u202e", lease={"pid": 9, "label": "\x1b]0;title\x07"})
    text = found.model_dump_json()
    assert "\\u001b" not in text
    assert printable(text) == text
    assert found.lease is not None
    assert found.lease.label == "\ufffd]0;title\ufffd"


@pytest.mark.parametrize(
    "raw",
    [
        b"no json", b"{}", b"[" * 100_000, b"[]", b'{"model": 5}', b'{"free_mib": -1}', b'{"lease": {"pid": 1}}',
        b'{"cpu_model": "' + b"x" * 201 + b'"}', b'{"host": "' + b"x" * 70_000 + b'"}', b'{"free_mib": NaN}',
        b'{"core_groups": [{"cores": [], "physical": 1}]}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(ResultError, match="the device's answer"):
        parse_checkup(raw)


def test_what_a_shell_alone_can_tell(tmp_path: Path) -> None:
    device = LocalDevice(name="here", transport="local", python="/no/python", work_dir=str(tmp_path / "work"))
    report = check_device(device)
    assert (report.reachable, report.set_up, report.told) == (True, False, None)
    assert (report.kernel, report.machine) == (os.uname().release, os.uname().machine)
    assert report.free_mib is not None
    assert report.free_mib > 1
    assert report.reasons[0].startswith("not set up (it has no /no/python)")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = check_device(LocalDevice(name="here", transport="local", work_dir=str(tmp_path / "file" / "work")))
    assert (report.ready, report.reachable) == (False, False)
    assert "Not a directory" in report.reasons[0]

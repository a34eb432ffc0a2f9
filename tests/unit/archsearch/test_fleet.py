"""Studies over several devices at once. The devices' work is waiting, so that two cores can be many devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from archsearch.configuration import new_config, settings
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH
from archsearch.measuring import Measurer
from archsearch.store import Store
from archsearch.study import CANDIDATE_PROTOCOL, Ended, Limits, run_study
from profiler.devices import LocalDevice
from profiler.installed import AgentFile
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, Fault, answer, lose, waiting_agent
from profiler.transports import Transport


class Log:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def device(self, name: str, label: str, status: Any) -> None:
        pass

    def idle(self, name: str) -> None:
        pass

    def settled(self, standing: Any) -> None:
        pass

    def has(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Lab:
    """Devices that wait, in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log()
        self.devices: dict[str, tuple[LocalDevice, FakeTransport, AgentFile]] = {}

    def add(self, name: str, *, seconds: float = 0.05, group: str | None = None, **more: Any) -> FakeTransport:
        work = self.folder / name
        device = LocalDevice.model_validate({
            "name": name, "transport": "local", "group": group, "threads": 1, "work_dir": str(work),
            "reconnect_s": more.pop("reconnect_s", 0.3), "lease_timeout_s": more.pop("lease_timeout_s", 60.0),
        })  # fmt: skip
        transport = FakeTransport(str(work))
        self.devices[name] = (device, transport, waiting_agent(seconds, **more))
        return transport

    def run(self, trials: int, *, across: str = "worst", cancel: Event | None = None) -> Ended:
        config = new_config({
            "space": "tiny", "workload": "16/4", "precision": "fp32", "objective": ["decode_ms"], "budget": [],
            "anchor": ["CG:width=64,vocab=512,ffn=96,head_dim=16"], "sampler": "random", "seed": 0, "across": across,
            "tune": False, "lowering": {},
        })  # fmt: skip
        stop = cancel or Event()
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(self.folder / "study.db"))
            if store.study("s") is None:
                store.create_study("s", config)
            measurers = []
            for device, transport, agent in self.devices.values():
                as_transport: Transport = transport
                session = stack.enter_context(DeviceSession(device, transport=as_transport, agent=agent, poll_s=0.02))
                measurers.append(
                    Measurer(
                        session, store, study="s", protocol=CANDIDATE_PROTOCOL, cancel=stop, say=self.log.say
                    )
                )  # fmt: skip
            return run_study(
                "s", settings(config), Limits(trials=trials), measurers=measurers, store=store, observer=self.log,
                cancel=stop,
            )  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def by_device(ended: Ended, role: str = CANDIDATE) -> Mapping[str, int]:
    return Counter(m.device for m in ended.measured if m.role == role)


def test_devices_of_a_group_share_the_candidates_and_all_watch(lab: Lab):
    for name in ("a", "b", "c"):
        lab.add(name, group="phones")
    ended = lab.run(9)
    candidates = [m for m in ended.measured if m.role == CANDIDATE]
    assert sorted(m.trial for m in candidates if m.trial is not None) == list(range(9)), "each once"
    assert set(by_device(ended)) == {"a", "b", "c"}
    assert set(by_device(ended, ANCHOR)) == set(by_device(ended, WATCH)) == {"a", "b", "c"}
    assert {row["device"] for row in ended.measured.rows()} == {"phones"}
    assert ended.missing == {"phones": 0}
    assert ended.why == "9 candidates are done"


def test_devices_of_their_own_measure_every_candidate(lab: Lab):
    lab.add("a")
    lab.add("b")
    ended = lab.run(3)
    assert by_device(ended) == {"a": 3, "b": 3}
    assert ended.missing == {"a": 0, "b": 0}


def test_a_fast_device_does_not_wait_for_a_slow_one(lab: Lab):
    lab.add("fast")
    lab.add("slow", seconds=0.6)
    ended = lab.run(4)
    order = [m.device for m in ended.measured if m.role == CANDIDATE]
    assert order.index("slow") > 1, order
    assert order[-2:] == ["slow", "slow"], order
    assert by_device(ended) == {"fast": 4, "slow": 4}


def test_a_device_that_is_lost_costs_the_others_nothing(lab: Lab):
    lab.add("stays")
    lab.add("goes").faults.append(Fault("submit", lose(opens=10**6), nth=2))
    ended = lab.run(3)
    assert set(ended.devices_lost) == {"goes"}
    assert by_device(ended)["stays"] == 3
    assert ended.missing == {"stays": 0, "goes": 3}
    assert lab.log.has("goes: the link is lost")
    assert lab.log.has("goes is left out from now on")
    # Back again, it measures what it lacks, and the other has nothing to do.
    lab.add("goes")
    again = lab.run(3)
    assert by_device(again) == {"stays": 3, "goes": 3}
    assert again.missing == {"stays": 0, "goes": 0}


def test_a_link_that_comes_back_costs_nothing(lab: Lab):
    lab.add("shaky", reconnect_s=30.0).faults += [
        Fault(phase, lose(opens=1), nth=nth) for phase, nth in (("submit", 3), ("poll", 9), ("fetch", 2))
    ]
    ended = lab.run(3)
    assert not ended.devices_lost
    assert by_device(ended) == {"shaky": 3}
    assert lab.log.has("the link is there again")


def test_nonsense_is_run_again_and_a_device_that_only_talks_nonsense_is_left_out(lab: Lab):
    lab.add("sane")
    mad = lab.add("mad")
    mad.faults.append(Fault("fetch", answer(b"{}"), nth=2))
    ended = lab.run(2)
    assert not ended.devices_lost
    assert by_device(ended) == {"sane": 2, "mad": 2}
    assert lab.log.has("it is run again")
    mad.faults[:] = [Fault("fetch", answer(b"{}"), times=None)]
    ended = lab.run(6)
    assert "its agent failed 2 tasks in a row" in ended.devices_lost["mad"]
    assert by_device(ended)["sane"] == 6
    failed = [m for m in ended.measured if m.status == "failed"]
    assert {m.device for m in failed} == {"mad"}
    assert mad.calls["start"] >= 6, "each job was run again twice"


def test_a_device_that_is_not_like_its_group_is_left_out(lab: Lab):
    lab.add("a", group="phones")
    lab.add("b", group="phones", decode_ms=1.2)
    ended = lab.run(3)
    assert len(ended.devices_lost) == 1
    [(name, why)] = ended.devices_lost.items()
    assert "of the same group: the anchor's decode time at 16/4 moved by" in why
    assert by_device(ended).get(name, 0) <= 1
    assert ended.missing == {"phones": 0}


def test_a_device_that_others_hold_for_too_long_is_left_out(lab: Lab):
    from profiler.agent.lease import Lease

    lab.add("free")
    lab.add("held", lease_timeout_s=0.0)
    (lab.folder / "held").mkdir()
    lease = Lease(lab.folder / "held" / "lease")
    assert lease.try_acquire("somebody else's work")
    ended = lab.run(2)
    lease.release()
    assert ended.devices_lost == {"held": "the lease is held"}
    assert by_device(ended) == {"free": 2}


def test_the_user_s_stop_reaches_every_device(lab: Lab):
    for name in ("a", "b"):
        lab.add(name, seconds=30.0)
    cancel = Event()
    lab.log.device = lambda name, label, status: cancel.set() if status else None  # type: ignore[method-assign]
    ended = lab.run(3, cancel=cancel)
    assert ended.interrupted
    assert len(ended.measured) == 0
    assert not list(lab.folder.glob("*/jobs/*"))


def test_across_one_device_the_sampler_does_not_wait_for_the_others(lab: Lab):
    lab.add("counts")
    lab.add("beside", seconds=0.4)
    ended = lab.run(6, across="counts")
    order = [m.device for m in ended.measured if m.role == CANDIDATE]
    assert order.index("beside") >= 1
    assert by_device(ended) == {"counts": 6, "beside": 6}

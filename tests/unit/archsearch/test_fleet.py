"""Studies over several devices at once. The devices' work is waiting, so that two cores can be many devices."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from archsearch.measurement import ANCHOR, CANDIDATE, WATCH
from profiler.testing import Fault, answer, lose
from tests.unit.archsearch.lab import Lab, by_device


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr("archsearch.measuring.RERUN_AFTER_S", (0.1, 0.1))
    return Lab(tmp_path)


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

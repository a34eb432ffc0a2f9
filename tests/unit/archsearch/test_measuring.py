"""What a measurement survives, and what it leaves behind, on a device whose agent only waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from archsearch import measuring
from archsearch.candidates import prepare
from archsearch.measuring import Measurer
from archsearch.store import Claim, Store
from archsearch.subjects import Subject
from profiler.devices import LocalDevice
from profiler.errors import ConnectionLost, ResultError, TransportError
from profiler.jobs import Protocol
from profiler.runner import DeviceSession
from profiler.testing import FakeTransport, Fault, answer, disk_full, lose, waiting_agent
from profiler.workloads import parse_workload
from tests.unit.archsearch.samples import LAYOUT


@cache
def subject() -> Subject:
    workload = parse_workload("16/4")
    prepared = prepare(LAYOUT, workload=workload, precision="fp32")
    return Subject(label="one", workload=workload, precision="fp32", layout=LAYOUT, prepared=prepared)


@pytest.fixture
def transport(tmp_path: Path) -> FakeTransport:
    return FakeTransport(tmp_path / "device")


@pytest.fixture
def session(transport: FakeTransport, tmp_path: Path) -> Iterator[DeviceSession]:
    device = LocalDevice(name="fake", transport="local", work_dir=str(tmp_path / "device"), reconnect_s=1)
    with DeviceSession(device, transport=transport, agent=waiting_agent(0.0), poll_s=0.03) as opened:
        yield opened


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "study.db") as store:
        store.create_study("s", {})
        yield store


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def measurer(session: DeviceSession, kept: Store, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Measurer:
    monkeypatch.setattr(measuring, "RERUN_AFTER_S", (0.0, 0.0))
    return Measurer(session, kept, study="s", protocol=Protocol(), say=said.append)


def jobs(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "device/jobs").iterdir()]


def says_failed(raw: bytes) -> bytes:
    return raw.replace(b'"status": "ok", "reason": ""', b'"status": "failed", "reason": "a worker died"')


def test_a_job_that_fails_is_run_again(measurer: Measurer, transport: FakeTransport, said: list[str], tmp_path: Path):
    other = lambda raw: says_failed(raw).replace(b"a worker died", b"no weights")  # noqa: E731
    transport.faults += [Fault("fetch", answer(says_failed)), Fault("fetch", answer(other))]
    assert measurer.measure(subject()).measurement.status == "ok"
    assert said == [f"fake: one: {why}; it is run again" for why in ("a worker died", "no weights")]
    assert [record.status for record in measurer.store.measurements("s")] == ["ok"]
    assert (jobs(tmp_path), measurer.store.abandoned_claims()) == ([], [])


def test_one_that_fails_in_the_same_way_again_is_kept_with_its_reason(
    measurer: Measurer, transport: FakeTransport, kept: Store, said: list[str], tmp_path: Path
):
    transport.faults.append(Fault("fetch", answer(says_failed), times=None))
    measurement = measurer.measure(subject()).measurement
    assert (measurement.status, measurement.reason) == ("failed", "a worker died")
    assert len(said) == 1
    assert len(kept.measurements("s")) == 1
    assert jobs(tmp_path) == []


def test_a_job_that_the_device_does_not_take_is_sent_again(
    measurer: Measurer, transport: FakeTransport, said: list[str], tmp_path: Path
):
    transport.faults.append(Fault("submit", disk_full(), nth=2))
    assert measurer.measure(subject()).measurement.status == "ok"
    assert said == ["fake: one: push: No space left on device; it is run again"]
    assert jobs(tmp_path) == []


def test_a_device_that_takes_none_is_told_of_and_nothing_is_left(
    measurer: Measurer, transport: FakeTransport, kept: Store, tmp_path: Path
):
    transport.faults.append(Fault("submit", disk_full(), nth=2, times=None))
    with pytest.raises(TransportError, match="No space left"):
        measurer.measure(subject())
    assert jobs(tmp_path) == []
    transport.faults.clear()
    said_of_it = kept.claim(measurer.session.key(measurer._job(subject(), Protocol())).id, "another")
    assert (said_of_it.mine, said_of_it.job_id) == (True, "another")  # no claim of ours was left


def sent_once(measurer: Measurer) -> int:
    """Bytes of a measurement that nothing disturbs, of blocks that were checked before."""
    first, second = (measurer.measure(subject(), fresh=True).measurement.bytes_sent for _ in range(2))
    assert first > second > 1000
    return second


def test_bytes_of_every_attempt_are_counted(measurer: Measurer, transport: FakeTransport, kept: Store):
    once = sent_once(measurer)
    other = lambda raw: says_failed(raw).replace(b"a worker died", b"no weights")  # noqa: E731
    transport.faults += [Fault("fetch", answer(says_failed)), Fault("fetch", answer(other))]
    assert measurer.measure(subject(), fresh=True).measurement.bytes_sent == 3 * once
    assert kept.measurements("s")[-1].bytes_sent == 3 * once
    assert measurer.measure(subject(), fresh=True).measurement.bytes_sent == once, "the next one begins anew"


@pytest.mark.parametrize("after", [False, True])
def test_a_push_that_broke_counts_as_a_whole(measurer: Measurer, transport: FakeTransport, after: bool):
    once = sent_once(measurer)
    transport.faults.append(Fault("push", lose(after=after), name="model.onnx"))
    prepared = subject().prepared
    assert prepared is not None
    measurement = measurer.measure(subject(), fresh=True).measurement
    assert (measurement.status, measurement.bytes_sent) == ("ok", once + len(prepared.files["model.onnx"]))


def test_what_was_sent_in_vain_is_told_of_the_subject_it_was_sent_for(
    measurer: Measurer, transport: FakeTransport, kept: Store
):
    once = sent_once(measurer)
    transport.faults.append(Fault("fetch", answer(b"{}"), times=None))
    one, other = subject(), replace(subject(), label="other")
    for stored, sent in ((one, 3 * once), (other, 0)):
        with pytest.raises(ResultError):
            measurer.measure(one, fresh=True)
        assert measurer.store_unmeasured(stored, "failed", "nonsense").bytes_sent == sent
        assert kept.measurements("s")[-1].bytes_sent == sent
    assert measurer.store_unmeasured(one, "infeasible", "too large").bytes_sent == 0, "nothing was sent since"


def test_bytes_sent_before_another_s_claim_was_waited_for_are_counted(
    measurer: Measurer, transport: FakeTransport, kept: Store, monkeypatch: pytest.MonkeyPatch
):
    once = sent_once(measurer)
    transport.faults.append(Fault("fetch", answer(says_failed)))
    monkeypatch.setattr(measurer._keeper, "known", lambda *_: None)
    claim, claims = kept.claim, []

    def theirs_at_second(key_hash: str, job_id: str) -> Claim:
        claims.append(key_hash)
        if len(claims) == 2:
            return Claim(key_hash=key_hash, job_id="theirs", mine=False, owner="them", seen_unix=0.0)
        return claim(key_hash, job_id)

    monkeypatch.setattr(kept, "claim", theirs_at_second)
    assert measurer.measure(subject()).measurement.bytes_sent == 2 * once


def test_of_a_job_that_was_found_again_nobody_knows_what_was_sent(measurer: Measurer, kept: Store):
    one = subject()
    assert one.prepared is not None
    job = measurer._job(one, Protocol())
    measurer.session.wait(measurer.session.submit(job, one.prepared.files))
    kept.claim(measurer.session.key(job).id, job.job_id)
    assert measurer.measure(one).measurement.bytes_sent == 0


def test_an_agent_that_was_removed_is_put_back(measurer: Measurer, said: list[str], tmp_path: Path):
    (tmp_path / "device/agent-waiting.py").unlink()
    assert measurer.measure(subject()).measurement.status == "ok"
    assert len(said) == 1
    assert said[0].endswith("it is run again")


def test_a_link_that_is_lost_is_told_of_and_the_job_found_again(
    measurer: Measurer, transport: FakeTransport, kept: Store, said: list[str]
):
    transport.faults.append(Fault("poll", lose(opens=1), nth=3))
    assert measurer.measure(subject()).measurement.status == "ok"
    assert said[0].startswith("fake: the link is lost")
    assert said[1] == "fake: the link is there again"
    transport.faults.append(Fault("poll", lose(), name="status.json"))  # there is none yet, which is an answer too
    assert measurer.measure(subject(), fresh=True).measurement.status == "ok"
    assert len(said) == 4
    transport.faults.append(Fault("poll", lose(opens=99)))
    with pytest.raises(ConnectionLost):
        measurer.measure(subject(), fresh=True)
    assert len(kept.measurements("s")) == 2


def test_claims_of_jobs_that_are_nowhere_end(measurer: Measurer, kept: Store, monkeypatch: pytest.MonkeyPatch):
    key, job = measurer.session.key(measurer._job(subject(), Protocol())), measurer._job(subject(), Protocol())
    mine, other = measurer._fresh_claim(key, job), f"{key.id[:24]}-{'0' * 16}-{job.job_id[-8:]}"
    for claim in (mine, other):
        kept.claim(claim, job.job_id)
    monkeypatch.setattr("archsearch.store.owner_is_dead", lambda *_: True)
    measurer.sweep()
    assert [claim.key_hash for claim in kept.abandoned_claims()] == [other]  # it is on another device, maybe


def test_a_folder_that_could_not_be_removed_is_swept_by_the_next_run(
    measurer: Measurer, transport: FakeTransport, kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    transport.faults.append(Fault("cleanup", lose(opens=99)))
    assert measurer.measure(subject()).measurement.status == "ok"
    assert len(jobs(tmp_path)) == 1
    transport.break_link()
    measurer.session.open()
    monkeypatch.setattr("archsearch.store.owner_is_dead", lambda *_: True)
    measurer.sweep()
    assert (jobs(tmp_path), kept.abandoned_claims(), len(kept.measurements("s"))) == ([], [], 1)


def test_a_job_that_an_earlier_run_cancelled_is_no_wish_of_this_one_s_user(
    measurer: Measurer, transport: FakeTransport, kept: Store, said: list[str]
):
    one = subject()
    assert one.prepared is not None
    job = measurer._job(one, Protocol())
    measurer.session.wait(measurer.session.submit(job, one.prepared.files))
    kept.claim(measurer.session.key(job).id, job.job_id)
    transport.faults.append(
        Fault("fetch", answer(lambda raw: raw.replace(b'"status": "ok"', b'"status": "cancelled"')))
    )
    assert measurer.measure(one).measurement.status == "ok"
    assert said == ["fake: one: it was cancelled for a run that ended before it heard of that; it is run again"]


def test_what_is_stored_while_it_is_claimed_is_not_measured_twice(
    measurer: Measurer, kept: Store, monkeypatch: pytest.MonkeyPatch
):
    measurer.measure(subject())
    real, looks = measurer._keeper.known, []

    def late(key_hash: str, one: Subject) -> measuring.Outcome | None:
        looks.append(key_hash)
        return real(key_hash, one) if len(looks) > 1 else None  # it is stored after the first look

    monkeypatch.setattr(measurer._keeper, "known", late)
    assert measurer.measure(subject()).reused
    assert len(kept.measurements("s")) == 1
    assert kept.claim(looks[0], "another").job_id == "another"  # no claim was left


def test_who_waits_for_another_s_result_leaves_no_claim(
    measurer: Measurer, kept: Store, monkeypatch: pytest.MonkeyPatch
):
    measurer.measure(subject())
    real, looks = measurer._keeper.known, []

    def late(key_hash: str, one: Subject) -> measuring.Outcome | None:
        looks.append(key_hash)
        return real(key_hash, one) if len(looks) > 1 else None

    monkeypatch.setattr(measurer._keeper, "known", late)
    claim, claims = kept.claim, []

    def theirs_at_first(key_hash: str, job_id: str) -> Claim:
        claims.append(key_hash)
        if len(claims) > 1:
            return claim(key_hash, job_id)  # they have ended: it is ours
        return Claim(key_hash=key_hash, job_id="theirs", mine=False, owner="them", seen_unix=0.0)

    monkeypatch.setattr(kept, "claim", theirs_at_first)
    assert measurer.measure(subject()).reused
    assert claim(looks[0], "another").job_id == "another"

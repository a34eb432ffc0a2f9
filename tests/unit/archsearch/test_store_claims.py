"""Claims: who may measure what, and what becomes of it when its owner dies."""

import os
import subprocess
import sys
import textwrap
import time

import sqlalchemy as sa

from archsearch import owners, store_tables
from tests.unit.archsearch.store_samples import record


def test_a_claim_is_held_by_one_and_ends_with_the_measurement(store, monkeypatch):
    assert store.claim("key-0", "job-0").mine
    alive = f"elsewhere:{os.getpid()}:1"
    with monkeypatch.context() as patch:
        patch.setattr("archsearch.store.owner_id", lambda: alive)
        other = store.claim("key-0", "job-9")
        assert (other.mine, other.job_id, other.owner) == (False, "job-0", owners.owner_id())
        store.release("key-0")
    assert store.claim("key-0", "job-0").mine
    store.add_measurement(record())
    with monkeypatch.context() as patch:
        patch.setattr("archsearch.store.owner_id", lambda: alive)
        assert store.claim("key-0", "job-9").mine


def test_a_measurement_does_not_end_a_claim_of_somebody_else(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("archsearch.store.owner_id", lambda: "elsewhere:1:1")
        assert store.claim("key-0", "job-7").mine
    store.add_measurement(record())
    assert not store.claim("key-0", "job-0").mine


def test_a_claim_of_a_killed_process_is_taken_over_with_its_job(store, where):
    code = f"""
        from archsearch.store import Store
        import os, signal
        Store.open({where!r}).claim("k", "their-job")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    claim = store.claim("k", "my-job")
    assert (claim.mine, claim.job_id, claim.owner) == (True, "their-job", owners.owner_id())
    store.rename_claim("k", "my-job")
    assert store.claim("k", "x").job_id == "my-job"
    store.release("k")
    assert store.claim("k", "x").job_id == "x"


def test_a_claim_out_of_sight_is_taken_over_when_it_gives_no_sign(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("archsearch.store.owner_id", lambda: "elsewhere:1:1")
        assert store.claim("k", "theirs").mine
    assert not store.claim("k", "mine").mine
    store.beat("k")  # not ours: changes nothing
    with store._write() as connection:
        connection.execute(sa.update(store_tables.claims).values(heartbeat_unix=time.time() - owners.STALE_S - 1))
    assert store.claim("k", "mine").mine


def test_a_process_id_that_is_used_again_or_a_zombie_is_not_the_owner():
    here, pid, started = owners.owner_id().rsplit(":", 2)
    assert not owners.owner_is_dead(f"{here}:{pid}:{started}", 0.0)
    assert owners.owner_is_dead(f"{here}:{pid}:{int(started) - 1}", time.time())
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    time.sleep(0.05)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owners._started(child.pid) == ""
    child.wait()


def test_abandoned_claims_are_those_of_the_dead(store, monkeypatch):
    from archsearch import store as module

    store.claim("k1", "job-1")
    assert store.abandoned_claims() == []
    monkeypatch.setattr(module, "owner_is_dead", lambda owner, heartbeat: True)
    assert [(claim.key_hash, claim.job_id) for claim in store.abandoned_claims()] == [("k1", "job-1")]

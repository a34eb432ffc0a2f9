"""Many writers, killed writers, a full disk: nothing that was said to be saved is lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from archsearch.store import Store
from tests.unit.archsearch.store_samples import LAYOUT, REPOSITORY, record


def test_many_threads_get_different_numbers_and_one_of_them_the_claim(store):
    numbers, errors = [], []

    def work(index):
        try:
            for n in range(5):
                numbers.append(store.add_trial("s", f"id{index}-{n}", "CG", LAYOUT, {}))
                store.add_measurement(record(f"{index}-{n}", layout_id=f"id{index}-{n}"), layout=LAYOUT, code="CG")
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(numbers) == list(range(20))
    assert len(store.measurements("s")) == 20


WRITER = """
    import os, sys
    from archsearch.store import MeasurementRecord, Store
    from tests.unit.archsearch.store_samples import LAYOUT, record
    where, me, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = Store.open(where)
    store.create_study("s", {})
    won = 0
    for n in range(count):
        claim = store.claim(f"key-{n}", f"{me}-{n}")
        won += claim.mine and claim.job_id == f"{me}-{n}"
        number = store.add_trial("s", f"id-{me}-{n}", "CG", LAYOUT, {})
        layout_id = f"id-{me}-{n}"
        row = record(f"{me}-{n}", layout_id=layout_id, trial=number, result=os.urandom(3000), key_hash=f"{me}-{n}")
        store.add_measurement(row, layout=LAYOUT, code="CG")
        print(row.job_id, flush=True)
    print("won", won, flush=True)
"""


def writer(where, me, count):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), where, str(me), str(count)],
        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip


def test_processes_that_create_and_write_at_once_do_not_disturb_each_other(where):
    processes = [writer(where, me, 15) for me in range(3)]
    said = [process.communicate(timeout=60)[0].split("\n") for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    won = [int(lines[-2].removeprefix("won ")) for lines in said]
    with Store.open(where) as store:
        assert len(store.measurements("s")) == 45
        assert [trial.number for trial in store.trials("s")] == list(range(45))
        assert sum(won) == 15, "each key was claimed first by exactly one process"


def test_killing_a_writer_at_any_instant_loses_nothing_that_it_said_was_saved(tmp_path):
    where = str(tmp_path / "study.db")
    Store.open(where).close()
    said = set()
    for attempt in range(15):
        process = writer(where, attempt, 10_000)
        assert process.stdout is not None
        said.add(process.stdout.readline().strip())
        time.sleep(0.007 * attempt)
        process.kill()
        said.update(line for line in process.stdout.read().split("\n")[:-1])
        process.wait()
        process.stdout.close()
        with Store.open(where) as store:
            kept = store.measurements("s")
            assert said <= {m.job_id for m in kept}
            assert all(len(m.result) == 3000 for m in kept)
            known = set(store.layouts())
            assert {m.layout_id for m in kept} <= known
            assert [trial.number for trial in store.trials("s")] == list(range(len(store.trials("s"))))
    with sqlite3.connect(where) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert len(said) >= 15


FULL = """
    import os, resource, sys
    from archsearch.errors import StoreError
    from archsearch.store import Store
    from tests.unit.archsearch.store_samples import record
    store = Store.open(sys.argv[1])
    store.create_study("s", {})
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    saved = 0
    try:
        for number in range(1000):
            store.add_measurement(record(number, result=os.urandom(20_000)))
            saved += 1
    except StoreError as error:
        print(saved)
        print(error, "|", error.hint)
    assert len(store.measurements("s")) == saved
"""


@pytest.mark.parametrize("kind", ["limit", "tmpfs"])
def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path, kind):
    mounted = False
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(tmp_path)]
        mounted = os.getuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
        if not mounted:
            pytest.skip("only root may mount a small file system; a size limit is tested instead")
    try:
        path = tmp_path / "study.db"
        code = [sys.executable, "-c", textwrap.dedent(FULL), str(path), kind]
        done = subprocess.run(code, check=False, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
        assert done.returncode == 0, done.stderr
        saved, message = done.stdout.splitlines()
        assert int(saved) > 2
        assert "before is intact" in message
        copies = tmp_path.parent / f"{tmp_path.name}-copy"
        shutil.copytree(tmp_path, copies)  # a full disk has no room for the files that reading needs
        with Store.open(copies / "study.db") as store:
            assert [m.job_id for m in store.measurements("s")] == [f"job-{n}" for n in range(int(saved))]
    finally:
        if mounted:
            subprocess.run(["umount", str(tmp_path)], check=True)

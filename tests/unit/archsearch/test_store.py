"""The store: what is kept, who may claim what, what is said when it cannot be opened, and that nothing is lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from archsearch import owners, store_tables
from archsearch.errors import StoreError
from archsearch.store import Check, MeasurementRecord, Store

REPOSITORY = Path(__file__).parents[3]
LAYOUT = {"width": 64, "layers": ["C", "G"]}


def record(number=0, **fields):
    return MeasurementRecord(
        **{
            "job_id": f"job-{number}", "study": "s", "role": "candidate", "label": "#1 CG", "device": "local",
            "device_fingerprint": "f" * 16, "workload": "quick", "precision": "int4", "key_hash": f"key-{number}",
            "key": {"threads": 2}, "method": "1", "status": "ok", "result": b'{"times": [1, 2, 3]}', "bytes_sent": 20,
            "info": {"phase": 0.5}, "created_unix": 1.5,
        }
        | fields
    )  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """URL of a PostgreSQL server's database; the server is started here and stopped afterwards."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if shutil.which("postgres") is None and not found:
        pytest.skip("no PostgreSQL server")
    binaries = found[-1].parent if found else Path(shutil.which("postgres") or "").parent
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = 65534 if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, user, user)
    as_user = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    data = folder / "data"
    made = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8", "--locale", "C"]
    subprocess.run(made, check=True, **quiet, **as_user)
    options = ["-F", "-c", "listen_addresses=", "-k", folder, "-c", "max_connections=20", "-c", "shared_buffers=16MB"]
    process = subprocess.Popen([binaries / "postgres", "-D", data, *options], **quiet, **as_user)
    try:
        deadline = time.monotonic() + 30
        while not (folder / ".s.PGSQL.5432").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        url = f"postgresql://tester@/{{}}?host={folder}"
        engine = sa.create_engine(
            url.format("postgres").replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        while True:
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield engine, url
        engine.dispose()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("psycopg", "postgres"))])
def where(request, tmp_path):
    """Where to open a new store: a path, or a URL of an empty database."""
    if request.param == "sqlite":
        yield str(tmp_path / "new" / "study.db")
        return
    engine, url = request.getfixturevalue("server")
    name = f"db{time.monotonic_ns()}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield url.format(name)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def store(where):
    with Store.open(where) as opened:
        opened.create_study("s", {"seed": 1})
        yield opened


# what is kept


def test_everything_reads_back_after_closing(where):
    with Store.open(where) as store:
        store.create_study("s", {"seed": 1, "budgets": ["ttft_ms<=300"]})
        number = store.add_trial("s", "id1", "CG", LAYOUT, {"knobs": {"width": 3}})
        full = record(layout_id="id1", trial=number, name="näme", reason="because")
        check = Check(check_id="c", device_fingerprint="f", runtime="1.31 CPU", rel_rms=1e-6)
        assert store.add_measurement(full, layout=LAYOUT, code="CG", checks=[check, check])
        store.set_trial("s", number, "done")
        store.add_event("s", "run_started", {"devices": ["local"]})
    with Store.open(where, create=False) as store:
        assert store.study("s").config == {"seed": 1, "budgets": ["ttft_ms<=300"]}
        assert [study.name for study in store.studies()] == ["s"]
        assert store.study("other") is None
        assert store.layouts() == store.layouts("id") == {"id1": LAYOUT}
        assert store.layouts("x%") == {}
        (trial,) = store.trials("s")
        assert (trial.number, trial.state, trial.choices) == (0, "done", {"knobs": {"width": 3}})
        assert store.measurements("s") == store.measurements() == [full]
        assert store.passed_checks("f", "1.31 CPU") == {"c"}
        assert store.passed_checks("f", "1.30 CPU") == set()
        ((_, kind, data),) = store.events("s")
        assert (kind, data) == ("run_started", {"devices": ["local"]})
        assert store.events("s", "run_ended") == []


def test_a_study_is_made_once_and_keeps_its_settings(store):
    assert store.create_study("s", {"seed": 2}).config == {"seed": 1}


def test_the_latest_measurement_of_a_key_with_a_wanted_status_is_found(store):
    for number, status in enumerate(["ok", "failed", "ok", "throttled"]):
        store.add_measurement(record(number, key_hash="k", status=status))
    assert store.find_measurement("k", statuses=["ok"]).job_id == "job-2"
    assert store.find_measurement("k", statuses=["ok", "throttled"]).job_id == "job-3"
    assert store.find_measurement("k", statuses=["timeout"]) is None
    assert store.find_measurement("other", statuses=["ok"]) is None


def test_a_job_is_stored_once(store):
    assert store.add_measurement(record())
    assert not store.add_measurement(record(reason="again"))
    assert [m.reason for m in store.measurements("s")] == [""]


def test_measurements_of_other_studies_join_by_job_id(store):
    store.create_study("t", {})
    store.add_measurement(record(1))
    store.add_measurement(record(2, study="t"))
    assert [m.job_id for m in store.measurements("t", also=["job-1"])] == ["job-1", "job-2"]


def test_text_from_devices_that_a_database_refuses_is_stored_anyway(store):
    assert store.add_measurement(record(reason="a\0b\ud800c" + "x" * 5000, label="\0"))
    assert store.measurements()[0].reason.startswith("a\ufffdb?c")


def test_a_study_that_does_not_exist_is_an_error_and_leaves_nothing(store):
    with pytest.raises(StoreError, match="no study 'nope'"):
        store.add_trial("nope", "id1", "CG", LAYOUT, {})
    with pytest.raises(StoreError):
        store.add_measurement(record(study="nope", layout_id="id1"), layout=LAYOUT, code="CG")
    assert store.layouts() == {}


# claims


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


def test_a_layout_is_one_trial_of_a_study(store):
    assert store.add_trial("s", "id1", "CG", LAYOUT, {}) == 0
    assert store.add_trial("s", "id1", "CG", LAYOUT, {}) is None  # another run of the study drew it first
    assert store.add_trial("s", "id2", "CG", LAYOUT, {}) == 1


def test_abandoned_claims_are_those_of_the_dead(store, monkeypatch):
    from archsearch import store as module

    store.claim("k1", "job-1")
    assert store.abandoned_claims() == []
    monkeypatch.setattr(module, "owner_is_dead", lambda owner, heartbeat: True)
    assert [(claim.key_hash, claim.job_id) for claim in store.abandoned_claims()] == [("k1", "job-1")]


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
    from tests.unit.archsearch.test_store import LAYOUT, record
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


# what is said when it cannot be opened


def refusal(where, **options):
    with pytest.raises(StoreError) as caught:
        Store.open(where, **options)
    error = caught.value
    assert "Traceback" not in str(error)
    assert len(str(error).splitlines()) == 1
    return error


def test_a_missing_store_is_not_made_when_it_should_exist(tmp_path):
    assert "there is no store at" in str(refusal(tmp_path / "a" / "b.db", create=False))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"these are not the bytes of a database" * 50, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    error = refusal(path)
    assert str(path) in str(error)
    assert error.hint
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE meta (a)")
    connection.execute("CREATE TABLE films (a)")
    connection.close()
    assert "something else (it has tables films, meta" in str(refusal(path))


@pytest.mark.parametrize(("version", "hint"), [("2", "update archsearch"), ("0", "begin a new study")])
def test_another_version_is_refused_with_what_to_do(where, version, hint):
    with Store.open(where) as store, store._write() as connection:
        connection.execute(sa.update(store_tables.meta).values(value=version))
    error = refusal(where)
    assert f"store version {version}" in str(error)
    assert hint in error.hint


def test_a_damaged_file_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "study.db"
    with Store.open(path) as store:
        store.create_study("s", {})
        for number in range(40):
            store.add_measurement(record(number, result=os.urandom(4000)))
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught, Store.open(path) as store:
        store.measurements()
    assert "recover" in caught.value.hint


@pytest.mark.parametrize("column", ["result", "info"])
def test_a_damaged_measurement_is_an_error_in_one_line(tmp_path, column):
    with Store.open(tmp_path / "study.db") as store:
        store.create_study("s", {})
        store.add_measurement(record())
        with store._write() as connection:
            connection.exec_driver_sql(
                f"UPDATE measurements SET {column} = ?", (b"\xff{" if column == "result" else "{",)
            )
        with pytest.raises(StoreError, match="damaged data"):
            store.measurements()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuchdb://x/y", "no driver"),
        ("mysql+mysqldb://u:secret@h/x", "no driver"),
        ("://", "no database URL"),
        ("postgresql://u:secret@h:notaport/x", "no database URL"),
        ("sqlite://", "without a file"),
        ("sqlite:///:memory:", "without a file"),
    ],
)
def test_a_wrong_url_is_refused_with_an_example(url, message):
    error = refusal(url)
    assert message in str(error)
    assert error.hint
    assert "secret" not in str(error) + error.hint


@pytest.mark.needs("psycopg")
def test_a_server_that_does_not_answer_is_named_without_the_password(tmp_path):
    error = refusal(f"postgresql://u:secret@/x?host={tmp_path}")
    assert "secret" not in str(error)
    assert "server" in error.hint


def test_a_folder_is_not_a_store(tmp_path):
    assert refusal(tmp_path).hint
    (tmp_path / "file").touch()
    assert "cannot be made" in str(refusal(tmp_path / "file" / "x.db"))


READ_ONLY = """
    import os, sys
    from archsearch.errors import StoreError
    from archsearch.store import Store
    Store.open(sys.argv[1] + "/warm.db").close()
    os.chmod(sys.argv[1], 0o555)
    if os.getuid() == 0:
        os.setuid(65534)
    for name in ("new.db", "sub/new.db"):
        try:
            Store.open(f"{sys.argv[1]}/{name}")
        except StoreError as error:
            print(error, "|", error.hint)
"""


def test_a_read_only_folder_is_refused_with_what_to_do():
    folder = tempfile.mkdtemp()  # not below pytest's own, which another user may not enter
    code = [sys.executable, "-c", textwrap.dedent(READ_ONLY), folder]
    done = subprocess.run(code, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    Path(folder).chmod(0o755)
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "may write to" in first
    assert "cannot be made" in second or "may write to" in second


FULL = """
    import os, resource, sys
    from archsearch.errors import StoreError
    from archsearch.store import Store
    from tests.unit.archsearch.test_store import record
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

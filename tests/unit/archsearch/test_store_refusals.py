"""What is said when a store cannot be opened or read."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
import sqlalchemy as sa

from archsearch import store_tables
from archsearch.errors import StoreError
from archsearch.store import Store
from tests.unit.archsearch.store_samples import REPOSITORY, record


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


@pytest.mark.parametrize(
    ("column", "value"), [("result", b"\xff{"), ("info", "{"), ("info", "7"), ("key", "[]"), ("key", "")]
)
def test_a_damaged_measurement_is_an_error_in_one_line(tmp_path, column, value):
    with Store.open(tmp_path / "study.db") as store:
        store.create_study("s", {})
        store.add_measurement(record())
        with store._write() as connection:
            connection.exec_driver_sql(f"UPDATE measurements SET {column} = ?", (value,))
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

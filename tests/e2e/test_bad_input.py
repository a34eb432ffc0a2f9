"""Bad input: one or two lines, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import os
import resource
import sqlite3
from pathlib import Path

import pytest

from tests.e2e.conftest import LAYOUT, TINY, Cli, Done


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("CCG:width=96,gqa.heads=3,gqa.kv_heads=2", "kv_heads"),
        ("CCG:width=-4", "width"),
        ("CCG:width=0", "width"),
        ("CCG:vocab=0", "vocab_size"),
        ("CCG:ffn=-64", "ffn"),
        ("CCG:kernel=0", "kernel"),
        ("CCG:params=1K", "params"),
        ("CCG:heads=nan", "heads"),
        ("CCX", "CCX"),
        ("", "names no"),
        ("nowhere.json", "nowhere.json"),
        ("lfm2.5-351m", "lfm2.5-350m"),
    ],
)
def test_an_impossible_layout_is_refused(shared: Cli, layout: str, said: str):
    assert said in shared.refused("describe", layout)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"width": 3}', "\x00"])
def test_a_damaged_layout_file_is_refused(shared: Cli, tmp_path: Path, content: str):
    file = tmp_path / "layout.json"
    file.write_text(content, encoding="utf-8")
    assert "layout.json" in shared("describe", file, code=2).err


def test_mistakes_in_devices_yaml_are_told_all_at_once(cli: Cli):
    (cli.folder / "devices.yaml").write_text(
        "devices:\n  - name: local\n    transport: local\n    thread: 2\n    timeout_s: -1\n"
        "  - name: phone\n    transport: usb\n",
        encoding="utf-8",
    )
    for command in (("devices", "list"), ("run", *TINY), ("measure", LAYOUT)):
        done = cli(*command, code=2)
        assert done.out == ""
        for said in ("devices.yaml:4", "thread", "devices.yaml:5", "devices.yaml:7", "adb"):
            assert said in done.err
    assert not (cli.folder / "runs").exists() or not list((cli.folder / "runs").glob("*/study.db"))


@pytest.mark.parametrize("content", ["", "devices: []", "a: [", "- 1", "devices:\n\t- x"])
def test_no_device_file_at_all(cli: Cli, content: str):
    (cli.folder / "devices.yaml").write_text(content, encoding="utf-8")
    assert "devices.yaml" in cli.refused("devices", "list")


# The store


def test_a_store_of_garbage_is_refused_and_left_alone(cli: Cli):
    folder = cli.folder / "runs/bad"
    folder.mkdir(parents=True)
    (folder / "study.db").write_bytes(b"not a database, but somebody's file " * 100)
    before = (folder / "study.db").read_bytes()
    for command in (("show", "bad"), ("run", *TINY, "--study", "bad", "--trials", "1")):
        assert "study.db" in cli.refused(*command)
    assert (folder / "study.db").read_bytes() == before


def test_a_folder_in_the_store_s_place_is_refused(cli: Cli):
    (cli.folder / "runs/bad/study.db").mkdir(parents=True)
    assert "study.db" in cli.refused("show", "bad")
    assert "study.db" in cli.refused("run", *TINY, "--study", "bad", "--trials", "1")


def test_somebody_else_s_database_is_refused(cli: Cli):
    with sqlite3.connect(cli.folder / "other.db") as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    assert "something else" in cli.refused("run", *TINY, "--trials", "1", "--store", "sqlite:///other.db")


@pytest.mark.parametrize("url", ["mysql://nowhere/x", "nonsense://x", "sqlite://", "postgresql://127.0.0.1:1/x"])
def test_a_store_that_cannot_be_opened_is_refused(cli: Cli, url: str):
    cli.refused("run", *TINY, "--study", "s", "--trials", "1", "--store", url)


def test_runs_that_cannot_be_written(cli: Cli):
    (cli.folder / "runs").write_text("a file", encoding="utf-8")
    assert "runs" in cli.refused("run", *TINY, "--study", "s", "--trials", "1")
    assert "runs" in cli.refused("measure", LAYOUT)


def test_a_read_only_study_can_still_be_told_apart_from_a_broken_one(shared: Cli, study: Done, tmp_path: Path):
    import shutil

    copy = tmp_path / "runs/first"
    shutil.copytree(shared.folder / "runs/first", copy)
    for path in (copy / "study.db", copy):
        path.chmod(0o500 if path.is_dir() else 0o400)
    done = shared("show", "first", "--runs", tmp_path / "runs", code=None)
    copy.chmod(0o700)
    assert done.code in (0, 2)  # root may write anywhere
    if done.code == 0:
        assert done.out == shared("show", "first").out


def test_a_full_disk_stops_a_run_with_what_it_has(cli: Cli):
    def quota() -> None:  # of one file: what a full disk looks like to a database, without being root
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    cli("run", *TINY, "--study", "full", "--trials", "1")
    kept = len(cli.measurements("full"))
    limit = (cli.folder / "runs/full/study.db").stat().st_size + 4096
    done = cli("run", *TINY, "--study", "full", "--trials", "20", code=None, preexec_fn=quota)
    assert done.code == 2, done.err
    assert "disk" in done.err
    assert len(cli.measurements("full")) >= kept
    shown = cli("show", "full", "--format", "json").json()
    assert shown
    cli("run", *TINY, "--study", "full", "--trials", "2")  # and goes on when there is room again


def test_a_run_on_an_empty_space_measures_nothing(shared: Cli):
    space = shared.folder / "empty.yaml"
    space.write_text(
        "width: [64]\ndepth: [2]\nembedding: {vocab_size: [512]}\nmixers: {none: {}}\npattern: free\n"
        "ffn: {hidden: 64}\nconstraints: {min_global_mixers: 1}\n",
        encoding="utf-8",
    )
    said = shared.refused("run", "--space", space, "--study", "empty")
    assert "min_global_mixers" in said
    assert not (shared.folder / "runs/empty").exists()


def test_output_to_a_closed_pipe_is_quiet(shared: Cli, study: Done):
    read, write = os.pipe()
    os.close(read)
    process = shared.start("show", "first", "--format", "json", stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "Exception ignored" not in err

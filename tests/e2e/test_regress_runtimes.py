"""`archsearch regress run --compare-runtimes`: two versions of onnxruntime, installed and measured as people would.

Other tests use the same cores meanwhile, so that only changes by more than a factor of two count here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from archsearch.candidates import prepare
from archsearch.measuring import Measurer
from archsearch.regress.runtimes import open_runtimes
from archsearch.store import Store
from archsearch.subjects import Subject
from profiler.devices import Cooling, SshDevice
from profiler.jobs import Protocol
from profiler.workloads import parse_workload
from search_space.notation import resolve
from tests.e2e.conftest import Cli, wait_until
from tests.e2e.test_three_ways import PHONE
from tests.phone import Phone
from tests.sshd import SSHD, Sshd

OLD, NEW = "1.30.0", "1.31.0"
LAYOUT = "CC:width=64,vocab=512,ffn=96"
SUITE = f"""\
workloads: ["16/4"]
quantities: [ttft_ms, decode_ms]
minimum_effect: 1.0
measure:
  - {{layout: "{LAYOUT}", name: convolutions}}
"""
COMPARE = ("regress", "run", "--suite", "suite.yaml", "--no-tune", "--compare-runtimes", OLD, NEW)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A device on which a first comparison was killed while it installed, and a second one measured."""
    folder = tmp_path_factory.mktemp("runtimes")
    cli = Cli(folder=folder, work=folder / "device")
    cli.devices()
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    killed = cli.start(*COMPARE)
    wait_until(lambda: list(cli.work.glob("runtimes/venv-*/bin")), 60)
    killed.kill()
    killed.communicate()
    remains = {path.name for path in cli.work.glob("runtimes/venv-*")}
    done = cli(*COMPARE, "--format", "json", timeout=300)
    (folder / "said").write_text(json.dumps([done.out, done.err, sorted(remains)]))
    yield cli
    for process in cli.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_both_versions_run_the_same_graph_in_turns(installed: Cli):
    out, err, remains = json.loads((installed.folder / "said").read_text())
    rows = json.loads(out)
    assert [row["quantity"] for row in rows] in (["ttft_ms", "decode_ms"], ["decode_ms", "ttft_ms"])
    for row in rows:
        assert row["kind"] in ("SAME", "AMBIGUOUS"), row
        assert (row["runtime_a"], row["runtime_b"], row["device"], row["what"]) == (OLD, NEW, "local", "convolutions")
        assert row["change_low"] <= row["change"] <= row["change_high"]
        assert row["value_b"] / row["value_a"] - 1 == pytest.approx(row["change"])
        assert row["pairs"] + row["pairs_left_out"] >= 6
    assert f"installing onnxruntime {OLD}" in err
    assert "left" in err, "the time that is left"
    assert f"onnxruntime B = {NEW} against A = {OLD}: 2 quantities:" in err.splitlines()[-1]
    assert not any((installed.work / "runtimes" / name / "bin").exists() for name in remains), "half made"
    records = installed.measurements("regress")
    assert Counter(record.key["runtime_version"] for record in records) == {
        OLD: len(records) // 2,
        NEW: len(records) // 2,
    }
    assert len({record.key["content"] for record in records}) == 1
    assert {tuple(record.info["notes"]["runtimes"]) for record in records} == {(OLD, NEW)}
    with installed.store("regress") as store:
        for record in store.measurements("regress"):
            assert json.loads(record.result or b"{}")["environment"]["onnxruntime"] == record.key["runtime_version"]
    assert "no night was measured yet" in installed.refused("regress", "series")


def test_a_comparison_is_shown_again(installed: Cli):
    out, err, _ = json.loads((installed.folder / "said").read_text())
    with installed.store("regress") as store:
        killed, measured, *_ = (one["compared"] for _, _, one in store.events("regress", "runtimes compared"))
    shown = installed("regress", "runtimes", "--format", "json", "--at", str(measured))
    assert shown.json() == json.loads(out)
    assert err.splitlines()[-1] in shown.err
    assert "others: " in shown.err
    nothing = installed("regress", "runtimes", "--format", "json", "--at", str(killed))
    assert nothing.json() == []
    assert "nothing to judge" in nothing.err
    assert "no comparison began then" in installed.refused("regress", "runtimes", "--at", "2001-01-01")


def test_what_is_installed_is_used_again_stopped_kept_and_cleaned(installed: Cli):
    before = len(installed.measurements("regress"))
    scripts = sorted(path.name for path in installed.work.glob("runtimes/onnxruntime-*.sh"))
    assert len(scripts) == 2
    again = installed.start(*COMPARE)
    wait_until(lambda: len(installed.measurements("regress")) > before, 60)
    assert "another run measures a night" in installed.refused(*COMPARE, code=3)
    again.send_signal(signal.SIGINT)
    done = installed.finish(again, code=130)
    assert "are kept" in done.err
    assert "installing" not in done.err
    assert sorted(path.name for path in installed.work.glob("runtimes/onnxruntime-*.sh")) == scripts
    assert len(installed.measurements("regress")) > before


@pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's sshd (Debian: openssh-server)")
def test_over_ssh_each_session_runs_under_its_own(installed: Cli, tmp_path: Path):
    """The same folder behind a server: what is installed there is found, and jobs run under it."""
    sshd = Sshd(tmp_path / "sshd")
    sshd.start()
    device = SshDevice(
        name="box", transport="ssh", host="127.0.0.1", port=sshd.port, key_file=str(sshd.key), threads=1,
        known_hosts=str(sshd.known_hosts), work_dir=str(installed.work), python=sys.executable,
        cooling=Cooling(max_other_cpu=1.0, timeout_s=5),
    )  # fmt: skip
    said: list[str] = []
    workload, layout = parse_workload("16/4"), resolve(LAYOUT).layout
    prepared = prepare(layout, workload=workload, precision="fp32", lowerings={}, seed=0)
    subject = Subject(label="x", workload=workload, precision="fp32", layout=layout, prepared=prepared)
    protocol = Protocol(min_processes=1, max_processes=1, memory_pass=False)
    try:
        with (
            open_runtimes(device, (OLD, NEW), said.append) as (a, b),
            Store.open(tmp_path / "study.db") as store,
        ):
            assert (a.runtime_version, b.runtime_version, said) == (OLD, NEW, [])
            store.create_study("s", {})
            for session, version in ((b, NEW), (a, OLD)):
                found = Measurer(session, store, study="s", protocol=protocol).measure(subject).measurement
                assert found.result is not None
                assert found.result.environment.onnxruntime == version
    finally:
        sshd.stop()


def test_cleaning_takes_the_runtimes_along(installed: Cli):
    shown = installed("devices", "clean", "local", "--yes", "--force").out
    assert "freed" in shown
    assert not (installed.work / "runtimes").exists()


def test_what_cannot_be_compared(cli: Cli):
    (cli.folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    run = ("regress", "run", "--suite", "suite.yaml", "--compare-runtimes")
    assert "'newest' is no version of onnxruntime" in cli.refused(*run, "1.30.0", "newest")
    assert "tunes nothing" in cli.refused(*run, "1.30.0", "1.31.0", "--tune")
    assert not cli.work.exists(), "no device was opened"
    done = cli(*run, "999.0", "1.30.0", code=3)
    assert "no device can be used" in done.err
    assert "local: there is no wheel of numpy>=1.26, onnxruntime==999.0 for Python" in done.err
    assert "pip index versions onnxruntime" in done.err
    assert [path.name for path in cli.work.glob("runtimes/*")] == []
    assert cli.measurements("regress") == []


@pytest.mark.long  # two bundles are made, and an emulated processor installs and measures
@pytest.mark.needs("phone")
def test_on_a_phone(cli: Cli, phone: Phone):
    cli.devices("enabled: false")
    file = cli.folder / "devices.yaml"
    file.write_text(file.read_text() + PHONE.format(port=phone.port))
    (cli.folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    try:
        done = cli(*COMPARE, "--format", "json", timeout=1500)
        assert {row["quantity"] for row in done.json()} == {"ttft_ms", "decode_ms"}
        for row in done.json():
            assert (row["device"], row["runtime_a"], row["runtime_b"]) == ("phone", OLD, NEW)
            assert row["kind"] in ("SAME", "AMBIGUOUS"), row
            assert row["pairs"] >= 4
        with cli.store("regress") as store:
            told = [json.loads(record.result or b"{}")["environment"] for record in store.measurements("regress")]
        assert Counter(one["onnxruntime"] for one in told) == {OLD: len(told) // 2, NEW: len(told) // 2}
        assert {one["machine"] for one in told} == {"aarch64"}
        cli("devices", "clean", "phone", "--yes", "--force")
        assert not (phone.data / "archsearch").exists()
    finally:
        shutil.rmtree(phone.data / "archsearch", ignore_errors=True)

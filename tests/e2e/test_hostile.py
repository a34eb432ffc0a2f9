"""A device that lies, and a device file that an attacker wrote, as the command line meets them."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import LAYOUT, Cli
from tests.sshd import SSHD, Sshd

MEASURE = ("measure", LAYOUT, "--workload", "16/4", "--no-tune")
NASTY = "\x1b[31mred\x1b]0;title\x07 [bold]b[/bold] \x9b2J \u202eback <b>h</b> | c *d*"

# It stands in for Python on the device: it never runs the agent, and does as the file `orders` says.
LIAR = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
orders = json.loads((here / "orders").read_text())
if sys.argv[-1] == "info":
    environment = {{"cpu_model": "CPU", "cores": 2, "numpy": "2", "onnxruntime": "1.31.1", **orders.get("info", {{}})}}
    print(json.dumps(environment))
    raise SystemExit
folder = pathlib.Path(sys.argv[-1])
if "says" in orders:
    sys.exit(orders["says"])
job = json.loads((folder / "job.json").read_text())
status = {{"state": "done", "heartbeat_unix": 1.0, "pid": os.getpid(), "detail": orders.get("detail", "")}}
if "detail" in orders:
    (folder / "status.json").write_text(json.dumps({{**status, "state": "cooling"}}))
    time.sleep(2.5)
result = {{"format": 1, "job_id": job["job_id"], "method": "lie", "status": "failed", "reason": "", "environment": {{}},
          **orders.get("result", {{}})}}
raw = orders.get("raw") or json.dumps(result)
(folder / "result.json").write_text(raw * orders.get("times", 1))
(folder / "status.json").write_text(json.dumps(status))
"""


class Liar:
    """A local device whose Python is the script above."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.folder = cli.folder / "liar"
        self.folder.mkdir()
        (self.folder / "python").write_text(LIAR.format(python=sys.executable))
        (self.folder / "python").chmod(0o755)
        cli.devices(f"python: {self.folder}/python")

    def orders(self, **orders: object) -> None:
        (self.folder / "orders").write_text(json.dumps(orders))


@pytest.fixture
def liar(cli: Cli) -> Liar:
    return Liar(cli)


def harmless(text: str) -> None:
    """No character that a terminal obeys, but for the line's end."""
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)


def test_what_a_device_says_is_shown_as_text(liar: Liar):
    liar.orders(result={"reason": NASTY}, info={"cpu_model": NASTY, "host": NASTY}, detail=NASTY)
    for output_format in ("table", "md", "csv", "json"):
        done = liar.cli(*MEASURE, "--format", output_format, code=None)
        harmless(done.out + done.err)
        assert "[bold]b[/bold]" in done.out.replace("\\", ""), done.out
        assert "<b>" in done.out if output_format != "md" else "&lt;b&gt;" in done.out
    [study] = {path.name for path in (liar.cli.folder / "runs").iterdir()} - {"blocks"}
    shown = liar.cli("show", study, "--format", "md", code=None)
    harmless(shown.out + shown.err)
    assert "red" in shown.out + shown.err


def test_a_terminal_gets_none_of_its_codes(liar: Liar):
    liar.orders(result={"reason": NASTY}, detail=NASTY)
    done = liar.cli.start(*MEASURE, env={"NO_COLOR": "", "TERM": "xterm"})
    out, err = done.communicate(timeout=120)
    for said in (out, err):
        assert "\x1b[31mred" not in said
        assert "\x1b]0" not in said
        assert "\x9b" not in said


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ({"says": NASTY}, "ended without a result"),
        ({"raw": "{" * 100_000}, "is not valid"),
        ({"raw": "1" + "0" * 5000}, "is not valid"),
        ({"raw": "x" * 1_000_000, "times": 100}, "larger than"),
        ({"result": {"job_id": "../../../x"}}, "is of job"),
        ({"result": {NASTY: 1}}, "Extra inputs"),
        ({"result": {"seconds": {"total": float("nan")}}}, "is not valid"),
        ({"info": {"onnxruntime": None, "problems": [NASTY * 10]}}, "no onnxruntime"),
        ({"info": {"cores": 10**400}}, "is not valid"),
        ({"info": {"x": "y" * 70_000_000}}, "wrote more than 64 MiB"),
    ],
)
def test_nonsense_is_refused_in_a_few_words(liar: Liar, orders: dict[str, object], said: str):
    liar.orders(**orders)
    done = liar.cli(*MEASURE, code=None)
    assert done.code in (3, 5), done
    assert said in done.err + done.out
    harmless(done.err + done.out)
    assert len(done.err) < 5000
    assert {path.name for path in liar.cli.folder.iterdir()} <= {"devices.yaml", "device", "runs", "liar"}


EVIL = "$(touch touched); touch touched `touch touched` & | \"'\\ -e *"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    if SSHD is None:
        pytest.skip("needs OpenSSH's sshd (Debian: openssh-server)")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sshd = Sshd(tmp_path / "sshd")
    sshd.start()
    yield sshd
    sshd.stop()


def test_a_folder_and_a_python_that_look_like_code_are_names(cli: Cli, box: Sshd):
    wrapper = cli.folder / "bin" / EVIL
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    device = {
        "name": "box", "transport": "ssh", "host": "127.0.0.1", "port": box.port, "threads": 1,
        "key_file": str(box.key),
        "known_hosts": str(box.known_hosts), "work_dir": str(cli.folder / EVIL), "python": str(wrapper),
        "cooling": {"max_other_cpu": 1.0, "timeout_s": 5},
    }  # fmt: skip
    (cli.folder / "devices.yaml").write_text(json.dumps({"devices": [device]}))
    [row] = cli(*MEASURE, "--format", "json").json()
    assert row["status"] == "ok", row
    assert not list(cli.folder.rglob("touched"))
    assert not (Path.home() / "touched").exists()
    for python in ("$(touch touched)", "; touch touched", "-c", "--help", "exit", "`touch touched`"):
        (cli.folder / "devices.yaml").write_text(json.dumps({"devices": [{**device, "python": python}]}))
        assert "device 'box'" in cli(*MEASURE, code=3).err
    assert not list(cli.folder.rglob("touched"))
    assert not (Path.home() / "touched").exists()


def test_a_result_s_text_is_no_formula(liar: Liar):
    liar.orders(result={"reason": '=HYPERLINK("http://x")'})
    done = liar.cli(*MEASURE, "--format", "csv", code=None)
    [row] = csv.DictReader(io.StringIO(done.out))
    assert row["reason"].startswith("'=")


@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/x", "..", "-x", "a\nb", "$(touch X)", "x" * 300])
def test_a_study_stays_in_its_folder(cli: Cli, name: str):
    done = cli("run", "--space", "tiny", "--study", name, "--trials", "1", code=2)
    assert "archsearch: " in done.err or "Error" in done.err
    assert {path.name for path in cli.folder.iterdir()} <= {"devices.yaml", "device", "runs"}


@pytest.mark.parametrize(
    "text",
    ['{"width": 1' + "0" * 5000 + "}", "[" * 100_000, '{"a":' * 100_000, '{"width": NaN}', '{"width": 1e999}'],
    ids=["huge", "deep", "deep objects", "nan", "infinite"],
)
def test_a_layout_file_that_wants_to_break_us(cli: Cli, text: str):
    file = cli.folder / "layout.json"
    file.write_text(text)
    assert "layout.json" in cli.refused("describe", file)

"""What `ops/` ships can be installed as it is: it parses, and archsearch accepts every command line in it."""

from __future__ import annotations

import configparser
import http.server
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from archsearch.cli.app import app

OPS = Path(__file__).parents[3] / "ops"
SERVICE, TIMER = OPS / "archsearch-regress.service", OPS / "archsearch-regress.timer"
CRON, WORKFLOW, WEBHOOK = OPS / "archsearch-regress.cron", OPS / "github-nightly.yml", OPS / "webhook.py"
_ENDS = {">>", ">", "2>&1", "&&", "|", ";"}


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(WORKFLOW.read_text())
    return found


def cron_lines() -> list[str]:
    return [line for line in CRON.read_text().splitlines() if line and not line.startswith("#") and line[0].isdigit()]


def command_lines() -> Iterator[list[str]]:
    """The words after every `archsearch`, without redirections; of comments too."""
    texts = [unit(SERVICE)["Service"]["ExecStart"], *cron_lines()]
    texts += [step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step]
    texts += re.findall(r"`(archsearch [^`]*)`", WEBHOOK.read_text())
    for text in texts:
        for line in text.splitlines():
            words = shlex.split(line)
            for at, word in enumerate(words):
                if word == "archsearch" or word.endswith("/archsearch"):
                    rest = words[at + 1 :]
                    end = next((i for i, found in enumerate(rest) if found in _ENDS), len(rest))
                    if rest[:end]:
                        yield rest[:end]


def test_every_command_line_is_accepted():
    root: Any = typer.main.get_command(app)
    lines = list(command_lines())
    assert len(lines) == 5
    for words in lines:
        assert words[:2] in (["regress", "run"], ["regress", "report"])
        group = root.commands["regress"]
        command = group.commands[words[1]]
        command.make_context(words[1], words[2:])  # raises what the command line would say


def test_the_service_sets_nothing_that_changes_timings():
    service = unit(SERVICE)["Service"]
    assert service["Type"] == "oneshot"
    assert not {"Nice", "IOSchedulingClass", "CPUSchedulingPolicy", "CPUQuota", "CPUWeight", "MemoryMax"} & set(service)


def test_the_timer():
    timer = unit(TIMER)["Timer"]
    assert timer["Persistent"] == "true"
    assert "RandomizedDelaySec" in timer
    assert unit(TIMER)["Install"]["WantedBy"] == "timers.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_accepts_the_units(tmp_path: Path):
    program = tmp_path / "archsearch" / ".venv" / "bin" / "archsearch"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copies = []
    for path in (SERVICE, TIMER):
        copy = tmp_path / path.name
        copy.write_text(path.read_text().replace("%h", str(tmp_path)))
        copies.append(str(copy))
    env = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning", "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *copies], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "archsearch-regress" in line]


def test_cron_fields():
    (line,) = cron_lines()
    *fields, command = line.split(maxsplit=5)
    for field, (low, high) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        assert field == "*" or low <= int(field) <= high
    assert "%" not in command  # cron ends the command there
    assert "nice" not in shlex.split(command)


def test_the_workflow():
    found = workflow()
    triggers = found[True] if True in found else found["on"]  # YAML 1.1 reads `on` as a truth value
    assert set(triggers) == {"schedule", "workflow_dispatch"}
    assert len(triggers["schedule"][0]["cron"].split()) == 5
    assert found["concurrency"] == {"group": "archsearch-regress", "cancel-in-progress": False}
    (job,) = found["jobs"].values()
    assert "self-hosted" in job["runs-on"]
    uploads = [step for step in job["steps"] if str(step.get("uses", "")).startswith("actions/upload-artifact@")]
    assert uploads[0]["if"] == "always()"
    assert "junit.xml" in uploads[0]["with"]["path"]
    assert "report.html" in uploads[0]["with"]["path"]


def test_secrets_are_in_the_environment_alone():
    (job,) = workflow()["jobs"].values()
    assert all("secrets." in value for value in job["env"].values())
    assert "secrets." not in json.dumps(job["steps"])


# The webhook


def webhook() -> Any:
    spec = importlib.util.spec_from_file_location("ops_webhook", WEBHOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summary(level: str = "FAIL") -> dict[str, Any]:
    row = {
        "level": "FAIL", "device": "board", "label": "x", "quantity": "decode_ms", "kind": "SLOWER", "change": 0.12,
        "since": "2026-03-01 02:30",
    }  # fmt: skip
    return {"night": "2026-03-02 02:30", "level": level, "text": "6 FAIL", "not_fine": [row] * 6}


@pytest.fixture
def posted() -> Iterator[tuple[str, list[Any]]]:
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hush", got
        server.shutdown()
        thread.join()


def post(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], address: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
    monkeypatch.setenv("WEBHOOK_URL", address)
    code: int = webhook().main()
    return code


def test_the_webhook_posts_a_few_lines(posted: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch):
    assert post(monkeypatch, summary(), posted[0]) == 0
    ((found,),) = ([one["text"].split("\n") for one in posted[1]],)
    assert found[0] == "archsearch, the night of 2026-03-02 02:30: 6 FAIL"
    assert found[1] == "FAIL board: x decode_ms SLOWER +12.0% since 2026-03-01 02:30"
    assert found[-1] == "and 1 more"


def test_the_webhook_posts_of_a_fine_night_only_that_a_front_moved(
    posted: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
):
    kinds = ("AMBIGUOUS", "DIFFERS", "MOVED")
    rows = [{"study": "search", "device": "board", "kind": kind, "why": "x left"} for kind in kinds]
    fine = {**summary("fine"), "not_fine": [], "fronts": rows}
    assert post(monkeypatch, fine, posted[0]) == 0
    assert [one["text"].split("\n")[1:] for one in posted[1]] == [
        ["front of search on board MOVED: x left", "front of search on board DIFFERS: x left"]
    ]
    assert post(monkeypatch, {**fine, "fronts": rows[:2]}, "") == 0, "what differs does so every night"


def test_the_webhook_calls_nobody_and_links_nowhere(posted: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch):
    row = {**summary()["not_fine"][0], "device": "<!channel>", "label": "<https://evil|ok> & co"}
    assert post(monkeypatch, {**summary(), "not_fine": [row]}, posted[0]) == 0
    assert "&lt;!channel&gt;: &lt;https://evil|ok&gt; &amp; co" in posted[1][0]["text"]


def test_the_webhook_posts_that_a_device_has_no_verdict(posted: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch):
    lost = {**summary("WARN"), "not_fine": [], "lost": [{"device": "board", "reason": "no answer"}]}
    assert post(monkeypatch, lost, posted[0]) == 0
    assert posted[1][0]["text"].split("\n")[1:] == ["WARN board: no verdict: no answer"]


def test_the_webhook_is_silent_of_fine_nights_and_of_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert post(monkeypatch, summary("fine"), "") == 0
    assert post(monkeypatch, summary(), "http://127.0.0.1:9/hush") == 1
    assert post(monkeypatch, summary(), "file:///hush") == 2
    assert "hush" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("https://chat.example:hush/T0", 1),
        ("https://chat.example/hush T0", 1),
        ("https://[hush/T0", 1),
        ("http://127.0.0.1.evil.example/hush", 2),
        ("http://localhost@evil.example/hush", 2),
        ("https:///hush", 2),
        ("http://[::1]:9/hush", 1),
        ("http://localhost:9/hush", 1),
    ],
)
def test_the_webhook_never_says_a_wrong_address(
    address: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert post(monkeypatch, summary(), address) == code
    told = capsys.readouterr()
    assert told.err.startswith("webhook.py: ")
    assert "hush" not in told.err + told.out

"""A night that is told to others, and looked back on: a tiny model on this machine."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree as ET

from tests.e2e.conftest import Cli
from tests.e2e.regress_nights import first_night

SUITE = """\
anchors: ["CC:width=64,vocab=512,ffn=128"]
workloads: ["64/4"]
minimum_effect: 1.0
pause_s: 0
measure:
  - layout: "GG:width=64,vocab=512,ffn=64,head_dim=16"
    name: attention
"""


def test_a_night_is_told_and_looked_back_on(cli: Cli):
    cli.devices("")
    (cli.folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    (cli.folder / "tell.py").write_text("import sys; open('told.json', 'w').write(sys.stdin.read())", encoding="utf-8")
    outlets = (
        "--junit",
        "new/junit.xml",
        "--report",
        "night.html",
        "--github",
        "--notify",
        f"{sys.executable} tell.py",
    )
    done = first_night(cli, "regress", "run", "--suite", "suite.yaml", "--no-tune", "--format", "json", *outlets)
    series = {row["series"] for row in done.json()}
    assert "::error" not in done.err
    root = ET.parse(cli.folder / "new" / "junit.xml").getroot()
    assert root.attrib["tests"] == str(len(series)) == root.attrib["skipped"], "a series of one night is ambiguous"
    assert "Plotly" in (cli.folder / "night.html").read_text(encoding="utf-8")
    assert json.loads((cli.folder / "told.json").read_text())["text"] == f"{len(series)} fine"
    listed = cli("regress", "history", "--format", "json").json()
    assert {row["series"] for row in listed} == series
    (night,) = cli("regress", "history", listed[0]["series"], "--figure", "a.html", "--format", "json").json()
    assert night["kind"] == "AMBIGUOUS"
    cli("regress", "report", "-o", "night.md")
    assert "attention" in (cli.folder / "night.md").read_text(encoding="utf-8")
    assert "--notify is empty" in cli.refused("regress", "run", "--suite", "suite.yaml", "--notify", "")


def test_a_night_without_a_device_is_told_too(cli: Cli):
    cli.devices("python: /nowhere/python3")
    (cli.folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    (cli.folder / "tell.py").write_text("import sys; open('told.json', 'w').write(sys.stdin.read())", encoding="utf-8")
    (cli.folder / "junit.xml").write_text("<testsuites/>", encoding="utf-8")
    told = ("--junit", "junit.xml", "--report", "night.md", "--github", "--notify", f"{sys.executable} tell.py")
    done = cli("regress", "run", "--suite", "suite.yaml", "--no-tune", "--format", "json", *told, code=3)
    assert done.json() == []
    assert "no device can be used" in done.err
    assert "WARN: 0 series: nothing to judge" in done.err
    assert "::warning title=archsearch%3A local%3A no verdict::" in done.err
    assert ET.parse(cli.folder / "junit.xml").getroot().attrib["errors"] == "1"
    assert "local" in (cli.folder / "night.md").read_text(encoding="utf-8")
    summary = json.loads((cli.folder / "told.json").read_text())
    assert (summary["level"], [one["device"] for one in summary["lost"]]) == ("WARN", ["local"])
    assert summary["night_unix"] > 0

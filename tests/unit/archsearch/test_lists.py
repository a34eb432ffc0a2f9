"""List commands: tables and Markdown for people, JSON and CSV with stable keys and raw numbers for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli import devices, layouts, spaces
from archsearch.cli.exits import CommandError
from archsearch.cli.output import print_list

SHIPPED = Path(__file__).parents[3] / "devices.yaml"
LISTS: dict[str, Callable[..., None]] = {
    "anchors": layouts.anchors_command,
    "workloads": layouts.workloads_command,
    "objectives": layouts.objectives_command,
    "spaces": spaces.list_command,
    "devices": lambda **how: devices.list_command(SHIPPED, **how),
}
KEYS = {
    "anchors": [
        "name", "layout_id", "code", "width", "depth", "vocab_size", "total_params", "embedding_params",
        "effective_params", "embedding_share",
    ],
    "workloads": ["name", "points", "max_context", "description"],
    "objectives": ["name", "unit", "direction", "measured", "description"],
    "spaces": ["name", "mixers", "total_params", "description"],
}  # fmt: skip


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], str]:
    def run(name: str, output_format: str) -> str:
        LISTS[name](output_format=output_format)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", KEYS)
def test_the_keys_are_stable(printed, name: str):
    rows = json.loads(printed(name, "json"))
    assert rows
    assert all(list(row) == KEYS[name] for row in rows)


def test_numbers_are_raw(printed):
    rows = {row["name"]: row for row in json.loads(printed("anchors", "json"))}
    assert rows["lfm2.5-350m"]["total_params"] == 354_483_968
    assert rows["lfm2.5-350m"]["embedding_share"] == pytest.approx(67_108_864 / 354_483_968, rel=1e-15)
    points = {row["name"]: row["points"] for row in json.loads(printed("workloads", "json"))}
    assert points["edge"] == [{"batch": 1, "prompt": size, "decode": 32, "chunk": 512} for size in (1024, 4096)]


@pytest.mark.parametrize("name", ["anchors", "objectives"])
def test_an_anchor_and_an_objective_are_called_as_elsewhere(printed, name: str):
    from archsearch.describe import describe
    from archsearch.objectives import objectives
    from search_space.notation import resolve

    for row in json.loads(printed(name, "json")):
        if name == "anchors":
            facts = describe(resolve(row["name"]))
            assert row == {key: facts[key] for key in row}
        else:
            assert row["direction"] == objectives()[row["name"]].direction


@pytest.mark.parametrize("name", LISTS)
def test_csv_says_what_json_says(printed, name: str):
    rows = json.loads(printed(name, "json"))
    table = list(csv.DictReader(io.StringIO(printed(name, "csv"))))
    assert list(table[0]) == list(dict.fromkeys(key for row in rows for key in row))

    def read(text: str, value: Any) -> Any:
        return None if text == "" and value is None else text if isinstance(value, str) else json.loads(text)

    for line, row in zip(table, rows, strict=True):
        assert {key: read(line[key], value) for key, value in row.items()} == row


@pytest.mark.parametrize("name", LISTS)
def test_markdown_shows_what_the_table_shows(printed, name: str):
    head, rule, *lines = printed(name, "md").splitlines()
    headings = head.strip("| ").split(" | ")
    assert set(rule) <= set("|-: ")
    assert len(lines) == len(json.loads(printed(name, "json")))
    assert all(line.count(" | ") == len(headings) - 1 for line in lines)
    assert all(heading in printed(name, "table") for heading in headings)


def test_text_is_data_in_every_format(capsys: pytest.CaptureFixture[str]):
    rows = [{"name": "=1+1|[red]", "count": -3, "nothing": None, "on": True}]
    columns = {"name": lambda row: row["name"], "count": lambda row: row["count"]}
    shown = {}
    for output_format in ("json", "csv", "md", "table"):
        print_list(rows, columns, output_format, right=(1,))
        shown[output_format] = capsys.readouterr().out
    assert json.loads(shown["json"]) == rows
    assert shown["csv"] == "name,count,nothing,on\n'=1+1|[red],-3,,true\n"
    assert shown["md"] == "| name | count |\n| --- | ---: |\n| =1+1\\|\\[red\\] | -3 |\n"
    assert "=1+1|[red]" in shown["table"]


@pytest.mark.parametrize("name", LISTS)
def test_an_unknown_format_is_refused(printed, name: str):
    with pytest.raises(CommandError, match="--format is 'xml'; it must be one of table, json, csv, md"):
        printed(name, "xml")

"""Commands about the device file."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from archsearch.cli.output import Row, print_json, print_list


def list_command(devices: Path, *, output_format: str) -> None:
    """`archsearch devices list`; the keys are those of the device file."""
    from profiler.devices import load_devices

    rows = [device.model_dump(mode="json") for device in load_devices(devices).devices]
    columns: dict[str, Callable[[Row], Any]] = {
        "device": itemgetter("name"),
        "enabled": lambda row: "yes" if row["enabled"] else "no",
        "transport": itemgetter("transport"),
        "where": _where,
        "threads": lambda row: row["threads"] or "its physical cores",
        "clocks": itemgetter("clock_policy"),
    }
    print_list(rows, columns, output_format)


def _where(row: Row) -> Any:
    attached = "this machine" if row["transport"] == "local" else "the one attached"
    return row.get("host") or row.get("serial") or attached


def schema_command() -> None:
    """`archsearch devices schema`."""
    from profiler.devices import devices_schema

    print_json(devices_schema())

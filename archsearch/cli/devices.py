"""Commands about the device file."""

from __future__ import annotations

from pathlib import Path

from archsearch.cli.output import one_of, print_json, print_table


def list_command(devices: Path, *, output_format: str) -> None:
    """`archsearch devices list`."""
    from profiler.devices import load_devices

    one_of(output_format, ("table", "json"), "--format")
    file = load_devices(devices)
    if output_format == "json":
        print_json([device.model_dump(mode="json") for device in file.devices])
        return
    rows = []
    for device in file.devices:
        fields = device.model_dump(mode="json")
        attached = "this machine" if device.transport == "local" else "the one attached"
        where = fields.get("host") or fields.get("serial") or attached
        threads = fields.get("threads") or "its physical cores"
        enabled = "yes" if device.enabled else "no"
        rows.append((device.name, enabled, device.transport, where, threads, device.clock_policy))
    print_table(("device", "enabled", "transport", "where", "threads", "clocks"), rows)


def schema_command() -> None:
    """`archsearch devices schema`."""
    from profiler.devices import devices_schema

    print_json(devices_schema())

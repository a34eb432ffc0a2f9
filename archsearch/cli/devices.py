"""Commands about the device file."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from archsearch.cli.exits import CommandError
from archsearch.cli.output import Row, console, mib, print_json, print_list

MOST_NAMED = 20


def list_command(devices: Path, *, output_format: str) -> None:
    """`archsearch devices list`; the keys are those of the device file."""
    from profiler.device_files import load_devices

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
    from profiler.device_files import devices_schema

    print_json(devices_schema())


def trust_command(name: str, *, devices: Path, fingerprint: str | None, yes: bool) -> None:
    """`archsearch devices trust`."""
    import sys

    import typer

    from profiler.device_files import load_devices
    from profiler.devices import SshDevice
    from profiler.transports.ssh import SshTransport

    device = load_devices(devices).named(name)
    if not isinstance(device, SshDevice):
        raise CommandError(f"{name} has `transport: {device.transport}`; only ssh devices have host keys")
    transport = SshTransport.from_device(device)
    out = console(stderr=True)
    kept: set[tuple[str, str]] = set()
    while (unknown := transport.first_unknown()) is not None:
        shown = unknown.shown
        if (unknown.place.key_name, shown) in kept:
            raise CommandError(
                f"{unknown.place.title}: its key was kept, and is not known again: two hosts on the way go by the "
                f"name {unknown.place.key_name}",
                hint="Give one of them a HostKeyAlias in ~/.ssh/config.",
            )
        what = f"{unknown.place.title} shows {unknown.key.get_name()} {shown}"
        if unknown.known is not None:
            what += f"; known until now is {unknown.known}"
        out.print(what)
        if fingerprint is not None and fingerprint != shown:
            raise CommandError(f"that is not {fingerprint}; nothing was kept")
        if fingerprint is None and not yes:
            kind = unknown.key.get_name().removeprefix("ssh-").partition("-")[0]
            there = f"on the device: ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"
            if not sys.stdin.isatty():
                raise CommandError(
                    "nothing was kept: nobody compared it", hint=f"{there}; then --fingerprint SHA256:... or --yes"
                )
            out.print(f"Compare it {there}")
            if not typer.confirm("Is it the same?", default=False, err=True):
                raise CommandError("nothing was kept")
        out.print(f"kept in {unknown.trust()}")
        kept.add((unknown.place.key_name, shown))
    out.print(f"{name}: every host key on the way is known")


def clean_command(name: str, *, devices: Path, weights: bool, yes: bool, force: bool) -> None:
    """`archsearch devices clean`."""
    import sys

    import typer

    from profiler.cleaning import clean, survey
    from profiler.device_files import load_devices
    from profiler.transports import make_transport
    from profiler.untrusted import printable

    device = load_devices(devices).named(name)
    out = console(stderr=True)
    with make_transport(device) as transport:
        where = f"{name}: {printable(transport.work_dir)}"
        found = survey(transport, weights_only=weights)
        if found.signs and not force:
            clean(transport, found)  # says why not
        if found.ours and not yes:
            what = f"{len(found.ours)} cached weights" if weights else found.text
            out.print(f"{where} holds {what}: {mib(found.disk_bytes)}")
            if found.finished and not weights:
                out.print(f"{found.finished} jobs have ended, and nobody has fetched what they measured")
            if not sys.stdin.isatty():
                raise CommandError("nothing was removed: nobody was asked", hint="--yes removes it without asking")
            if not typer.confirm("Remove it?", default=False, err=True):
                raise CommandError("nothing was removed")
        gone = clean(transport, found, force=force)
    freed = f"{found.disk_bytes:,} bytes ({mib(found.disk_bytes)})"
    left = ", ".join(printable(other) for other in found.others[:MOST_NAMED])
    left += f" and {more} more" if (more := len(found.others) - MOST_NAMED) > 0 else ""
    kept = "is gone too" if gone else f"stays, with what is not of a device: {left}" if left else "stays"
    print(f"{where}: {freed} freed" + ("" if weights else f"; the folder {kept}"))

"""`archsearch devices setup`: what a device needs is put there, and proved by measuring a tiny model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.cli.exits import INTERRUPTED, NOTHING_MEASURED, OK, CommandError
from archsearch.cli.opening import stop_on_signals
from archsearch.cli.output import console

if TYPE_CHECKING:
    from threading import Event

    from archsearch.measurement import Measurement
    from profiler.devices import Device

PROOF = "CWGLD:width=128,vocab=1024,params=1.5M,multiple=16,head_dim=32"
"""One block of every kind that ships: each is compared with its reference on the device."""
PROOF_WORKLOAD = "16/4"
PROOF_S = 20.0


def setup_command(name: str, *, devices: Path, again: bool, python: str | None, bundle: Path | None) -> int:
    """Set up and prove it; exit code 5 when it is set up, but gave no numbers."""
    from profiler.device_files import load_devices
    from profiler.setup import set_up

    device = load_devices(devices).named(name)
    if python is not None and (device.transport != "ssh" or getattr(device, "python", None)):
        raise CommandError(
            "--python goes with ssh devices for which the device file names no `python`: it is what set-up begins with"
        )
    if bundle is not None and device.transport != "adb":
        raise CommandError("--bundle goes with adb devices: it is the Python that is sent to phones")
    log = console(stderr=True)

    def say(line: str) -> None:
        log.print(f"{name}: {line}")

    done = set_up(
        device, say=say, again=again or python is not None or bundle is not None, python=python, bundle=bundle
    )
    has = f"Python {done.told.python}, numpy {done.told.numpy}, onnxruntime {done.told.onnxruntime}"
    as_it_is = device.transport == "local" or getattr(device, "python", None)  # ours to look at, and not to make
    if not done.changed and not as_it_is and not again:
        print(f"{name}: set up already, nothing to do ({has}); --again makes it anew")
        return OK
    say(f"it has {has}; measuring a tiny model there")
    with stop_on_signals() as cancel:
        measurement = _prove(device, cancel)
    if measurement is None:
        return INTERRUPTED
    print(f"{name}: {_outcome(measurement)}")
    if not device.enabled:
        say(f"runs use it once `enabled: true` stands in {devices}")
    return OK if measurement.status == "ok" else NOTHING_MEASURED


def _prove(device: Device, cancel: Event) -> Measurement | None:
    """Measure the tiny model; None when it was interrupted. Nothing of it is kept."""
    from archsearch.candidates import prepare
    from archsearch.measuring import Interrupted, Measurer
    from archsearch.store import Store
    from archsearch.subjects import Subject
    from profiler.jobs import Protocol
    from profiler.runner import DeviceSession
    from profiler.workloads import parse_workload
    from search_space.notation import resolve

    workload = parse_workload(PROOF_WORKLOAD, None)
    layout = resolve(PROOF).layout
    subject = Subject(
        label="setup",
        workload=workload,
        precision="int4",
        layout=layout,
        prepared=prepare(layout, workload=workload, precision="int4", lowerings={}, seed=0),
    )
    with (
        tempfile.TemporaryDirectory(prefix="archsearch-setup-") as folder,
        Store.open(Path(folder) / "study.db", create=True) as store,
        DeviceSession(device) as session,
    ):
        store.create_study("setup", {"format": 1, "adhoc": True})
        measurer = Measurer(
            session, store, study="setup", protocol=Protocol(time_budget_s=PROOF_S, max_processes=3), cancel=cancel
        )
        try:
            return measurer.measure(subject, fresh=True).measurement
        except Interrupted:
            return None


def _outcome(measurement: Measurement) -> str:
    from profiler.untrusted import printable

    if measurement.status != "ok" or measurement.result is None:
        return f"set up, but the tiny model was {measurement.status}: {printable(measurement.reason)}"
    [view] = measurement.measured_points
    assert view.summary is not None
    checked = sum(check.ok for check in measurement.result.checks)
    return (
        f"ready. A tiny model, int4: {view.summary.ttft_ms.value:.3g} ms to the first token of 16, "
        f"{view.summary.decode_ms.value:.3g} ms for each one behind it, peak memory {view.peak_rss_mib:.0f} MiB; "
        f"{checked} of {len(measurement.result.checks)} blocks compute what they should. Nothing of this is stored."
    )

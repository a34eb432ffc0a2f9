"""`archsearch regress run --compare-runtimes A B`: two versions of onnxruntime on the same devices, in turns."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import INTERRUPTED, NO_DEVICE, NOTHING_MEASURED, OK, REGRESSION, CommandError
from archsearch.cli.layouts import lowering_options
from archsearch.cli.opening import chosen_devices, stop_on_signals
from archsearch.cli.output import Row, console, one_of, print_list
from archsearch.cli.run import place_options, seconds
from archsearch.cli.studies import REGRESS_STUDY, open_store

if TYPE_CHECKING:
    from archsearch.regress.device_runtimes import CompareSettings
    from archsearch.regress.items import Item
    from archsearch.regress.suite import Suite
    from reports.runtime_verdicts import RuntimeVerdict

OF_NIGHTS = ("junit", "github", "report", "notify")
"""Options that tell the verdicts of a night, and say nothing of two runtimes."""


def compare_command(
    versions: tuple[str, str],
    *,
    devices: Path,
    device: Sequence[str] | None,
    suite: str,
    lowering: Sequence[str] | None,
    wait: str,
    seed: int,
    typed: Sequence[str],
    output_format: str,
    store: str | None,
    runs: Path,
) -> int:
    """Compare and print the verdicts; exit code 1 when anything is SLOWER or INVALID.

    Args:
        versions: A and B, as typed.
        devices: The device file.
        device: Names of some devices, or None for all that are enabled.
        suite: What is measured.
        lowering: Pinned lowerings.
        wait: How long to wait for a night that is being measured.
        seed: Of the order and of the prompts.
        typed: Names of all options that were typed, but for those that say no.
        output_format: Of the table.
        store: Where measurements go, in place of `runs`.
        runs: Where studies live.
    """
    from archsearch.regress.items import Places, resolve_suite
    from archsearch.regress.lock import NightAtWork, Stopped, only_night
    from archsearch.regress.runtimes import compare_runtimes
    from archsearch.regress.suite import load_suite
    from archsearch.regress.telling import NightPanel
    from reports.tables import FORMATS

    runtimes = _checked(versions, typed)
    one_of(output_format, FORMATS, "--format")
    wait_s = 0.0 if wait.strip() in ("0", "0s") else seconds(wait, option="--wait")
    pins = lowering_options(lowering)
    chosen = chosen_devices(devices, device)
    read = load_suite(suite)
    items = resolve_suite(read, places=Places(store=store, runs=runs), lowerings=pins, seed=seed)
    log = console(stderr=True)
    with open_store(REGRESS_STUDY, store=store, runs=runs, create=True) as database, stop_on_signals() as cancel:
        try:
            with only_night(database, wait_s=wait_s, cancel=cancel, say=log.print), NightPanel() as panel:
                settings = _settings(read, items, runtimes, seed)
                ended = compare_runtimes(settings, chosen, store=database, telling=panel, cancel=cancel)
        except NightAtWork as error:
            raise CommandError(str(error), code=NO_DEVICE, hint=error.hint) from error
        except Stopped:
            log.print("stopped by you; nothing was measured")
            return INTERRUPTED
    if ended.interrupted:
        said = f"archsearch regress runtimes{place_options(store, runs)}"
        shown = f"; what is known so far: {said}" if ended.measured else ""
        log.print(f"stopped by you; measurements of this comparison that are kept: {ended.measured}{shown}")
        return INTERRUPTED
    if not ended.verdicts and ended.lost:
        lines = [f"{name}: {why}" for name, why in ended.lost.items()]
        raise CommandError("\n".join(["no device can be used", *lines]), code=NO_DEVICE)
    print_verdicts(ended.verdicts, runtimes, output_format)
    for line in summary(ended.verdicts, ended.lost, runtimes):
        log.print(line)
    return exit_code(ended.verdicts, ended.lost)


def _checked(versions: tuple[str, str], typed: Sequence[str]) -> tuple[str, str]:
    """The two versions; before anything is looked at.

    Raises:
        ConfigError: One is none.
        CommandError: They are the same, or an option goes with nights alone.
    """
    from profiler.setup.runtimes import runtime_version, same_version

    a, b = (runtime_version(version) for version in versions)
    if same_version(a, b):
        raise CommandError(f"--compare-runtimes: {a} and {b} are the same version")
    if "tune" in typed:
        raise CommandError(
            "--compare-runtimes tunes nothing: both runtimes run the same graph",
            hint="leave --tune out; --lowering BLOCK=NAME pins a lowering",
        )
    if of_nights := [name for name in OF_NIGHTS if name in typed]:
        raise CommandError(
            f"--{of_nights[0]} tells the verdicts of a night, and goes with no --compare-runtimes",
            hint="--format json, csv or md",
        )
    return a, b


def _settings(suite: Suite, items: Sequence[Item], runtimes: tuple[str, str], seed: int) -> CompareSettings:
    """Of a comparison that begins now. Anchors tell a device that moved, which moves both runtimes alike."""
    from importlib.metadata import version

    from archsearch.regress.device_runtimes import CompareSettings

    return CompareSettings(
        compared=time.time(), suite=suite.name, runtimes=runtimes,
        items=tuple(item for item in items if not item.anchor),
        quantities=tuple(dict.fromkeys(suite.file.quantities)), seed=seed, archsearch=version("archsearch"),
    )  # fmt: skip


def verdict_row(verdict: RuntimeVerdict) -> dict[str, Any]:
    """A verdict as plain values: changes are relative, values in the quantity's unit."""
    from reports.formatting import clean

    change = verdict.change
    ends = (None, None, None) if change is None else (change.value, change.low, change.high)
    return {
        "device": verdict.device,
        "what": verdict.what,
        "workload": verdict.workload,
        "precision": verdict.precision,
        "quantity": verdict.quantity,
        "runtime_a": verdict.runtimes[0],
        "runtime_b": verdict.runtimes[1],
        "kind": str(verdict.kind),
        "value_a": verdict.values[0],
        "value_b": verdict.values[1],
        **{
            name: end if end is not None and math.isfinite(end) else None
            for name, end in zip(("change", "change_low", "change_high"), ends, strict=True)
        },
        "detectable": verdict.detectable,
        "minimum_effect": verdict.minimum_effect,
        "pairs": verdict.pairs,
        "pairs_left_out": verdict.left_out,
        "confirmed": verdict.confirmed,
        "why": clean(verdict.why),
    }


def print_verdicts(verdicts: Sequence[RuntimeVerdict], runtimes: tuple[str, str], output_format: str) -> None:
    """Print verdicts, in their order."""
    from reports.formatting import clean

    columns: dict[str, Callable[[Row], Any]] = {
        "device": lambda row: row["device"],
        "what": lambda row: row["what"],
        "workload": lambda row: row["workload"],
        "precision": lambda row: row["precision"],
        "quantity": lambda row: row["quantity"],
        f"A {clean(runtimes[0])}": lambda row: _number(row, "value_a"),
        f"B {clean(runtimes[1])}": lambda row: _number(row, "value_b"),
        "change": _change,
        "would see": lambda row: "" if row["detectable"] is None else f"{row['detectable']:.1%}",
        "verdict": lambda row: row["kind"],
        "why": lambda row: row["why"],
    }
    print_list([verdict_row(one) for one in verdicts], columns, output_format, right=(5, 6, 7, 8))


def _number(row: Row, name: str) -> str:
    from reports.formatting import plain_number

    return "" if row[name] is None else plain_number(row[name])


def _change(row: Row) -> str:
    from reports.formatting import change_text

    return "" if row["change"] is None else change_text(row["change"], row["change_low"], row["change_high"])


def summary(verdicts: Sequence[RuntimeVerdict], lost: Mapping[str, str], runtimes: tuple[str, str]) -> list[str]:
    """What a comparison comes to: a line for each lost device, then one for all."""
    from reports.formatting import clean

    kinds = Counter(str(verdict.kind) for verdict in verdicts)
    lines = [f"archsearch: {device} was lost: {why}" for device, why in lost.items()]
    counted = "1 quantity" if len(verdicts) == 1 else f"{len(verdicts)} quantities"
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing to judge"
    lines.append(clean(f"onnxruntime B = {runtimes[1]} against A = {runtimes[0]}: {counted}: {told}"))
    return lines


def exit_code(verdicts: Sequence[RuntimeVerdict], lost: Mapping[str, str]) -> int:
    """1 for anything SLOWER or INVALID; else 3 or 5 when nothing has a number, for lack of devices or otherwise."""
    if any(verdict.kind in ("SLOWER", "INVALID") for verdict in verdicts):
        return REGRESSION
    if all(verdict.kind == "NO-DATA" for verdict in verdicts):
        return NO_DEVICE if lost else NOTHING_MEASURED
    return OK

"""`archsearch run`."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cli.exits import INTERRUPTED, NO_DEVICE, NOTHING_MEASURED, CommandError
from archsearch.cli.layouts import lowering_options
from archsearch.cli.opening import chosen_devices, open_devices, stop_on_signals
from archsearch.cli.output import console, one_of
from archsearch.cli.studies import RESERVED, checked_name, known_blocks, new_name, open_store
from archsearch.cli.tuners import open_tuners
from archsearch.progress import duration
from search_space.errors import SearchSpaceError

if TYPE_CHECKING:
    from archsearch.store import Store
    from archsearch.study_settings import Settings

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
DEFAULT_TIME_BUDGET = "5m"
MAX_TIME_BUDGET_S = 30 * 86_400.0


def seconds(text: str, *, option: str = "--time-budget") -> float:
    """``90s``, ``5m``, ``2h`` or plain seconds.

    Raises:
        CommandError: Not of that form, or zero.
    """
    match = _DURATION.fullmatch(text.strip())
    value = float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]] if match else 0.0
    if not 0 < value <= MAX_TIME_BUDGET_S:
        raise CommandError(f"{option} {text!r} is no length of time up to 30 days; write 90s, 5m or 2h")
    return value


def _report(database: Store, name: str, folder: Path) -> Path | None:
    """Write the study's page; None where nothing was measured, or it cannot be written, which is said."""
    from archsearch.cli.report import write_study

    if not database.job_ids(name):
        return None
    try:
        return write_study(database, name, folder / "report.html")[0]
    except CommandError as error:
        console(stderr=True).print(f"archsearch: no page was written: {error}")
        return None


def place_options(store: str | None, runs: Path) -> str:
    """Options that lead another command to the same study."""
    if store is not None:
        return " --store ..."  # an address may hold a password
    return "" if runs == Path("runs") else f" --runs {shlex.quote(str(runs))}"


def _require_pins(chosen: Settings) -> None:
    """Export every anchor with the pinned lowerings: one that cannot have them would end the study at its start."""
    from archsearch.candidates import prepare

    for anchor in chosen.anchors if chosen.pins else ():
        try:
            prepare(anchor.layout, workload=chosen.workload, precision=chosen.precision, lowerings=chosen.pins)
        except SearchSpaceError as error:
            raise CommandError(f"anchor {anchor.name or anchor.layout.code}: {error}", hint=error.hint) from error


def run_command(
    *,
    devices: Path,
    device: Sequence[str] | None,
    study: str | None,
    trials: int | None,
    time_budget: str | None,
    output_format: str,
    store: str | None,
    runs: Path,
    explicit: Sequence[str],
    options: Mapping[str, Any],
) -> int:
    """Run or continue a study and print its ranking."""
    from reports.tables import FORMATS
    from reports.values import ACROSS

    started = time.monotonic()
    one_of(output_format, FORMATS, "--format")
    if time_budget is None and trials is None:
        time_budget = DEFAULT_TIME_BUDGET
    limit_s = None if time_budget is None else seconds(time_budget)

    from archsearch.configuration import config_path, differences, new_config, settings
    from search_space.check import require_layouts

    name = checked_name(study or new_name())
    if name in RESERVED:
        raise CommandError(f"the study name {name!r} is kept for {RESERVED[name]}; take another")
    asked = new_config({**options, "lowering": lowering_options(options["lowering"])})
    # All that can be wrong is found before a study is made.
    require_layouts(settings(asked).space)
    _require_pins(settings(asked))
    names = list(dict.fromkeys(device.pool for device in chosen_devices(devices, device)))
    if options["across"] not in names:
        one_of(options["across"], (*ACROSS, *names), "--across")
    folder = runs / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}") from error
    database = open_store(name, store=store, runs=runs, create=True)
    known = database.study(name)
    record = known or database.create_study(name, asked)
    if known is not None:
        different = differences(known.config, asked, explicit)
        if different:
            raise CommandError(
                f"study {name!r} was begun with other settings: {'; '.join(different)}",
                hint="another --study, or leave these options out to continue it",
            )
    config_path(folder).write_text(json.dumps(record.config, indent=1), encoding="utf-8")

    from archsearch.measuring import Measurer
    from archsearch.progress import Progress
    from archsearch.study import CANDIDATE_PROTOCOL, Limits, run_study

    deadline = None if limit_s is None else started + limit_s
    log = console(stderr=True)
    across = record.config["across"]
    needed = None if across in ACROSS else across
    # A study keeps its settings, even one that holds no measurement yet.
    otherwise = "--across worst" if study is None else "--across worst in another --study"
    with (
        stop_on_signals() as cancel,
        open_devices(devices, device, needed=needed, otherwise=otherwise) as sessions,
    ):
        if known is not None:
            log.print(f"continuing study {name}")
        chosen = settings(record.config)
        with (
            Progress(name, trials=trials, deadline=deadline) as progress,
            open_tuners(sessions, store=store, runs=runs, cancel=cancel, say=progress.say, exact=False) as tuners,
        ):
            measurers = [
                Measurer(
                    session,
                    database,
                    study=name,
                    protocol=CANDIDATE_PROTOCOL,
                    cancel=cancel,
                    say=progress.say,
                    tuner=tuners[session.device.name] if chosen.tune else None,
                )
                for session in sessions
            ]
            ended = run_study(
                name,
                chosen,
                Limits(trials=trials, deadline=deadline),
                measurers=measurers,
                store=database,
                observer=progress,
                cancel=cancel,
            )

    from archsearch.cli.show import print_study

    log.print(f"{ended.why}; {duration(time.monotonic() - started)} in all, {len(ended.measured)} measurements")
    for lost, why in ended.devices_lost.items():
        log.print(f"archsearch: device {lost} was left out on the way: {why}")
    for pool, count in ended.missing.items():
        if count and (ended.devices_lost or ended.interrupted or len(ended.missing) > 1):
            log.print(f"archsearch: {pool} lacks {count} candidates; the next run of this study measures them")
    blocks = known_blocks(store=store, runs=runs)
    print_study(database, name, output_format=output_format, blocks=blocks)
    if blocks is not None:
        blocks.close()
    page = None if ended.interrupted else _report(database, name, folder)
    log.print(f"written to {folder if store is None else database.where}" + (f"; to look at: {page}" if page else ""))
    where = place_options(store, runs)
    log.print(f"again: archsearch show {name}{where}    more of it: archsearch run --study {name}{where}")
    database.close()
    if ended.interrupted:
        log.print("stopped by you; everything measured so far is saved")
        return INTERRUPTED
    if not any(m.status == "ok" for m in ended.measured):
        return NO_DEVICE if ended.devices_lost else NOTHING_MEASURED
    return 0

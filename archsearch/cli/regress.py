"""`archsearch regress run`: measure a night, judge it, say it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

from archsearch.cli.exits import INTERRUPTED, NO_DEVICE, NOTHING_MEASURED, OK, REGRESSION, USAGE, CommandError
from archsearch.cli.layouts import lowering_options
from archsearch.cli.opening import chosen_devices, open_devices, stop_on_signals
from archsearch.cli.output import console, one_of
from archsearch.cli.regress_fronts import told_fronts
from archsearch.cli.regress_series import say_damaged
from archsearch.cli.regress_tables import print_verdicts, summary
from archsearch.cli.run import place_options, seconds
from archsearch.cli.studies import REGRESS_STUDY, open_store
from archsearch.cli.tuners import open_tuners

if TYPE_CHECKING:
    from archsearch.cli.regress_telling import Outlets
    from archsearch.regress.device_night import NightSettings
    from archsearch.regress.items import Item
    from archsearch.regress.night import Ended
    from archsearch.regress.suite import Suite
    from archsearch.store import Store
    from reports.verdict import Verdict

_STOPPED: Final = "the run was stopped before anything of it was measured"


def run_command(
    *,
    devices: Path,
    device: Sequence[str] | None,
    suite: str,
    lowering: Sequence[str] | None,
    tune: bool,
    wait: str,
    seed: int,
    outlets: Outlets,
    output_format: str,
    store: str | None,
    runs: Path,
) -> int:
    """Measure a night on all devices and print its verdicts; exit code 1 when any is a FAIL."""
    from archsearch.regress.items import Places, resolve_suite
    from archsearch.regress.lock import NightAtWork, Stopped, only_night
    from archsearch.regress.suite import load_suite
    from reports.tables import FORMATS

    one_of(output_format, FORMATS, "--format")
    outlets.check()
    wait_s = 0.0 if wait.strip() in ("0", "0s") else seconds(wait, option="--wait")
    pins = lowering_options(lowering)
    names = [one.name for one in chosen_devices(devices, device)]
    read = load_suite(suite)
    items = tuple(resolve_suite(read, places=Places(store=store, runs=runs), lowerings=pins, seed=seed))
    database = open_store(REGRESS_STUDY, store=store, runs=runs, create=True)
    log, where = console(stderr=True), place_options(store, runs)
    with database, stop_on_signals() as cancel:
        try:
            with only_night(database, wait_s=wait_s, cancel=cancel, say=log.print):
                settings = _settings(read, items, seed)
                ended = _measure(settings, names, database, devices, device, tune, cancel, store=store, runs=runs)
        except _UnusableError as error:
            _told(database, settings.night, error.ended, names, output_format, where, outlets)
            raise CommandError(str(error), code=error.code, hint=error.hint) from error
        except NightAtWork as error:
            raise CommandError(str(error), code=NO_DEVICE, hint=error.hint) from error
        except Stopped:
            log.print("stopped by you; nothing was measured")
            return INTERRUPTED
        return _told(database, settings.night, ended, names, output_format, where, outlets)


class _UnusableError(CommandError):
    """A night that began, and could not be measured."""

    def __init__(self, why: CommandError, ended: Ended) -> None:
        super().__init__(str(why), code=why.code, hint=why.hint)
        self.ended = ended


def _settings(suite: Suite, items: tuple[Item, ...], seed: int) -> NightSettings:
    """Of a night that begins now."""
    from importlib.metadata import version

    from archsearch.regress.device_night import NightSettings

    return NightSettings(
        night=time.time(), suite=suite.name, items=items, quantities=tuple(dict.fromkeys(suite.file.quantities)),
        seed=seed, archsearch=version("archsearch"), pause_s=suite.file.pause_s,
    )  # fmt: skip


def _measure(
    settings: NightSettings,
    names: Sequence[str],
    database: Store,
    devices: Path,
    device: Sequence[str] | None,
    tune: bool,
    cancel: Event,
    *,
    store: str | None,
    runs: Path,
) -> Ended:
    """Measure the night; a device that cannot be used is kept with the reason.

    Raises:
        _UnusableError: None can be used.
    """
    from archsearch.measuring import Measurer
    from archsearch.regress.device_night import NIGHT_PROTOCOL
    from archsearch.regress.night import Ended, begin_night, lose, run_night
    from archsearch.regress.notes import STUDY
    from archsearch.regress.telling import NightPanel

    begin_night(database, settings, names)
    unopened: dict[str, str] = {}
    try:
        with (
            open_devices(devices, device, lost=unopened) as sessions,
            NightPanel() as panel,
            open_tuners(sessions, store=store, runs=runs, cancel=cancel, say=panel.say) as tuners,
        ):
            for name, reason in unopened.items():
                lose(database, settings, name, reason)
            measurers = [
                Measurer(
                    session, database, study=STUDY, protocol=NIGHT_PROTOCOL, cancel=cancel, say=panel.say,
                    tuner=tuners[session.device.name] if tune else None,
                )
                for session in sessions
            ]  # fmt: skip
            ended = run_night(settings, measurers, store=database, telling=panel, cancel=cancel)
    except CommandError as error:
        for name, reason in unopened.items():  # none can be used: that is what the night has to say
            lose(database, settings, name, reason)
        raise _UnusableError(error, Ended(lost=unopened, interrupted=cancel.is_set(), measured=0)) from error
    return Ended(lost={**unopened, **ended.lost}, interrupted=ended.interrupted, measured=ended.measured)


def _told(
    database: Store,
    night: float,
    ended: Ended,
    names: Sequence[str],
    output_format: str,
    where: str,
    outlets: Outlets,
) -> int:
    """Print the verdicts and what they come to, and tell the outlets; the exit code."""
    from archsearch.regress.judged import judge_night
    from archsearch.regress.series import load_series
    from reports.lost_devices import LostDevices

    log = console(stderr=True)
    if ended.interrupted:
        log.print(
            f"stopped by you; {ended.measured} measurements of this night are kept. A block whose anchor was not "
            "measured again is not judged"
        )
    say_damaged(database)
    series = load_series(database)
    verdicts = judge_night(series, night)
    print_verdicts(verdicts, output_format)
    reasons = {**dict.fromkeys(names, _STOPPED), **ended.lost} if ended.interrupted else ended.lost
    lost = LostDevices(night=night, reasons=reasons)
    for line in summary(verdicts, {**lost.untold(verdicts), **ended.lost}):
        log.print(line)
    if any(verdict.level == "FAIL" for verdict in verdicts):
        log.print(f"to accept a level: archsearch regress accept SERIES --reason TEXT{where}")
    written = outlets.tell(verdicts, series, told_fronts(database, series, night), lost)
    if ended.interrupted:
        return INTERRUPTED
    return exit_code(verdicts, ended.lost) or (OK if written else USAGE)


def exit_code(verdicts: Sequence[Verdict], lost: Mapping[str, str]) -> int:
    """1 for a regression; else 3 or 5 when no series has a number, for lack of devices or otherwise."""
    if any(verdict.level == "FAIL" for verdict in verdicts):
        return REGRESSION
    if all(verdict.kind == "NO-DATA" for verdict in verdicts):
        return NO_DEVICE if lost else NOTHING_MEASURED
    return OK

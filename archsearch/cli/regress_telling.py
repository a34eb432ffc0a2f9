"""What a night tells others: JUnit XML, annotations of GitHub Actions, a report, a command run with a summary."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archsearch.cli.exits import CommandError
from archsearch.cli.output import console

if TYPE_CHECKING:
    from reports.front_verdicts import FrontVerdict
    from reports.lost_devices import LostDevices
    from reports.nights import Series
    from reports.verdict import Verdict

NOTIFY_TIMEOUT_S: Final = 60.0
REPORTS: Final = (".html", ".htm", ".md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlets:
    """Whom a night is told to, beside the terminal.

    Attributes:
        junit: A file for JUnit XML.
        github: Whether annotations of GitHub Actions are printed.
        report: A file for a page or Markdown.
        command: A command that gets the summary.
    """

    junit: Path | None = None
    github: bool = False
    report: Path | None = None
    command: str | None = None

    def check(self) -> None:
        """Whether it can be told; to be asked before a night is measured.

        Raises:
            CommandError: The report's name or the command is wrong.
        """
        if self.report is not None:
            checked_report(self.report)
        if self.command is not None:
            checked_command(self.command)

    def tell(
        self,
        verdicts: Sequence[Verdict],
        series: Sequence[Series],
        fronts: Sequence[FrontVerdict] = (),
        lost: LostDevices | None = None,
    ) -> bool:
        """Tell all of them, whatever becomes of one; whether all files were written.

        Args:
            verdicts: Of the night.
            series: All that are stored; those of the verdicts are shown.
            fronts: Verdicts on the fronts of studies.
            lost: Devices that could not be measured; of those without a verdict is told that.
        """
        junit, report, command = self.junit, self.report, self.command
        written = True
        if junit is not None:
            written &= _written(lambda: write_junit(junit, verdicts, lost))
        if report is not None:
            written &= _written(lambda: write_report(report, verdicts, series, fronts, lost))
        if self.github:
            print_annotations(verdicts, lost)
        if command is not None:
            notify(command, verdicts, fronts, lost)
        return written


def _written(write: Callable[[], None]) -> bool:
    try:
        write()
    except CommandError as error:
        console(stderr=True).print(f"archsearch: {error}")
        return False
    return True


def write_junit(path: Path, verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> None:
    """Write verdicts as JUnit XML, in one step.

    Raises:
        CommandError: It cannot be written.
    """
    from reports import junit

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        junit.write_junit(path, verdicts, lost)
    except OSError as error:
        raise CommandError(f"{error.filename2 or error.filename or path}: {error.strerror}") from error


def print_annotations(verdicts: Sequence[Verdict], lost: LostDevices | None = None) -> None:
    """Print workflow commands of GitHub Actions.

    On standard error: the runner reads them there too, and standard output may be JSON that somebody parses.
    """
    from reports.annotations import workflow_commands

    for line in workflow_commands(verdicts, lost):
        print(line, file=sys.stderr)
    sys.stderr.flush()


def checked_report(path: Path) -> Path:
    """A path that a report can be written to, by its name; to be asked before a night is measured.

    Raises:
        CommandError: Its name ends otherwise.
    """
    if path.suffix.lower() not in REPORTS:
        raise CommandError(f"{path}: a report is written as .html or .md", hint="report.html")
    return path


def write_report(
    path: Path,
    verdicts: Sequence[Verdict],
    series: Sequence[Series],
    fronts: Sequence[FrontVerdict] = (),
    lost: LostDevices | None = None,
) -> None:
    """Write a night as a page or as Markdown.

    Args:
        path: ``.html`` or ``.md``.
        verdicts: Of the night.
        series: All that are stored; the histories of those with a verdict are shown.
        fronts: Verdicts on the fronts of studies.
        lost: Devices that could not be measured.

    Raises:
        CommandError: It cannot be written.
    """
    from reports.histories import histories
    from reports.regression_report import write_regression_report

    at = max((verdict.time for verdict in verdicts), default=None)
    keys = {verdict.series.key for verdict in verdicts}
    checked_report(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_regression_report(path, verdicts, histories(series, at=at, shown=keys), fronts, lost)
    except OSError as error:
        raise CommandError(f"{error.filename2 or error.filename or path}: {error.strerror}") from error


def checked_command(command: str) -> list[str]:
    """The words of a command to notify; to be asked before a night is measured.

    Raises:
        CommandError: It has none, or a quote is not closed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandError(
            f"--notify cannot be read: {error}", hint="--notify './tell.py --channel nightly'"
        ) from error
    if not words:
        raise CommandError("--notify is empty", hint="--notify ./tell.py")
    return words


def notify(
    command: str,
    verdicts: Sequence[Verdict],
    fronts: Sequence[FrontVerdict] = (),
    lost: LostDevices | None = None,
    *,
    timeout_s: float = NOTIFY_TIMEOUT_S,
) -> bool:
    """Run a command with the summary as JSON on its standard input; whether it went well.

    It is split as a shell splits words, and no shell runs. It has our environment, where secrets belong; what it prints
    goes to standard error. Neither its arguments nor the environment are ever repeated. A failure is told and is
    otherwise of no consequence.

    Raises:
        CommandError: It has no words, or a quote is not closed.
    """
    from reports.verdict_summary import summary

    words = checked_command(command)
    said = console(stderr=True)
    text = json.dumps(summary(verdicts, fronts, lost), ensure_ascii=True, allow_nan=False).encode()
    sys.stderr.flush()
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=2, start_new_session=True)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its words hold a null character"
        said.print(f"archsearch: --notify: {_name(words)} cannot be started: {why}")
        return False
    try:
        process.communicate(text, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        said.print(f"archsearch: --notify: {_name(words)} was ended, it took more than {timeout_s:g} s")
        return False
    finally:
        if process.poll() is None:
            _end(process)
    if process.returncode:
        said.print(f"archsearch: --notify: {_name(words)} failed with exit code {process.returncode}")
    return not process.returncode


def _name(words: Sequence[str]) -> str:
    """The program; its arguments may hold what is not for logs."""
    return Path(words[0]).name or "the command"


def _end(process: subprocess.Popen[bytes]) -> None:
    """With what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # no process groups here, or it has just ended
        process.kill()
    process.wait()

"""Block checks of a device: which it still owes, the job that makes it pass them, and which it has passed.

A check is known by its id, the device's hardware and the runtime; one that was passed is not made again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.candidates import BlockCheck, block_checks, reference_check
from archsearch.store import Check as PassedCheck
from archsearch.store import Store

if TYPE_CHECKING:
    from archsearch.subjects import Subject
    from profiler.jobs import Check, Job
    from profiler.results import Result
    from profiler.runner import DeviceSession


def with_checks(job: Job, subject: Subject, *, session: DeviceSession, store: Store) -> tuple[Job, dict[str, bytes]]:
    """The job with its files, and with a check of every block that this device has not passed yet."""
    files = subject.files()
    passed = store.passed_checks(session.fingerprint, _runtime(session))
    checks: list[Check] = []
    for contender, layout, prepared in subject.exports():
        for block_check in block_checks(layout, prepared.candidate):
            if block_check.check_id not in passed:
                check, check_files = reference_check(block_check, len(checks))
                checks.append(replace(check, contender=contender))
                files.update(check_files)
    return replace(job, checks=tuple(checks)), files


def passed_checks(result: Result, subject: Subject, *, session: DeviceSession) -> list[PassedCheck]:
    """The checks that a result says were passed, whichever run had asked for them."""
    records = {record.name: record for record in result.checks if record.ok}
    checks = {
        check.check_id: check
        for _, layout, prepared in subject.exports()
        for check in block_checks(layout, prepared.candidate)
        if check.name in records
    }
    return [_passed(check, records[check.name].rel_rms, session) for check in checks.values()]


def _passed(check: BlockCheck, rel_rms: float | None, session: DeviceSession) -> PassedCheck:
    return PassedCheck(
        check_id=check.check_id,
        device_fingerprint=session.fingerprint,
        runtime=_runtime(session),
        rel_rms=rel_rms,
    )


def _runtime(session: DeviceSession) -> str:
    providers = ",".join(provider.name for provider in session.device.providers)
    return f"{session.runtime_version} {providers}"

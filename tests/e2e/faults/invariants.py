"""What must hold after a run, whatever happened to it. Each violation is a sentence that begins with what it is of."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from statistics import median

from archsearch.keeping import SETTLED
from archsearch.records import load_measurements
from archsearch.store import MeasurementRecord, Store
from tests.e2e.faults.scene import STORED, STUDY, Line, Scene

OURS = re.compile(
    r"\[\d\d:\d\d:\d\d\] |archsearch: |  try: |continuing study |study campaign[; ]|written to |again: |stopped by you|"
    r"several places: |ranked without |Nothing meets the budgets|.* in all, \d+ measurements$|[\w.-]+: .*\(try: |"
    r"(local|box|phone): "  # below `no device can be used`
)
"""How every line that a driver prints begins."""

FOREIGN = re.compile(
    r"Traceback|paramiko|adb_shell|sqlalchemy|sqlite3\.|File \"|\b(?!ONNXRuntime)[A-Z]\w+(Error|Exception)\b|Errno|"
    r"\bexception\b|this is a bug"
)
"""What no line may hold: the words of libraries, but for the reason that the device's runtime gives for a failure."""

DEVICES_WORDS = re.compile(r"(ended without a result|died in its phase .*?|did not start .*?): .*")
"""What a device's own log said last is repeated as it is."""

EXPECTED = {"itself": {0, 3, 5}, "kill": {-9}, "Ctrl-C": {130, 0, 3, 5, -2}, "hang": None}
"""Exit codes by what ended a driver. One that is told to stop just as it ends may end by itself."""

FAR = 50.0
"""An undisturbed time this many times the median of its device is none: nothing here takes that long."""


def judge(scene: Scene) -> list[str]:
    """All that does not hold, once the study was continued to its end."""
    found = [*words(scene.lines), *_exit_codes(scene), *_left(scene)]
    path = scene.world.database(STUDY)
    if not path.exists():
        return [*found, "store: there is none"]
    with closing(sqlite3.connect(path)) as database:
        said = [row[0] for row in database.execute("PRAGMA integrity_check")]
        claims = [row[0] for row in database.execute("SELECT job_id FROM claims")]
    if said != ["ok"]:
        found.append(f"store: integrity_check says {said[:3]}")
    found += [f"claim: of job {job_id} is left" for job_id in claims]
    with Store.open(path, create=False) as store:
        records = store.measurements(STUDY)
        found += [f"trial: #{trial.number} is {trial.state}" for trial in store.trials(STUDY) if trial.state == "open"]
        found += _times(store)
    return [*found, *_twice(records), *_lost(scene, records)]


def words(lines: Iterable[Line]) -> list[str]:
    """Lines that are not ours, or hold what is not for users."""
    found = []
    for line in lines:
        if FOREIGN.search(DEVICES_WORDS.sub("", line.text)):
            found.append(f"message: driver {line.driver} speaks of what is inside: {line.text[:300]}")
        elif not OURS.match(line.text):
            found.append(f"message: driver {line.driver} says what is not ours: {line.text[:300]}")
    return found[:10]


def _exit_codes(scene: Scene) -> list[str]:
    found = []
    for driver in scene.drivers:
        allowed, code = EXPECTED[driver.end or "itself"], driver.process.returncode
        if allowed is not None and code not in allowed:
            found.append(f"exit code: driver {driver.number} (ended by {driver.end or 'itself'}) gave {code}")
    return found


def _left(scene: Scene) -> list[str]:
    scene.wait(15, lambda: not scene.world.left(), step=0.2)
    return [f"left behind: {what}" for what in scene.world.left()]


def _twice(records: Sequence[MeasurementRecord]) -> list[str]:
    first = [record for record in records if not record.info.get("fresh") and record.status in SETTLED]
    found = [f"twice: {n} settled measurements of one key" for n in _more(record.key_hash for record in first)]
    return found + [f"twice: {n} measurements of one job" for n in _more(record.job_id for record in records)]


def _more(values: object) -> list[int]:
    return [times for times in Counter(values).values() if times > 1]  # type: ignore[call-overload]


def _lost(scene: Scene, records: Sequence[MeasurementRecord]) -> list[str]:
    """Each measurement that a driver said it had is in the store."""
    said: Counter[tuple[str, str]] = Counter()
    for line in scene.lines:
        match = STORED.match(line.text)
        if match and "(known, not measured again)" not in line.text:
            said[match[1], match[2]] += 1
    kept = Counter((record.device, record.label) for record in records if record.status == "ok")
    return [f"lost: {label} on {device}" for (device, label), times in said.items() if times > kept[device, label]]


def _times(store: Store) -> list[str]:
    found = []
    by_device: dict[str, list[tuple[str, float, float]]] = {}
    for m in load_measurements(store, STUDY):
        if m.status != "ok":
            continue
        for view in m.measured_points:
            assert view.summary is not None
            pair = (view.summary.ttft_ms.value, view.summary.decode_ms.value)
            by_device.setdefault(m.device, []).append((m.label, *pair))
    for device, rows in by_device.items():
        for at, name in ((1, "TTFT"), (2, "decode")):
            usual = median(float(row[at]) for row in rows)
            for row in rows:
                if not 0 < float(row[at]) < FAR * usual:
                    found.append(f"number: {name} of {row[0]} on {device} is {row[at]} ms, usual are {usual:.3g} ms")
    return found

"""Which devices a ranking over several does without: one that is lost or odd must not keep all from being ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archsearch.judging import Judgement
from archsearch.measurement import Measurement
from archsearch.store import Store
from archsearch.timing import LEFT_OUT, POOLS, RUN_ENDED, RUN_STARTED
from reports.values import place_of

Row = Mapping[str, Any]


def left_out(
    database: Store,
    name: str,
    measurements: Iterable[Measurement],
    rows: Sequence[Row],
    judgement: Judgement,
    reference: str | None,
) -> dict[str, str]:
    """Pools (groups, and devices without one) that are not ranked by, with the reason.

    Args:
        database: Where the study is kept.
        name: The study.
        measurements: All of it.
        rows: The same as a table.
        judgement: What they are worth.
        reference: Layout id of the anchor that values are relative to, or None.
    """
    units: dict[str, set[str]] = {}
    for m in measurements:
        units.setdefault(m.pool, set()).add(m.device)
    odd = {**judgement.unlike, **judgement.wrong}
    found = {pool: odd[min(devices)] for pool, devices in units.items() if devices <= odd.keys()}
    found |= unrelated([row for row in rows if row["device"] not in found], reference)
    return found | _lacking(database, name, [row for row in rows if row["device"] not in found])


def unrelated(rows: Sequence[Row], reference: str | None) -> dict[str, str]:
    """Pools where the reference has no numbers, so that nothing can be related to it there; none where no pool has any.

    With one place in all there is nothing to relate.
    """
    anchors = [row for row in rows if row["layout_id"] == reference and row["anchor"]]
    known = {place_of(row) for row in anchors if row["status"] == "ok"}
    wanted = {place_of(row): row["device"] for row in rows if not row["anchor"]}
    if len(wanted) < 2 or reference is None:
        return {}
    found = {}
    for pool in dict.fromkeys(device for place, device in wanted.items() if place not in known):
        last = next((row for row in reversed(anchors) if row["device"] == pool and row["status"] != "ok"), None)
        why = f" ({last['status']}: {last['reason']})" if last is not None else ""
        title = next((row["name"] or row["code"] for row in anchors), "the anchor")
        found[pool] = f"{title}, which candidates are related to, has no numbers there{why}"
    return found if len(found) < len(set(wanted.values())) else {}


def _lacking(database: Store, name: str, rows: Sequence[Row]) -> dict[str, str]:
    """Pools that the last run was without, or lost, before they had measured what the others have."""
    trials: dict[str, set[int]] = {}
    for row in rows:
        mine = trials.setdefault(row["device"], set())
        if row["trial"] is not None and row["status"] != "superseded":
            mine.add(row["trial"])
    everything = set().union(*trials.values())
    gone: dict[str, str] = {}
    begun, ended = database.events(name, RUN_STARTED), database.events(name, RUN_ENDED)
    if begun and POOLS in begun[-1][2]:
        there = set(begun[-1][2][POOLS].values())
        gone = dict.fromkeys((pool for pool in trials if pool not in there), "the last run was without it")
    if ended:
        gone |= ended[-1][2].get(LEFT_OUT, {})
    found = {
        pool: f"it lacks {len(missing)} of {len(everything)} candidates ({why})"
        for pool, why in gone.items()
        if pool in trials and (missing := everything - trials[pool])
    }
    if trials and found.keys() >= trials.keys():  # all of them: the one that has most is still the best that is known
        most = max(len(mine) for mine in trials.values())
        found = {pool: why for pool, why in found.items() if len(trials[pool]) < most}
    return found

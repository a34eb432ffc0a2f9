"""A stored study as reports read it."""

from __future__ import annotations

from datetime import UTC, datetime

from archsearch.ranked import Ranked, Study
from reports.snapshot import Snapshot, Spent
from search_space.blocks import letter_colors, mixers_by_letter

NOTES = (
    "± and bars are 95% intervals; numbers come from fresh processes on the device named beside them.",
    "On the front: nobody is better in everything. Uncertain: beaten by point estimates, but the intervals overlap. "
    "Dominated: beaten beyond the noise.",
    "Anchors are known models measured beside the candidates; they are never left out, and their rank in brackets is "
    "where they would stand.",
    "Weights are random: a page says what a layout costs on a device, and nothing of its quality after training.",
)


def snapshot(found: Ranked) -> Snapshot:
    """What a study has measured, with what its readers must know."""
    study = found.study
    spent = [
        Spent(device=m.pool, ended_unix=m.created_unix, seconds=m.summary.total_s)
        for m in study.measurements if m.summary is not None
    ]  # fmt: skip
    return Snapshot(
        name=study.name, rows=study.rows, objectives=found.objectives, budgets=found.budgets, across=found.across,
        reference=study.reference, left_out=found.left_out, spent=spent, facts=_facts(found),
        notes=[*NOTES, *fallback(found), *without(found), *movements(study)], colors=letter_colors(),
        letters={letter: mixer.kind for letter, mixer in mixers_by_letter().items()},
    )  # fmt: skip


def _facts(found: Ranked) -> dict[str, str]:
    rows = found.study.rows
    if not rows:
        return {}
    trials = {row["trial"] for row in rows if row["trial"] is not None}
    devices = dict.fromkeys(str(row["device"]) for row in rows)
    latest = max(float(row["created_unix"]) for row in rows)
    return {
        "candidates": f"{len(trials):,}",
        "devices": ", ".join(devices) + (f" (combined: {found.across})" if len(devices) > 1 else ""),
        "workload, precision": f"{rows[0]['workload']}, {rows[0]['precision']}",
        "objectives": ", ".join(found.objectives),
        "budgets": ", ".join(map(str, found.budgets)) or "none",
        "last measured": f"{datetime.fromtimestamp(latest, UTC):%Y-%m-%d %H:%M} UTC",
    }


def fallback(found: Ranked) -> list[str]:
    """That devices are not combined as was asked for."""
    said = f"{found.asked} has measured nothing in this study, and cannot count alone; ranked by {found.across}"
    return [said] if found.asked != found.across else []


def without(found: Ranked) -> list[str]:
    """Which devices a ranking does without, and why."""
    return [
        f"ranked without {pool}: {why}" + ("" if found.odd(pool) else f"; by its own numbers: --across {pool}")
        for pool, why in found.left_out.items()
    ]


def movements(study: Study) -> list[str]:
    """How far devices moved between stretches of work that are set side by side."""
    spreads = {m.device: study.judgement.drift.spread(m.device) for m in study.measurements}
    return [
        f"{device}: its anchor moved by up to {spread:.1%} between stretches of work; that much is added to the noise "
        "of its times on the front, and to the bars of pictures"
        for device, spread in spreads.items() if spread
    ]  # fmt: skip

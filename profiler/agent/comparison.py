"""Several graphs timed in one process, in turns, so that what the machine does meanwhile happens to all of them.

The contenders of a group (points of equal sizes) take turns at every call: all prefills, then step after step. The
order is turned by one in each round. All sessions share one thread pool: with one each, the spinning threads of the
contender before would take the processor from the next. Differences of 1% show that way on machines whose speed
wanders by 10%; between processes it is the same contenders again, in another order.

A contender that fails, while it is prepared or while it is timed, is left out with its reason; the others go on.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cache import WeightCache
from .checks import failed_text, operators, run_check
from .conditions import OtherLoad
from .protocol import PROTOCOL_DEFAULTS, JobFailure, Json, is_of_memory, one_line
from .session import open_session, share_threads
from .timing import Sequence, Turn, settled, summary_of

MAX_ROUNDS = 64
CHEAP_WARMUP_S = 0.2
"""Warm-up that takes no longer than this is not cut short."""
Say = Callable[..., None]


def prepare(task: Json, record: Json, say: Say, cache: WeightCache) -> None:
    """Write the weights, compare the blocks and list the operators of every contender."""
    job, folder, seconds = task["job"], Path(task["folder"]), record["seconds"]
    record["checks"], record["contenders"] = [], []
    for at, contender in enumerate(job["model"]["contenders"]):
        points = [index for index, point in enumerate(job["points"]) if point["contender"] == at]
        entry: Json = {
            "name": contender["name"], "points": points, "error": "", "model": None, "bytes": 0, "cached": False,
        }  # fmt: skip
        record["contenders"].append(entry)
        begun = time.monotonic()
        say("phase", name="weights")
        placed = cache.place(folder / contender["graph"], folder / contender["recipe"])
        entry.update(bytes=placed.size, cached=placed.cached)
        seconds["weights"] += time.monotonic() - begun
        say("phase", name="check")
        begun = time.monotonic()
        checks = [check for check in job.get("checks", []) if check["contender"] == at]
        entry["error"] = _failed_check(checks, record, folder, cache, job["runtime"])
        seconds["check"] += time.monotonic() - begun
        if entry["error"]:
            continue
        entry["model"] = str(placed.model)
        if not contender["traced"]:
            continue
        begun = time.monotonic()
        say("phase", name="load")
        try:
            entry["operators"], entry["providers"], _ = operators(
                placed.model, contender["signature"], job["runtime"], [job["points"][index] for index in points],
                folder, loaded=lambda: None,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - a kernel that this device lacks: the others are compared
            entry.update(error=_of_the_graph(error), model=None)
        seconds["load"] += time.monotonic() - begun


def _of_the_graph(error: Exception) -> str:
    """The error in one line; one of memory is raised again, since it says nothing of the graph that met it."""
    if is_of_memory(error):
        raise error
    return one_line(error)


def _failed_check(checks: list[Json], record: Json, folder: Path, cache: WeightCache, runtime: Json) -> str:
    for check in checks:
        model = cache.place(folder / check["graph"], folder / check["recipe"]).model
        done = run_check(check, model, runtime)
        record["checks"].append(done)
        if not done["ok"]:
            return failed_text(done)
    return ""


def compare(task: Json, record: Json, say: Say) -> None:
    """Load every contender that has a model, then time their points group by group, in turns.

    `record["failed"]` has the reason of each contender that failed, by its index.
    """
    job, seconds = task["job"], record["seconds"]
    load = OtherLoad(time.process_time)
    failed: dict[int, str] = {}
    say("phase", name="load")
    begun = time.perf_counter()
    share_threads(job["runtime"])
    contenders = job["model"]["contenders"]
    sessions = {}
    for at, path in enumerate(task["models"]):
        if path is not None:
            try:
                sessions[at] = open_session(Path(path), job["runtime"], shared=True)
            except Exception as error:  # noqa: BLE001 - the others are compared
                failed[at] = _of_the_graph(error)
    seconds.update(load=time.perf_counter() - begun, warmup=0.0, timed=0.0)
    record["load_ms"] = seconds["load"] * 1000
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, point in enumerate(job["points"]):
        if point["contender"] in sessions:
            sizes = (point["batch"], point["prompt"], point["decode"], point.get("depth", 0), point.get("chunk", 0))
            groups.setdefault(sizes, []).append(index)
    for number, (_, indices) in enumerate(sorted(groups.items())):
        members = {}
        for index in indices:
            at = job["points"][index]["contender"]
            if at in failed:
                continue
            try:
                members[index] = Sequence(
                    sessions[at], contenders[at]["signature"], job["points"][index], int(job["protocol"].get("seed", 0))
                )
            except Exception as error:  # noqa: BLE001 - states that do not fit, say
                failed[at] = _of_the_graph(error)
        group = Group(members, job["protocol"], load, seconds, turn=int(task["turn"]))
        say("phase", name="timed", point=indices[0])
        spent = float(seconds["warmup"]) + float(seconds["timed"])
        slice_s = (float(task["slice_s"]) - spent) / (len(groups) - number)
        group.measure(max(int(task["repeats"][index]) for index in indices), slice_s)
        for index, reason in group.failed.items():
            failed.setdefault(job["points"][index]["contender"], reason)
        record["points"] += group.records.values()
    record["points"] = sorted(
        (samples for samples in record["points"] if job["points"][samples["point"]]["contender"] not in failed),
        key=lambda samples: int(samples["point"]),
    )
    record["failed"] = {str(at): reason for at, reason in failed.items()}


class Group:
    """Points of equal sizes, one for each contender, timed in turns.

    Args:
        members: The sequence of each point, by index of the point.
        protocol: As in the job.
        load: Tells what others used.
        seconds: Collects where the time went.
        turn: By how much the first order is turned; processes differ in it.

    Attributes:
        records: Samples of every member that did not fail.
        failed: Why the others did, by index of the point.
    """

    def __init__(
        self, members: dict[int, Sequence], protocol: Json, load: OtherLoad, seconds: dict[str, float], turn: int
    ) -> None:
        self._members = members
        self._protocol = {**PROTOCOL_DEFAULTS, **protocol}
        self._load = load
        self._seconds = seconds
        self._turn = turn
        self.records: dict[int, Json] = {
            index: {"point": index, "warmup": [], "repeats": [], "warm": False, "logits": None} for index in members
        }
        self.failed: dict[int, str] = {}

    def measure(self, wanted: int, slice_s: float) -> None:
        """Warm up, then repeat `wanted` rounds, fewer where `slice_s` seconds are short.

        Raises:
            JobFailure: Others used the processor too often.
        """
        first = self._round("warmup")
        for index, sequence in list(self._members.items()):
            self.records[index]["logits"] = summary_of(sequence)
            if not self.records[index]["logits"]["finite"]:
                self._drop(index, "the logits are not finite")
        least = int(self._protocol["min_repeats"])
        if 3 * first > slice_s:  # too long for a second one: the timed round tells whether one was enough
            least = 1
        else:
            self._warm_up(first, slice_s / 2)
        if not self._members:
            return
        estimate = max(record["warmup"][-1]["round_s"] for record in self.records.values())
        count = max(least, min(wanted, math.floor(slice_s / max(estimate, 1e-6))))
        self._repeat(count, least)
        for record in self.records.values():
            kept = [repeat for repeat in record["repeats"] if repeat["kept"]]
            record["warm"] = record["warm"] or self._settled([*record["warmup"], kept[0]], record["point"])
            for repeat in (*record["warmup"], *record["repeats"]):
                del repeat["round_s"]

    def _warm_up(self, spent: float, within_s: float) -> None:
        """Rounds until each member was seen to get no faster.

        At most `max_warmups` of them, more where they cost next to nothing, and but two where they take `within_s`.
        """
        cap = max(2, int(self._protocol["max_warmups"]))
        for number in range(1, MAX_ROUNDS):
            enough = number >= cap or (number >= 2 and spent * (number + 1) / number > within_s)
            if all(record["warm"] for record in self.records.values()) or (enough and spent > CHEAP_WARMUP_S):
                return
            spent += self._round("warmup")
            for record in self.records.values():
                record["warm"] = record["warm"] or self._settled(record["warmup"], record["point"])

    def _settled(self, sequences: list[Json], index: int) -> bool:
        """Whether a member's warm-up has ended; a call that stands alone beside what is measured says nothing of it."""
        member = self._members[index]
        return settled(
            sequences, float(self._protocol["warmup_tolerance"]), prefill=not member.depth, steps=member.decode > 1
        )

    def _repeat(self, count: int, least: int) -> None:
        limit, kept, loads = float(self._protocol["max_other_cpu"]), 0, []
        for _ in range(min(MAX_ROUNDS, count + max(3, count))):
            self._round("timed")
            if not self._members:
                return
            other = next(iter(self.records.values()))["repeats"][-1]["other_cpu"]
            fine = other is None or other <= limit
            for record in self.records.values():
                record["repeats"][-1]["kept"] = fine
            kept += fine
            loads.append(other or 0.0)
            if kept >= count:
                return
        if kept < least:
            used = sorted(loads)[len(loads) // 2]
            raise JobFailure("throttled", f"others used {used:.0%} of the processor (limit {limit:.0%})")

    def _round(self, phase: str) -> float:
        """One turn of everybody; its seconds of work."""
        order = list(self._members)
        self._turn += 1
        at = self._turn % max(1, len(order))
        order = order[at:] + order[:at]
        turns: dict[int, Turn] = {}
        for index in order:
            self._members[index].reset()
        self._load.mark()
        collecting = gc.isenabled()
        gc.disable()
        try:
            for index in order:
                try:
                    turns[index] = self._members[index].turn()
                except Exception as error:  # noqa: BLE001 - the others go on
                    self._drop(index, _of_the_graph(error))
            for _ in range(max((sequence.decode for sequence in self._members.values()), default=0)):
                for index in order:
                    if index not in self._members:
                        continue
                    try:
                        turns[index].step()
                    except Exception as error:  # noqa: BLE001
                        self._drop(index, _of_the_graph(error))
        finally:
            if collecting:
                gc.enable()
        other = self._load.since_mark()
        for index in [index for index, sequence in self._members.items() if not sequence.last_finite()]:
            self._drop(index, "the logits are not finite")
        spent = sum(turn.ns for turn in turns.values()) * 1e-9
        self._seconds[phase] += spent
        for index in self._members:
            turn = turns[index]
            repeat: dict[str, Any] = {
                "prefill_ns": turn.prefill_ns,
                "ttft_ns": turn.ttft_ns,
                "decode_ns": turn.decode_ns,
                "other_cpu": other if other is None else round(other, 4),
                "kept": False,
                "round_s": spent,
            }
            self.records[index]["warmup" if phase == "warmup" else "repeats"].append(repeat)
        return spent

    def _drop(self, index: int, reason: str) -> None:
        self.failed[index] = reason
        del self._members[index], self.records[index]

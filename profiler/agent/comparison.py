"""Several graphs timed in one process, in turns, so that what the machine does meanwhile happens to all of them.

The contenders of a group (points of equal sizes) take turns at every call: all prefills, then step after step. The
order is turned by one in each round. All sessions share one thread pool: with one each, the spinning threads of the
contender before would take the processor from the next. Differences of 1% show that way on machines whose speed
wanders by 10%; between processes it is the same contenders again, in another order.
"""

from __future__ import annotations

import gc
import math
from typing import Any

from .conditions import OtherLoad
from .protocol import PROTOCOL_DEFAULTS, JobFailure, Json
from .timing import Sequence, Turn, settled, summary_of

MAX_ROUNDS = 64


class Group:
    """Points of equal sizes, one for each contender, timed in turns.

    Args:
        members: The sequence of each point, by index of the point.
        protocol: As in the job.
        load: Tells what others used.
        seconds: Collects where the time went.
        turn: By how much the first order is turned; processes differ in it.
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

    def measure(self, wanted: int, slice_s: float) -> None:
        """Warm up, then repeat `wanted` rounds, fewer where `slice_s` seconds are short.

        Raises:
            JobFailure: Logits are not finite, or others used the processor too often.
        """
        tolerance, cap = float(self._protocol["warmup_tolerance"]), max(2, int(self._protocol["max_warmups"]))
        first = self._round("warmup")
        for index, sequence in self._members.items():
            self.records[index]["logits"] = summary_of(sequence)
        self._require_finite()
        least = int(self._protocol["min_repeats"])
        if 3 * first > slice_s:  # too long for a second one: the timed round tells whether one was enough
            least = 1
        else:
            for _ in range(cap - 1):
                self._round("warmup")
                if all(settled(record["warmup"], tolerance) for record in self.records.values()):
                    break
        estimate = max(record["warmup"][-1]["round_s"] for record in self.records.values())
        count = max(least, min(wanted, math.floor(slice_s / max(estimate, 1e-6))))
        self._repeat(count, least)
        for record in self.records.values():
            kept = [repeat for repeat in record["repeats"] if repeat["kept"]]
            tail = record["warmup"] if len(record["warmup"]) > 1 else [*record["warmup"], kept[0]]
            record["warm"] = settled(tail, tolerance)
            for repeat in (*record["warmup"], *record["repeats"]):
                del repeat["round_s"]

    def _repeat(self, count: int, least: int) -> None:
        limit, kept, loads = float(self._protocol["max_other_cpu"]), 0, []
        for _ in range(min(MAX_ROUNDS, count + max(3, count))):
            self._round("timed")
            self._require_finite()
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
        at = self._turn % len(order)
        order = order[at:] + order[:at]
        turns: dict[int, Turn] = {}
        for index in order:
            self._members[index].reset()
        self._load.mark()
        collecting = gc.isenabled()
        gc.disable()
        try:
            for index in order:
                turns[index] = self._members[index].turn()
            for _ in range(max(sequence.decode for sequence in self._members.values())):
                for index in order:
                    turns[index].step()
        finally:
            if collecting:
                gc.enable()
        other = self._load.since_mark()
        spent = sum(turn.ns for turn in turns.values()) * 1e-9
        self._seconds[phase] += spent
        for index, turn in turns.items():
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

    def _require_finite(self) -> None:
        for index, sequence in self._members.items():
            if not sequence.last_finite():
                raise JobFailure("invalid", f"point {index}: the logits are not finite")

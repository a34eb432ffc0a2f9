"""The timed work of one process: warm up until it is warm, then repeat whole sequences.

One sequence: zero states (or made-up ones of `depth` tokens); prefill of P tokens, in one call or in pieces, and
arg-max (TTFT); then `decode` single steps, each with arg-max, the token fed back. Inside the timed region nothing is
allocated and garbage collection is off.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from .agreement import median
from .conditions import OtherLoad
from .driver import Array, Call, Driver
from .protocol import PROTOCOL_DEFAULTS, JobFailure, Json
from .weights import raw_words

SAMPLED_LOGITS = 64
SAMPLED_TOKENS = 16
_now = time.perf_counter_ns


class Sequence:
    """One point of a job on one session, ready to run again and again."""

    def __init__(self, session: ort.InferenceSession, signature: Json, point: Json, seed: int) -> None:
        self.batch, self.prompt, self.decode = (int(point[key]) for key in ("batch", "prompt", "decode"))
        self.depth = int(point.get("depth", 0))
        capacity = self.depth + self.prompt + self.decode
        self.driver = Driver(session, signature, batch=self.batch, capacity=capacity)
        self._step = self.driver.call(1) if self.decode else self.driver.call(self.prompt)
        words = raw_words(seed, self.batch * self.prompt).reshape(self.batch, self.prompt)
        prompt = (words % np.uint64(signature["vocab_size"])).astype(np.int64)
        self._pieces = self._prefill_pieces(prompt, int(point.get("chunk", 0)) or self.prompt)
        last = self._pieces[-1][0]
        if last.logits is None or self._step.tokens is None or self._step.logits is None:
            raise JobFailure("failed", "the signature has no input with the role tokens")
        self._prefill_logits, self._step_logits = last.logits, self._step.logits
        self._next = self._step.tokens
        self._best = np.zeros(self.batch, np.intp)
        self._steps = [0] * self.decode

    def _prefill_pieces(self, prompt: Array, size: int) -> list[tuple[Call, Array]]:
        """Calls of the prefill with the tokens [B, T] of each; equal lengths share one call and its buffers."""
        calls: dict[int, Call] = {}
        pieces = []
        for start in range(0, self.prompt, size):
            tokens = np.ascontiguousarray(prompt[:, start : start + size])
            length = tokens.shape[1]
            if length not in calls:
                calls[length] = self.driver.call(length)
            pieces.append((calls[length], tokens))
        return pieces

    @property
    def pieces(self) -> int:
        """Calls of the prefill."""
        return len(self._pieces)

    def _prefill(self) -> None:
        for call, tokens in self._pieces:
            assert call.tokens is not None
            call.tokens[...] = tokens
            call.run()

    def reset(self) -> None:
        """Zero the states, or make up those of `depth` earlier tokens. Not timed."""
        if self.depth:
            self.driver.pretend(self.depth)
        else:
            self.driver.reset()

    def run(self) -> tuple[int, int, list[int]]:
        """Run one sequence; times in ns of prefill, first token, and each step."""
        best, following, steps = self._best, self._next, self._steps
        logits, prefill, step = self._step_logits, self._prefill, self._step.run
        collecting = gc.isenabled()
        gc.disable()
        try:
            start = _now()
            prefill()
            prefilled = _now()
            self._prefill_logits.argmax(axis=1, out=best)
            first = _now()
            for index in range(self.decode):
                begun = _now()
                following[:, 0] = best
                step()
                logits.argmax(axis=1, out=best)
                steps[index] = _now() - begun
        finally:
            if collecting:
                gc.enable()
        return prefilled - start, first - start, list(steps)

    def run_checked(self) -> tuple[tuple[int, int, list[int]], Json]:
        """Run one sequence as `run` does, looking at every logit between the timed calls."""
        best, steps = self._best, [0] * self.decode
        start = _now()
        self._prefill()
        prefilled = _now()
        self._prefill_logits.argmax(axis=1, out=best)
        first = _now()
        seen = summary(self._prefill_logits)
        tokens = [int(best[0])]
        for index in range(self.decode):
            begun = _now()
            self._next[:, 0] = best
            self._step.run()
            self._step_logits.argmax(axis=1, out=best)
            steps[index] = _now() - begun
            seen["finite"] = seen["finite"] and bool(np.isfinite(self._step_logits).all())
            if len(tokens) < SAMPLED_TOKENS:
                tokens.append(int(best[0]))
        seen["tokens"] = tokens
        return (prefilled - start, first - start, steps), seen

    def turn(self) -> Turn:
        """The prefill of `run`, its steps to be asked for one by one."""
        return Turn(self)

    def prefill_only(self) -> None:
        """The first half of `run`, for the memory pass."""
        self._prefill()
        self._prefill_logits.argmax(axis=1, out=self._best)

    def steps_only(self, count: int) -> None:
        """The second half of `run`, for the memory pass."""
        for _ in range(count):
            self._next[:, 0] = self._best
            self._step.run()
            self._step_logits.argmax(axis=1, out=self._best)

    def last_finite(self) -> bool:
        """Whether the logits that were computed last are numbers."""
        return bool(np.isfinite(self._step_logits if self.decode else self._prefill_logits).all())


class Turn:
    """One sequence run in parts, between which others take their turns.

    Attributes:
        prefill_ns: Of the prefill.
        ttft_ns: Of the prefill with its arg-max.
        decode_ns: Of each step so far.
    """

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self._left = sequence.decode
        start = _now()
        sequence._prefill()
        prefilled = _now()
        sequence._prefill_logits.argmax(axis=1, out=sequence._best)
        self.ttft_ns = _now() - start
        self.prefill_ns = prefilled - start
        self.decode_ns: list[int] = []

    def step(self) -> None:
        """The next step; nothing once all are done."""
        if self._left == 0:
            return
        self._left -= 1
        sequence = self._sequence
        begun = _now()
        sequence._next[:, 0] = sequence._best
        sequence._step.run()
        sequence._step_logits.argmax(axis=1, out=sequence._best)
        self.decode_ns.append(_now() - begun)

    @property
    def ns(self) -> int:
        """All of it."""
        return self.ttft_ns + sum(self.decode_ns)


def summary_of(sequence: Sequence) -> Json:
    """The same summary of a sequence's last prefill; it names no tokens."""
    return summary(sequence._prefill_logits)


def summary(logits: Array) -> Json:
    """What is kept of logits [B, V]: are they finite, evenly spread samples of the first row, its root mean square."""
    row = logits[0].astype(np.float64)
    ok = bool(np.isfinite(logits).all())
    where = np.linspace(0, row.size - 1, SAMPLED_LOGITS).round().astype(int)
    sample = [float(value) for value in row[where]] if ok else []
    return {"finite": ok, "tokens": [], "sample": sample, "rms": float(np.sqrt(np.mean(row**2))) if ok else None}


class PointTimer:
    """Warm-up and repeats of one point; `seconds` collects where the time went."""

    def __init__(self, sequence: Sequence, protocol: Json, load: OtherLoad, seconds: dict[str, float]) -> None:
        self._sequence = sequence
        self._protocol = {**PROTOCOL_DEFAULTS, **protocol}
        self._load = load
        self._seconds = seconds
        self._least = int(self._protocol["min_repeats"])

    def warm_up(self, record: Json, slice_s: float) -> None:
        """Whole sequences until they get no faster, or the cap is reached.

        Of sequences so long that three do not fit into `slice_s`, one warms up and one is timed: more would go far over
        the budget and say little.

        Raises:
            JobFailure: Logits are not finite.
        """
        tolerance = float(self._protocol["warmup_tolerance"])
        cap = max(2, int(self._protocol["max_warmups"]))
        while len(record["warmup"]) < cap:
            if record["warmup"]:
                self._one(record["warmup"], "warmup", self._sequence.run)
            else:
                self._one(record["warmup"], "warmup", lambda: self._checked(record))
            if not record["logits"]["finite"]:
                raise JobFailure("invalid", f"point {record['point']}: the logits are not finite")
            if settled(record["warmup"], tolerance):
                record["warm"] = True
                return
            if len(record["warmup"]) == 1 and 3 * _seconds(record["warmup"][0]) > slice_s:
                self._least = 1
                return

    def _checked(self, record: Json) -> tuple[int, int, list[int]]:
        times, record["logits"] = self._sequence.run_checked()
        return times

    def repeat(self, record: Json, wanted: int, slice_s: float) -> None:
        """Timed sequences: `wanted` of them, fewer where `slice_s` is short, and again those that others disturbed.

        Raises:
            JobFailure: Others used the processor too often for `min_repeats` clean sequences.
        """
        least = self._least
        estimate = _seconds(record["warmup"][-1])
        count = max(least, min(wanted, math.floor(slice_s / max(estimate, 1e-6))))
        limit = float(self._protocol["max_other_cpu"])
        kept = 0
        for _ in range(count + max(3, count)):
            repeat = self._one(record["repeats"], "timed", self._sequence.run)
            if not self._sequence.last_finite():
                raise JobFailure("invalid", f"point {record['point']}: the logits became infinite or undefined")
            repeat["kept"] = repeat["other_cpu"] is None or repeat["other_cpu"] <= limit
            kept += repeat["kept"]
            if len(record["warmup"]) == 1 and repeat["kept"]:  # the timed sequence tells whether one was enough
                record["warm"] = settled([record["warmup"][0], repeat], float(self._protocol["warmup_tolerance"]))
            if kept >= count:
                return
        if kept < least:
            loads = [repeat["other_cpu"] or 0.0 for repeat in record["repeats"]]
            raise JobFailure("throttled", f"others used {median(loads):.0%} of the processor (limit {limit:.0%})")

    def _one(self, into: list[Json], phase: str, run: Callable[[], tuple[int, int, list[int]]]) -> Json:
        self._sequence.reset()
        self._load.mark()
        start = _now()
        prefill, first, steps = run()
        self._seconds[phase] += (_now() - start) * 1e-9
        other = self._load.since_mark()
        repeat: dict[str, Any] = {
            "prefill_ns": prefill,
            "ttft_ns": first,
            "decode_ns": steps,
            "other_cpu": other if other is None else round(other, 4),
            "kept": False,
        }
        into.append(repeat)
        return repeat


def _seconds(sequence: Json) -> float:
    return float(sequence["ttft_ns"] + sum(sequence["decode_ns"])) * 1e-9


def settled(sequences: list[Json], tolerance: float, *, prefill: bool = True, steps: bool = True) -> bool:
    """Whether warm-up has ended: the last sequence was no faster than the fastest before it, within the tolerance.

    Prefill and median step are both looked at, or the one that is asked for. Warming up makes things faster; noise
    moves them both ways. A test for equality would warm up to the cap on every machine noisier than its tolerance, and
    learn nothing from it.
    """
    if len(sequences) < 2:
        return False

    def gained(times: list[float]) -> bool:
        return times[-1] * (1 + tolerance) < min(times[:-1])

    prefills = [sequence["prefill_ns"] for sequence in sequences]
    middles = [median(sequence["decode_ns"]) for sequence in sequences if sequence["decode_ns"]]
    return not (prefill and gained(prefills)) and not (steps and middles and gained(middles))

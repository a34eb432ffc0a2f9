"""Where the time of a model goes: a recorded prefill and a few steps under onnxruntime's profiler, summed.

Before them comes a prefill that does not count, of a part of the prompt where a whole one might take long: it warms up,
and tells whether the whole one does.

A node is summed under its group, the first component of its name's path (``layers.3.mixer`` of
``layers.3.mixer/MatMulNBits_7``), and its operator: what the components mean is the business of who named the nodes.
One without such a name belongs to the node in whose subgraph it runs, if to any.
Under the profiler everything is a little slower, most of all many small operators: the shares are what one reads.

It runs in the process that prepares a job, before those that are timed, and is bounded in time. Whatever goes wrong
here is recorded as the reason why there is no profile; the job goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import onnxruntime as ort

from .protocol import PROTOCOL_DEFAULTS, Json, one_line
from .timing import Sequence
from .traces import Call, Node, own_times, within

MAX_STEPS = 8
MAX_ENTRIES = 1000
"""Of a profile; the entries with the least time are summed up as one without group and operator."""
MAX_NAME = 200
TIME_SHARE = 0.1
"""Of the job's time budget: what the recorded sequence may take, or its prompt is cut."""
_REACH = 8
"""Up to so many times the tokens of a prefill that was timed, the time of a longer one is told from it."""


class Profiler:
    """The first point of a job as one sequence under the profiler of a session.

    Attributes:
        point: It, with the prompt that is recorded.
        steps: Decode steps that are recorded.
        reason: Why there is no profile; empty where there is one.
        began: When `run` did, on the monotonic clock; None before.

    Args:
        job: What is profiled.
        begin: Called when `run` begins: what comes until it ends is not needed for anything else.
    """

    def __init__(self, job: Json, begin: Callable[[], None]) -> None:
        protocol, limits = {**PROTOCOL_DEFAULTS, **job["protocol"]}, job["limits"]
        self.point: Json = dict(job["points"][0])
        self.steps = 0
        self.reason = ""
        self.began: float | None = None
        self._begin = begin
        self._signature: Json = job["signature"]
        self._seed = int(protocol["seed"])
        self._allowed_s = TIME_SHARE * min(float(protocol["time_budget_s"]), float(limits["timeout_s"]))
        self._calls = self._recorded = 0  # of the session since `run` began, and of the recorded prefill
        self._found: Json = {}
        if limits.get("memory_mib") is not None:
            self.reason = "none is taken under a memory limit, which the profiler's own memory could break"

    def run(self, session: ort.InferenceSession, step_s: float) -> None:
        """Run the sequence; the calls that count are the last of the session.

        Args:
            session: Has its profiler on, and has run before.
            step_s: Seconds of one step at batch 1.
        """
        if self.reason:
            return
        self._begin()
        self.began = time.monotonic()
        try:
            self._run(session, step_s)
        except Exception as error:  # noqa: BLE001 - a measurement without a profile is one
            self.reason = one_line(error)

    def _run(self, session: ort.InferenceSession, step_s: float) -> None:
        batch, wanted, decode = (int(self.point[key]) for key in ("batch", "prompt", "decode"))
        steps = min(MAX_STEPS, decode)
        left_s = self._allowed_s - steps * step_s * batch
        token_s, warm = step_s * batch, 0  # a token of a prefill takes less than a step
        while True:
            prompt = _fitting(wanted, left_s / token_s)
            if not prompt:
                self.reason = f"a prefill of one token and {steps} steps take more than {self._allowed_s:.2g} s"
                return
            self.point["prompt"] = prompt
            sequence = Sequence(session, self._signature, self.point, self._seed)
            sequence.reset()
            if prompt <= warm or (warm and prompt == wanted <= _REACH * warm):
                break
            begun = time.perf_counter()
            sequence.prefill_only()
            token_s, warm = max(1e-9, (time.perf_counter() - begun) / prompt), prompt
            self._calls += sequence.pieces
        sequence.prefill_only()
        sequence.steps_only(steps)
        self.steps, self._recorded = steps, sequence.pieces
        self._calls += sequence.pieces + steps

    def read(self, calls: list[Call], nodes: list[Node]) -> None:
        """Sum the trace of the calls that `run` made."""
        if self.reason:
            return
        if len(calls) != self._calls:
            self.reason = f"the trace has {len(calls)} of the {self._calls} calls that were made"
            return
        steps = calls[len(calls) - self.steps :]
        prefill = calls[len(calls) - self.steps - self._recorded : len(calls) - self.steps]
        sums: dict[tuple[str, str], list[float]] = {}
        for column, (part, count) in enumerate(((prefill, 1), (steps, len(steps)))):
            for node, outer, us in own_times(within(part, nodes)):
                group = group_of(node.name) or group_of(outer.name if outer else "")
                key = (group, node.operator[:MAX_NAME])
                sums.setdefault(key, [0.0, 0.0])[column] += us * 1000 / count
        if not sums:
            self.reason = "the trace has no nodes"
        self._found = {
            "prompt": self.point["prompt"],
            "steps": self.steps,
            "prefill_ns": sum(call.us for call in prefill) * 1000,
            "decode_ns": round(sum(call.us for call in steps) * 1000 / max(1, len(steps))),
            "entries": [
                {"group": group, "operator": operator, "prefill_ns": round(first), "decode_ns": round(step)}
                for (group, operator), (first, step) in _bounded(sums)
            ],
        }

    def result(self) -> Json:
        """The profile as results hold it.

        Times are nanoseconds: of the whole prefill, and of one step, the mean of those recorded.
        """
        return {"point": 0, "reason": self.reason, **({} if self.reason else self._found)}


def group_of(name: str) -> str:
    """The first component of a node's path, at the top of a graph with the slash before it; empty without a slash.

    The names that we give to nodes have slashes in them, and so have those that onnxruntime gives to fused nodes: it
    makes them of the name of one of their parts. Others, as of transpositions that it moves, have none.
    """
    first, slash, rest = name.partition("/")
    if not slash:
        return ""
    return (first or f"/{rest.partition('/')[0]}")[:MAX_NAME]


def _fitting(wanted: int, tokens: float) -> int:
    """The longest of a prompt, its half, its quarter and so on that has no more tokens; 0 where there is none.

    Halves: what was cut is of few lengths, and can be compared.
    """
    while wanted and wanted > tokens:
        wanted //= 2
    return wanted


def _bounded(sums: dict[tuple[str, str], list[float]]) -> Iterator[tuple[tuple[str, str], list[float]]]:
    """The entries in the order of the graph, the smallest of too many summed up in one."""
    if len(sums) <= MAX_ENTRIES:
        yield from sums.items()
        return
    totals = [max(1.0, sum(times[column] for times in sums.values())) for column in (0, 1)]
    largest = sorted(sums, key=lambda key: -sum(t / total for t, total in zip(sums[key], totals, strict=True)))
    kept = set(largest[: MAX_ENTRIES - 1]) - {("", "")}
    yield from ((key, times) for key, times in sums.items() if key in kept)
    rest = [times for key, times in sums.items() if key not in kept]
    yield ("", ""), [sum(times[0] for times in rest), sum(times[1] for times in rest)]

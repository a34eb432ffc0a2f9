"""Where two models spend their time: ONNX Runtime's traces of prefill and of decode steps, summed by operator.

Each side is traced twice, in turns (ours, theirs, theirs, ours), so that drift meets both alike. Run as a program, this
file makes one trace in a process of its own. Under the tracer everything is a little slower, most of
all many small operators: shares and differences say where to look, not how long a step takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from profiler.agent.cache import WeightCache
from profiler.jobs import Runtime
from profiler.workloads import Point

WARMUPS, REPEATS, STEPS = 1, 3, 16
"""Sequences not counted, sequences counted, and decode steps in each."""
PHASES = ("prefill", "decode")
REST = "between operators"
_PRODUCTS = {
    "MatMul", "MatMulNBits", "Gemm", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    "FusedGemm", "QGemm", "Einsum",
}  # fmt: skip
Event = Mapping[str, Any]


class Traceable(Protocol):
    """What is traced: `fields` and `files` of `trace_phases`."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Of a job."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """That travel."""


class NoTrace(Exception):  # noqa: N818 - what the tracing process said
    """A model could not be traced; what was measured of it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Time of one call, in ms, means over the traced calls.

    Attributes:
        wall_ms: The whole call.
        operators: By operator type, what is nested in it not counted; `REST` is what no operator accounts for.
        products: Of matrix products, by operator and shapes (rows x inner -> columns).
        counts: How many nodes are behind each entry of the two.
    """

    wall_ms: float
    operators: Mapping[str, float]
    products: Mapping[str, float]
    counts: Mapping[str, float]


def trace_in_turns(sides: Mapping[str, Traceable], runtime: Runtime, point: Point) -> dict[str, dict[str, Phase]]:
    """Phases of each side, means of its traces.

    Raises:
        NoTrace: A side could not be traced.
    """
    made: dict[str, list[dict[str, Phase]]] = {name: [] for name in sides}
    for name in [*sides, *reversed(tuple(sides))]:
        made[name].append(trace_phases(sides[name].fields, sides[name].files, runtime, point))
    return {
        name: {phase: mean_phase([trace[phase] for trace in traces]) for phase in PHASES}
        for name, traces in made.items()
    }


def trace_phases(
    fields: Mapping[str, Any], files: Mapping[str, bytes], runtime: Runtime, point: Point
) -> dict[str, Phase]:
    """Trace a model in a fresh process.

    Args:
        fields: Those of a job that say what is measured (`signature`, and `model_path` for a file).
        files: Graph and recipe of a model whose weights are still to be written.
        runtime: Threads and cores.
        point: Prompt and depth; `STEPS` steps are traced.

    Raises:
        NoTrace: That process failed.
    """
    with tempfile.TemporaryDirectory(prefix="archsearch-profile-") as scratch:
        folder = Path(scratch)
        model = fields.get("model_path")
        if model is None:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            placed = WeightCache(folder / "weights").place(folder / "model.onnx", folder / "recipe.json")
            model = str(placed.model)
        task = {
            "model": model, "signature": fields["signature"], "runtime": runtime.to_json(),
            "point": {**point.to_json(), "decode": STEPS},
        }  # fmt: skip
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        command = [sys.executable, __file__, str(folder / "task.json"), str(folder / "phases.json")]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise NoTrace((done.stderr.strip().splitlines() or ["no message"])[-1][:400])
        found = json.loads((folder / "phases.json").read_text(encoding="utf-8"))
    return {name: Phase(**phase) for name, phase in found.items()}


def mean_phase(phases: Sequence[Phase]) -> Phase:
    """The mean of several traces of one phase."""

    def mean(dicts: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = dict.fromkeys(name for one in dicts for name in one)
        return {name: fmean(one.get(name, 0.0) for one in dicts) for name in names}

    return Phase(
        wall_ms=fmean(phase.wall_ms for phase in phases),
        operators=mean([phase.operators for phase in phases]),
        products=mean([phase.products for phase in phases]),
        counts=mean([phase.counts for phase in phases]),
    )


def make_trace(task: Mapping[str, Any], folder: Path) -> list[Event]:
    """Run the sequences of a task under the tracer; its events."""
    from profiler.agent.session import open_session, pin
    from profiler.agent.timing import Sequence

    pin(task["runtime"])
    session = open_session(Path(task["model"]), task["runtime"], profile=folder / "trace")
    sequence = Sequence(session, dict(task["signature"]), task["point"], 0)
    for _ in range(WARMUPS + REPEATS):
        sequence.reset()
        sequence.run()
    trace = Path(session.end_profiling())
    events: list[Event] = json.loads(trace.read_text(encoding="utf-8"))
    trace.unlink()
    return events


def phases_of(events: Iterable[Event], steps: int = STEPS) -> dict[str, Phase]:
    """Sum a trace of `WARMUPS + REPEATS` sequences, each one prefill and `steps` decode steps.

    Raises:
        ValueError: It has another number of calls, as when the tracer's buffer was full.
    """
    events = sorted(events, key=lambda event: (event.get("ts", 0), -event.get("dur", 0)))
    calls = [event for event in events if event.get("name") == "model_run"]
    wanted = (WARMUPS + REPEATS) * (1 + steps)
    if len(calls) != wanted:
        raise ValueError(f"the trace has {len(calls)} calls, not {wanted}")
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    at = 0
    sums: dict[str, list[tuple[Event, list[Event]]]] = {phase: [] for phase in PHASES}
    for index, call in enumerate(calls):
        end = call["ts"] + call["dur"]
        mine = []
        while at < len(nodes) and nodes[at]["ts"] < end:
            if nodes[at]["ts"] >= call["ts"]:
                mine.append(nodes[at])
            at += 1
        if index >= WARMUPS * (1 + steps):
            sums["decode" if index % (1 + steps) else "prefill"].append((call, mine))
    return {phase: _mean(called) for phase, called in sums.items()}


def _mean(called: list[tuple[Event, list[Event]]]) -> Phase:
    operators: dict[str, float] = defaultdict(float)
    products: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    scale = 1 / len(called)
    wall = sum(call["dur"] for call, _ in called) / 1000 * scale
    for _, nodes in called:
        for event, own_us in _own_times(nodes):
            kind = event["args"]["op_name"]
            operators[kind] += own_us / 1000 * scale
            counts[kind] += scale
            if kind in _PRODUCTS:
                name = f"{kind} {shapes(event['args'])}"
                products[name] += own_us / 1000 * scale
                counts[name] += scale
    operators[REST] = wall - sum(operators.values())
    return Phase(wall_ms=wall, operators=dict(operators), products=dict(products), counts=dict(counts))


def _own_times(nodes: Iterable[Event]) -> Iterator[tuple[Event, float]]:
    """Each node, in order of beginning, with its time in us without that of nodes inside of it (branches, loops)."""
    open_: list[list[Any]] = []  # event, end, own time
    for event in nodes:
        while open_ and open_[-1][1] <= event["ts"]:
            done = open_.pop()
            yield done[0], done[2]
        if open_:
            open_[-1][2] -= event["dur"]
        open_.append([event, event["ts"] + event["dur"], float(event["dur"])])
    for done in reversed(open_):
        yield done[0], done[2]


def shapes(args: Event) -> str:
    """Rows x inner size -> columns of a product, from what the tracer wrote of its first input and output.

    Rows of all leading axes are counted together; a product of two activations is told as such only by its numbers.
    """
    first, result = (next(iter(args[key][0].values())) for key in ("input_type_shape", "output_type_shape"))
    return f"{prod(result[:-1])}x{first[-1]} -> {result[-1]}"


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    made = phases_of(make_trace(job, Path(sys.argv[1]).parent))
    Path(sys.argv[2]).write_text(json.dumps({name: asdict(phase) for name, phase in made.items()}), encoding="utf-8")

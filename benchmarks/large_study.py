"""How long a finished study of thousands of candidates takes to open and rank: `python benchmarks/large_study.py`.

The study is made up (`build_study`): layouts drawn from the 350M space, and results of the size and form that agents
write, whose times come from a seeded cost model with noise. All else is real: the store, its records, judging, ranking.
Prints seconds for each phase between opening the store and the data of the first picture, against the limit of 2 s, and
for ranking again under another budget.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from archsearch.configuration import new_config
from archsearch.measurement import ANCHOR, CANDIDATE, WATCH, Evidence, Measurement, conditions
from archsearch.records import kept_summary, layout_json, to_record
from archsearch.store import Store
from archsearch.study import WATCH_EVERY
from archsearch.timing import LEFT_OUT, POOLS, RUN_ENDED, RUN_STARTED
from profiler.agent.protocol import METHOD
from profiler.jobs import MeasurementKey
from profiler.results import read_result
from profiler.workloads import Point
from search_space.cost import flops, parameters, state_bytes
from search_space.layout import Layout, block_id, distinct_blocks
from search_space.layout_file import NamedLayout, parse_layout
from search_space.sampling import Rejection, sample
from search_space.space_file import load_space

LIMIT_S = 2.0
"""From opening the store to the data of the first picture."""
RERANK_LIMIT_S = 0.3
"""From the move of a budget's slider to the new ranking."""
DEVICES = ("laptop", "board")
BUDGETS = ("peak_rss_mib<=600", "ttft_ms<=1s")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the cost model knows of a device: operations and bytes per second, and what each kind of mixer adds."""

    name: str
    gflops: float
    gb_per_s: float
    penalties: Mapping[str, tuple[float, float]]  # by letter: milliseconds that a layer adds to a prefill, to a step


MACHINES = {
    name: Machine(
        name=name, gflops=gflops, gb_per_s=gb_per_s,
        penalties={
            letter: (slow * prefill, slow * step)
            for letter, prefill, step in (
                ("C", 0.4, 0.02), ("W", 4.0, 0.05), ("G", 3.0, 0.06), ("L", 1.2, 0.05), ("D", 2.5, 0.07), ("N", 0, 0),
            )
        },
    )
    for name, gflops, gb_per_s, slow in ((DEVICES[0], 300.0, 30.0, 1.0), (DEVICES[1], 90.0, 12.0, 2.5))
}  # fmt: skip


class _Recording:
    """A chooser that draws evenly and remembers, as a study keeps its sampler's choices."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.knobs: dict[str, tuple[list[Any], int]] = {}

    def choose(self, name: str, options: Sequence[T]) -> T:
        index = self._rng.randrange(len(options))
        self.knobs[name] = (list(options), index)
        return options[index]


def draw_layouts(count: int, rng: random.Random) -> Iterator[tuple[Layout, dict[str, Any]]]:
    """Different layouts of the shipped 350M space, each with the choices that made it."""
    space = load_space("350m")
    seen: set[str] = set()
    while len(seen) < count:
        chooser = _Recording(rng)
        layout = sample(space, chooser)
        if not isinstance(layout, Rejection) and layout.layout_id not in seen:
            seen.add(layout.layout_id)
            yield layout, {"attributes": {}, "knobs": chooser.knobs}


def build_study(
    store: Store, name: str, *, candidates: int = 5000, devices: Sequence[str] = DEVICES[:1], seed: int = 0
) -> None:
    """Make a finished study: anchors, candidates that each device measured, and the watched anchor in between.

    One candidate in a hundred has failed; the devices are as quiet as devices are, so that few are thrown away.

    Args:
        store: Open; holds no study of that name.
        name: Of the study.
        candidates: How many.
        devices: One or both of `DEVICES`.
        seed: Of everything drawn.
    """
    rng = random.Random(seed)
    config = new_config({
        "space": "350m", "workload": "quick", "precision": "int4", "objective": None, "budget": [], "anchor": None,
        "sampler": "random", "seed": seed, "across": "worst", "tune": False, "lowering": {},
    })  # fmt: skip
    store.create_study(name, config)
    owner = "benchmark:1:1"
    pools = {device: device for device in devices}
    store.add_event(name, RUN_STARTED, {"devices": list(devices), "owner": owner, POOLS: pools})
    writers = [_Writer(store, name, MACHINES[device], random.Random(f"{seed} {device}"), owner) for device in devices]
    anchors = [parse_layout(dict(anchor)) for anchor in config["anchors"]]
    for writer in writers:
        for anchor in anchors:
            writer.measure(anchor, ANCHOR)
    for at, (layout, choices) in enumerate(draw_layouts(candidates, rng), start=1):
        data = layout_json(layout)
        number = store.add_trial(name, layout.layout_id, layout.code, data, choices)
        for writer in writers:
            writer.measure(NamedLayout(layout=layout), CANDIDATE, trial=number)
            if at % WATCH_EVERY == 0 or at == candidates:
                writer.measure(anchors[0], WATCH)
        assert number is not None
        store.set_trial(name, number, "done")
    store.add_event(name, RUN_ENDED, {"driver": {"ask": 1.0}, LEFT_OUT: {}, "owner": owner})


class _Writer:
    """Stores what one device would have measured, one after the other."""

    def __init__(self, store: Store, study: str, machine: Machine, rng: random.Random, owner: str) -> None:
        self._store, self._study, self._machine, self._rng, self._owner = store, study, machine, rng, owner
        self._clock = 1.8e9
        self._fingerprint = hashlib.sha256(machine.name.encode()).hexdigest()[:16]
        self._count = 0

    def measure(self, named: NamedLayout, role: str, *, trial: int | None = None) -> None:
        layout, rng = named.layout, self._rng
        self._clock += 20 + rng.random()
        self._count += 1
        failed = role == CANDIDATE and rng.random() < 0.01
        point = Point(prompt=256, decode=32)
        job_id = f"{self._machine.name}-{self._count}-{layout.code[:24]}"
        label = named.name or f"#{trial} {layout.code}"
        runtime = {
            "cores": None, "providers": [["CPUExecutionProvider", {}]], "session_config": {}, "threads": 2,
        }  # fmt: skip
        key = MeasurementKey(fields={
            "content": hashlib.sha256(layout.layout_id.encode()).hexdigest(), "device": self._fingerprint,
            "memory_mib": None, "method": METHOD, "points": [point.to_list()], "runtime": runtime,
            "runtime_version": "1.31.1",
        })  # fmt: skip
        raw = None if failed else self._result(layout, job_id, watch=role == WATCH)
        lowerings = {block_id(block, width): next(iter(block.lowerings)) for block, width in distinct_blocks(layout)}
        measurement = Measurement(
            job_id=job_id, role=role, layout=layout, name=named.name,
            label=f"{label} (watch for drift)" if role == WATCH else label, device=self._machine.name,
            workload="quick", points=(point,), precision="int4", status="timeout" if failed else "ok",
            reason="no answer within 600 s" if failed else "",
            evidence=None if raw is None else Evidence(lambda: read_result(raw)),
            weights_bytes=_weights_bytes(layout), bytes_sent=160_000 + rng.randrange(8000), created_unix=self._clock,
            trial=trial, lowerings=lowerings, conditions=conditions(key.fields), seed=0,
        )  # fmt: skip
        record = to_record(
            measurement, study=self._study, key=key, device_fingerprint=self._fingerprint, raw_result=raw,
            info={
                "owner": self._owner, "fresh": role == WATCH,
                "agent_seconds": {"check": 0.1, "load": 1.8, "memory": 1.6, "timed": 10.1, "total": 20.0},
                "driver_seconds": {"claim": 0.003, "reference": 0.2, "send": 0.03, "wait": 20.0},
            },
        )  # fmt: skip
        self._store.add_measurement(
            replace(record, key_hash=job_id if role == WATCH else record.key_hash),
            layout=layout_json(layout), code=layout.code, summary=kept_summary(measurement),
        )  # fmt: skip

    def _result(self, layout: Layout, job_id: str, *, watch: bool) -> bytes:
        """What an agent would have written."""
        ttft_ms, step_ms, peak_mib = _costs(layout, self._machine)
        rng = self._rng
        processes: list[dict[str, Any]] = [_process(0, "check", operators={"MatMulNBits": 67, "Mul": 86, "Add": 29})]
        for index in (1, 2, 3):
            level = rng.gauss(1, 0.004)
            warmup = [_sequence(rng, ttft_ms * level * 1.04, step_ms * level * 1.04, kept=False) for _ in range(2)]
            repeats = [_sequence(rng, ttft_ms * level, step_ms * level, kept=True) for _ in range(2 + rng.randrange(2))]
            samples = {
                "point": 0, "warmup": warmup, "repeats": repeats, "warm": rng.random() > 0.01,
                "logits": _logits(layout, rng),
            }  # fmt: skip
            processes.append(_process(index, "timing", load_ms=420 * rng.uniform(0.9, 1.2), points=[samples]))
        if not watch:
            memory = {
                "peak_rss_mib": round(peak_mib * rng.gauss(1, 0.003), 4), "rss_anon_mib": 250.1, "rss_file_mib": 120.5,
                "baseline_rss_mib": 60.0, "phases": {"load": 300.0, "prefill": 380.0}, "source": "VmHWM",
            }  # fmt: skip
            processes.append(_process(4, "memory", memory=memory))
        environment = {
            "host": self._machine.name, "machine": "x86_64", "cpu_model": "made up", "cores": 2, "memory_mib": 24105.6,
            "os": "Linux", "python": "3.11.7", "cpu_mhz": [2596.13, 2596.13], "load1": 0.5, "numpy": "2.4.6",
            "onnxruntime": "1.31.1",
        }  # fmt: skip
        return json.dumps({
            "format": 1, "job_id": job_id, "method": METHOD, "status": "ok", "reason": "", "environment": environment,
            "processes": processes, "checks": [{"name": "short_conv", "ok": True, "rel_rms": 1e-6, "tolerance": 0.01}],
            "seconds": {"timed": 10.1, "warmup": 9.0, "total": 20.0}, "stopped_because": "interval",
            "weights": {"bytes": _weights_bytes(layout), "cached": False},
        }).encode()  # fmt: skip


def _process(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "index": index, "kind": kind, "pid": 2000 + index, "seconds": {"start": 0.48, "load": 0.42, "other": 0.05},
        "load_ms": None, "points": [], "operators": None,
        "providers": {"CPUExecutionProvider": 349} if kind == "check" else None, "memory": None, "exit": "ok", **more,
    }  # fmt: skip


def _sequence(rng: random.Random, ttft_ms: float, step_ms: float, *, kept: bool) -> dict[str, Any]:
    prefill = int(ttft_ms * rng.lognormvariate(0, 0.01) * 1e6)
    steps = [int(step_ms * rng.lognormvariate(0, 0.03) * (3 if rng.random() < 0.002 else 1) * 1e6) for _ in range(32)]
    return {
        "prefill_ns": prefill, "ttft_ns": prefill + 40_000 + rng.randrange(40_000), "decode_ns": steps,
        "other_cpu": round(rng.uniform(0, 0.03), 4), "kept": kept,
    }  # fmt: skip


def _logits(layout: Layout, rng: random.Random) -> dict[str, Any]:
    """Those of the layout, with the differences that kernels make."""
    own = random.Random(layout.layout_id)
    sample_of = [own.gauss(1, 1.2) * rng.gauss(1, 1e-3) for _ in range(64)]
    tokens = [own.randrange(layout.embedding.vocab_size) for _ in range(16)]
    rms = math.sqrt(sum(value * value for value in sample_of) / len(sample_of))
    return {"finite": True, "tokens": tokens, "sample": sample_of, "rms": rms}


def _weights_bytes(layout: Layout) -> int:
    """About what int4 with one scale for 32 values takes."""
    return int(parameters(layout).total * 0.625)


def _costs(layout: Layout, machine: Machine) -> tuple[float, float, float]:
    """Milliseconds to the first token and of a step, and the peak of memory in MiB."""
    weights, state = _weights_bytes(layout), state_bytes(layout, context=288)
    ttft_ms = flops(layout, tokens=256, context=256) / machine.gflops / 1e6
    step_ms = (weights + state) / machine.gb_per_s / 1e6
    for letter in layout.code:
        prefill, step = machine.penalties[letter]
        ttft_ms, step_ms = ttft_ms + prefill, step_ms + step
    return ttft_ms, step_ms, 180 + (1.1 * weights + 4 * state) / 2**20 + 0.02 * layout.width


def _timed(phases: dict[str, float], name: str, do: Callable[[], T]) -> T:
    begun = time.perf_counter()
    result = do()
    phases[name] = time.perf_counter() - begun
    return result


def measure(path: Path, name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each phase up to the first picture, and of ranking again; in a process that has imported it all."""
    import moocore  # noqa: F401 - with what it brings it takes longer than to rank
    import scipy.special  # noqa: F401

    from archsearch.judging import Judgement
    from archsearch.pauses import no_collection
    from archsearch.records import load_measurements
    from archsearch.table import rows
    from reports.budgets import parse_budgets
    from reports.ranking import prepare

    first: dict[str, float] = {}
    store = _timed(first, "open the store", lambda: Store.open(path, create=False))
    with store, no_collection():
        record = store.study(name)
        assert record is not None
        measurements = _timed(first, "read measurements", lambda: load_measurements(store, name))
        watched = parse_layout(dict(record.config["anchors"][0])).layout.layout_id
        judgement = _timed(first, "judge them", lambda: Judgement(measurements, watched))
        table = _timed(first, "rows", lambda: rows(measurements, judgement))
        objectives = record.config["objectives"]
        prepared = _timed(first, "prepare the ranking", lambda: prepare(table, objectives, reference=watched))
        _timed(first, "rank", prepared.rank)
        again: dict[str, float] = {}
        _timed(again, "was anything added?", partial(store.version, name))
    for budget in BUDGETS:
        _timed(again, f"rank with {budget}", partial(prepared.rank, parse_budgets([budget])))
    return first, again


def _fresh(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """`measure` in a process that has read nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, path, "large").result()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=5000, help="of the study (default %(default)s)")
    parser.add_argument("--devices", type=int, default=1, choices=(1, 2), help="that measured them (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="keeps the store, or has it from before (default: a passing one)")
    parser.add_argument("--repeats", type=int, default=3, help="processes; their median is shown (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        path = (options.folder or Path(passing)) / f"large-{options.candidates}-{options.devices}-{options.seed}.db"
        if not path.exists():
            begun = time.perf_counter()
            with Store.open(path) as store:
                build_study(
                    store, "large", candidates=options.candidates, devices=DEVICES[: options.devices],
                    seed=options.seed,
                )  # fmt: skip
            print(f"built in {time.perf_counter() - begun:.1f} s: {path.stat().st_size / 2**20:.0f} MiB")
        runs = [_fresh(path) for _ in range(options.repeats)]
    first = {phase: median(run[0][phase] for run in runs) for phase in runs[0][0]}
    again = {phase: median(run[1][phase] for run in runs) for phase in runs[0][1]}
    total = sum(first.values())
    for phase, seconds in first.items():
        print(f"{phase:32} {seconds:8.3f} s {seconds / total:6.1%}")
    print(f"{'the first picture':32} {total:8.3f} s {total / LIMIT_S:6.2f} of the limit of {LIMIT_S:g} s")
    for phase, seconds in again.items():
        print(f"{phase:32} {seconds:8.3f} s {seconds / RERANK_LIMIT_S:6.2f} of the limit of {RERANK_LIMIT_S:g} s")


if __name__ == "__main__":
    main()

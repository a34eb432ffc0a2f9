"""Two models stepping in turns within one process: what tells 1% apart where processes differ by 10%.

Which of two models a process loads first matters as much as what they are: the first one decodes 8% to 11% slower here.
So processes come in pairs, each side loaded first once, and a pair is one observation. What is told is which graph is
slower, all else equal; how long a step takes in a process of its own, as it is deployed, `peer_measure` says.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

from peer_profile import NoTrace, Traceable
from profiler.agent.cache import WeightCache
from profiler.agent.conditions import OtherLoad
from profiler.jobs import Runtime
from profiler.stats import Interval, ratio_of_pairs
from profiler.workloads import Point

PAIRS, ROUNDS = 3, 4
"""Pairs of processes, and timed sequences of each side in a process."""
SLICE_S = 30.0
"""Of a process; sequences so long that three do not fit get one warm-up, and as many turns as fit, at least one."""
MAX_STEPS = 32
WHAT = {"ttft_ms": "ttft_ns", "decode_ms": "decode_ns"}


def ratios_in_turns(sides: Mapping[str, Traceable], runtime: Runtime, point: Point) -> dict[str, Interval]:
    """The first side's time over the second's, by what is compared, with the 95% t interval over pairs of processes.

    Raises:
        NoTrace: A process failed.
    """
    with tempfile.TemporaryDirectory(prefix="archsearch-turns-") as scratch:
        folder = Path(scratch)
        models = [_model(side, folder / str(at)) for at, side in enumerate(sides.values())]
        task = {
            "models": models, "signatures": [side.fields["signature"] for side in sides.values()],
            "runtime": runtime.to_json(), "point": {**point.to_json(), "decode": min(point.decode, MAX_STEPS)},
        }  # fmt: skip
        made = [
            tuple(_process({**task, "first": first}, folder) for first in ((0, 1) if pair % 2 else (1, 0)))
            for pair in range(PAIRS)
        ]
    return {what: over_pairs([(one[what], other[what]) for one, other in made]) for what in WHAT}


def over_pairs(pairs: list[tuple[float, float]]) -> Interval:
    """Logarithms of ratios, two of a pair: their mean as a ratio, with the t interval over pairs."""
    found = ratio_of_pairs([math.exp(fmean(pair)) for pair in pairs], [1.0] * len(pairs))
    assert found is not None
    return found


def _model(side: Traceable, folder: Path) -> str:
    if side.fields.get("model_path") is not None:
        return str(side.fields["model_path"])
    folder.mkdir()
    for name, data in side.files.items():
        (folder / name).write_bytes(data)
    return str(WeightCache(folder / "weights").place(folder / "model.onnx", folder / "recipe.json").model)


def _process(task: Mapping[str, Any], folder: Path) -> dict[str, float]:
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    command = [sys.executable, __file__, str(folder / "task.json"), str(folder / "ratios.json")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NoTrace((done.stderr.strip().splitlines() or ["no message"])[-1][:400])
    found: dict[str, float] = json.loads((folder / "ratios.json").read_text(encoding="utf-8"))
    return found


def measure(task: Mapping[str, Any]) -> dict[str, float]:
    """Logarithm of the first side's median time over the second's, in this process."""
    from profiler.agent.comparison import Group
    from profiler.agent.session import open_session, pin, share_threads
    from profiler.agent.timing import Sequence

    pin(task["runtime"])
    share_threads(task["runtime"])
    first = int(task["first"])
    sessions = {at: open_session(Path(task["models"][at]), task["runtime"], shared=True) for at in (first, 1 - first)}
    members = {at: Sequence(sessions[at], dict(task["signatures"][at]), task["point"], 0) for at in (0, 1)}
    protocol = {"min_repeats": ROUNDS, "max_repeats": ROUNDS, "max_warmups": 2, "max_other_cpu": 1.0}
    group = Group(members, protocol, OtherLoad(time.process_time), {"warmup": 0.0, "timed": 0.0}, turn=first)
    group.measure(ROUNDS, SLICE_S)
    if group.failed:
        raise ValueError("; ".join(group.failed.values()))

    def log(what: str) -> float:
        ours, theirs = (
            median(median(time) if isinstance(time := repeat[what], list) else time for repeat in record["repeats"])
            for _, record in sorted(group.records.items())
        )
        return math.log(ours / theirs)

    return {name: log(what) for name, what in WHAT.items()}


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(json.dumps(measure(job)), encoding="utf-8")

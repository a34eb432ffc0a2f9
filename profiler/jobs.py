"""A job: what an agent needs to measure one graph on one device, and the key that says when two are the same.

Jobs become the JSON that the agent reads (`Job.to_json`). A key (`Job.key`) holds what a number depends on and leaves
out what only decides how well it is known (protocol, time-outs, cooling): a measurement under an equal key is reused.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from profiler.devices import Cooling, Provider
from profiler.errors import JobError
from profiler.workloads import Point

JOB_FORMAT = 1
MAX_JOB_POINTS = 64
"""What a result can hold."""
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How ONNX Runtime is set up; all of it is part of the key.

    Attributes:
        threads: Threads inside an operator, at least 1.
        cores: Core ids that the worker is bound to, or None for all.
        providers: Execution providers in order of preference.
        session_config: Session configuration entries.
    """

    threads: int
    cores: tuple[int, ...] | None = None
    providers: tuple[Provider, ...] = (Provider(name="CPUExecutionProvider", options={}),)
    session_config: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise JobError(f"threads must be at least 1, not {self.threads}; nothing is left to the runtime's choice")

    def to_json(self) -> dict[str, Any]:
        """As the agent reads it."""
        return {
            "threads": self.threads,
            "cores": None if self.cores is None else list(self.cores),
            "providers": [[provider.name, dict(provider.options)] for provider in self.providers],
            "session_config": dict(self.session_config),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How hard the agent tries: processes, repeats, warm-up, and when it stops.

    Attributes:
        min_processes: Fresh processes at least.
        max_processes: And at most.
        target_half_width: Relative half width of the 95% interval at which it stops.
        time_budget_s: Seconds of timing processes (load, warm-up, timed work) after which it stops.
        min_repeats: Sequences per process at least; one where they are too long for the time budget.
        max_repeats: And at most.
        warmup_tolerance: Relative gain over the fastest sequence before, below which warm-up has ended.
        max_warmups: Warm-up sequences at most.
        max_other_cpu: Share of all cores used by others above which a sample is discarded.
        memory_pass: Whether peak memory is taken in a process of its own.
        profile: Whether the first point is run once more before, under the profiler, to see where the time goes.
        seed: Of the prompt's tokens and of the order of work.
    """

    min_processes: int = 3
    max_processes: int = 6
    target_half_width: float = 0.02
    time_budget_s: float = 30.0
    min_repeats: int = 2
    max_repeats: int = 8
    warmup_tolerance: float = 0.03
    max_warmups: int = 5
    max_other_cpu: float = 0.10
    memory_pass: bool = True
    profile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_processes <= self.max_processes:
            raise JobError(f"processes: {self.min_processes} to {self.max_processes} is no range from 1 up")
        if not 1 <= self.min_repeats <= self.max_repeats:
            raise JobError(f"repeats: {self.min_repeats} to {self.max_repeats} is no range from 1 up")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCall:
    """One call of a check: `tokens` positions filled by `fill`; the values expected at evenly spread flat indices."""

    tokens: int
    fill: Mapping[str, Any]
    expected: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A small graph whose output is compared with host reference values before anything is timed.

    Attributes:
        name: Block spec and lowering, for messages.
        graph: File name of the graph in the job folder.
        recipe: File name of its weight recipe.
        signature: How it is driven.
        output: Which output is compared.
        calls: Calls in order, state carried from one to the next.
        tolerance: Largest relative root-mean-square difference.
        contender: Which contender of a comparison it is of; one that fails its check is left out.
    """

    name: str
    graph: str
    recipe: str
    signature: Mapping[str, Any]
    output: str
    calls: tuple[CheckCall, ...]
    tolerance: float
    contender: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One graph of a comparison: several graphs timed in turns within the same processes.

    Attributes:
        name: Unlike the others'.
        signature: How it is driven.
        content_id: Identity of its graph and weights.
        points: What of it is timed. Points of equal sizes of different contenders take turns.
        traced: Whether its operators are counted before: it is then left out when it does not load. One that is not
            traced must be like one that is, but for its size.
    """

    name: str
    signature: Mapping[str, Any]
    content_id: str
    points: tuple[Point, ...]
    traced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement to be made.

    Attributes:
        job_id: Names the job's folder on the device.
        label: For people.
        signature: How the graph is driven (inputs, states, logits).
        runtime: Threads, cores, providers.
        points: What is measured.
        content_id: Identity of graph and weights: `candidate_id` or a foreign model's sha256. Part of the key.
        model_path: A file already on the device; None for a candidate sent as model.onnx and recipe.json.
        protocol: How hard the agent tries.
        memory_mib: Memory limit of the worker, or None.
        timeout_s: Time limit of the whole job, once it has the device to itself.
        lease_s: How long it waits for that.
        clock_mhz: The clock that cores are set to meanwhile, or None to leave them alone.
        cooling: What must hold before it starts.
        checks: Graphs compared first.
        contenders: The graphs of a comparison; `points` are then theirs, one after the other.
    """

    job_id: str
    label: str
    signature: Mapping[str, Any]
    runtime: Runtime
    points: tuple[Point, ...]
    content_id: str
    model_path: str | None = None
    protocol: Protocol = field(default_factory=Protocol)
    memory_mib: int | None = None
    timeout_s: float = 300.0
    lease_s: float = 3600.0
    clock_mhz: int | None = None
    cooling: Cooling = field(default_factory=Cooling)
    checks: tuple[Check, ...] = ()
    contenders: tuple[Contender, ...] = ()

    def __post_init__(self) -> None:
        require_job_id(self.job_id)
        if not self.points:
            raise JobError("a job needs at least one point")
        if self.model_path is not None and not self.model_path.startswith("/"):
            raise JobError(f"the model on the device must be an absolute path, not {self.model_path!r}")
        theirs = tuple(point for contender in self.contenders for point in contender.points)
        if self.contenders and theirs != self.points:
            raise JobError("the points of a comparison are those of its contenders, in their order")
        if len(self.points) > MAX_JOB_POINTS:
            raise JobError(f"{len(self.points)} points are more than the {MAX_JOB_POINTS} that a job may have")

    @property
    def contender_of(self) -> tuple[int, ...]:
        """For each point of a comparison, the index of its contender; empty for other jobs."""
        return tuple(at for at, contender in enumerate(self.contenders) for _ in contender.points)

    def to_json(self) -> dict[str, Any]:
        """As the agent reads it."""
        model: dict[str, Any] = {"graph": "model.onnx", "recipe": "recipe.json"}
        points: list[dict[str, int]] = [point.to_json() for point in self.points]
        if self.model_path is not None:
            model = {"path": self.model_path}
        elif self.contenders:
            model = {
                "contenders": [
                    {
                        "name": contender.name,
                        "signature": dict(contender.signature),
                        "traced": contender.traced,
                        **contender_files(at),
                    }
                    for at, contender in enumerate(self.contenders)
                ]
            }
            points = [{**point, "contender": at} for point, at in zip(points, self.contender_of, strict=True)]
        return {
            "format": JOB_FORMAT,
            "job_id": self.job_id,
            "label": self.label,
            "model": model,
            "signature": dict(self.signature),
            "runtime": self.runtime.to_json(),
            "points": points,
            "protocol": asdict(self.protocol),
            "limits": {"memory_mib": self.memory_mib, "timeout_s": self.timeout_s, "lease_s": self.lease_s},
            "clock_mhz": self.clock_mhz,
            "cooling": self.cooling.model_dump(mode="json"),
            "checks": [
                {
                    "name": check.name,
                    "graph": check.graph,
                    "recipe": check.recipe,
                    "signature": dict(check.signature),
                    "output": check.output,
                    "calls": [
                        {"tokens": call.tokens, "fill": dict(call.fill), "expected": list(call.expected)}
                        for call in check.calls
                    ],
                    "tolerance": check.tolerance,
                    "contender": check.contender,
                }
                for check in self.checks
            ],
        }

    def file_names(self) -> tuple[str, ...]:
        """Files that must travel with job.json."""
        model = ["model.onnx", "recipe.json"] if self.model_path is None else []
        if self.contenders:
            model = [name for at in range(len(self.contenders)) for name in contender_files(at).values()]
        checks = [name for check in self.checks for name in (check.graph, check.recipe)]
        return tuple(dict.fromkeys(model + checks))

    def key(self, *, method: str | int, runtime_version: str, device_fingerprint: str) -> MeasurementKey:
        """What this job's numbers depend on.

        The memory limit is in it, since it decides between a number and `out_of_memory`; protocol, time-outs, cooling,
        checks, label and job id are not.

        Args:
            method: Version of the measuring code.
            runtime_version: Version of ONNX Runtime on the device.
            device_fingerprint: `DeviceSession.fingerprint`.
        """
        return MeasurementKey(
            fields={
                "content": self.content_id,
                "points": [point.to_list() for point in self.points],
                **({"contenders": list(self.contender_of)} if self.contenders else {}),
                "runtime": self.runtime.to_json(),
                "memory_mib": self.memory_mib,
                "method": method,
                "runtime_version": runtime_version,
                "device": device_fingerprint,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementKey:
    """What a measurement depends on, and its hash.

    Attributes:
        fields: Plain JSON values.
    """

    fields: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Sha256 of the canonical JSON of `fields`, in hex."""
        return _sha256(self.fields)


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_job_id(job_id: str) -> bool:
    """Whether it could name a job's folder."""
    return _JOB_ID.fullmatch(job_id) is not None


def require_job_id(job_id: str) -> None:
    """Refuse what would not name a folder of its own.

    Raises:
        JobError: It is not made of letters, digits, '.', '_' and '-', or does not begin with a letter or digit.
    """
    if not is_job_id(job_id):
        raise JobError(f"job id {job_id[:100]!r} is not made of letters, digits, '.', '_' and '-'")


def contender_files(at: int) -> dict[str, str]:
    """File names of the contender with this index."""
    return {"graph": f"contender{at}.onnx", "recipe": f"contender{at}.json"}


def comparison_id(contenders: Sequence[Contender]) -> str:
    """Identity of a comparison: that of its contenders, in order."""
    return _sha256([[contender.name, contender.content_id] for contender in contenders])


def candidate_id(graph: bytes, recipe_id: str) -> str:
    """Identity of a candidate: its graph's bytes and its weight recipe."""
    return _sha256({"graph": hashlib.sha256(graph).hexdigest(), "recipe": recipe_id})


def new_job_id(stem: str = "job") -> str:
    """A fresh job id that sorts by time and starts with a readable stem."""
    safe = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:40] or "job"
    return f"{safe}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


def pack_files(job: Job, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Check that exactly the job's files are given, and add job.json.

    Raises:
        JobError: A file is missing, unexpected or has a name that is no plain file name.
    """
    wanted: Sequence[str] = job.file_names()
    for name in (*wanted, *files):
        if not _FILE.fullmatch(name):
            raise JobError(f"{name!r} is not a plain file name")
    if missing := sorted(set(wanted) - set(files)):
        raise JobError(f"job {job.job_id} lacks {', '.join(missing)}")
    if extra := sorted(set(files) - set(wanted)):
        raise JobError(f"job {job.job_id} does not use {', '.join(extra)}")
    try:
        text = json.dumps(job.to_json(), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise JobError(f"job {job.job_id} cannot be written as JSON: {error}") from error
    return {**files, "job.json": text.encode()}

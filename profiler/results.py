"""Reads what an agent wrote. It is untrusted: sizes, counts, ranges and types are bounded before anything is used.

`parse_result`, `parse_status` and `parse_environment` turn bytes into frozen objects or raise `ResultError`, which says
what was wrong. Numbers are finite, times are non-negative nanoseconds, memory is MiB.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from profiler.errors import ResultError
from profiler.jobs import Job
from profiler.untrusted import LARGEST, bound, bounded_values, parse_json, shown

MAX_RESULT_BYTES = 32 * 2**20
MAX_STATUS_BYTES = 64 * 2**10
MAX_ENTRIES = 1000
"""Of a profile: what an agent gives at most."""
_HOUR_NS = 3_600_000_000_000

Status = Literal[
    "ok", "invalid", "timeout", "out_of_memory", "busy", "not_cooled", "throttled", "failed", "cancelled"
]  # fmt: skip
AgentState = Literal["waiting_lease", "cooling", "weights", "checking", "timing", "memory", "done"]

Text = Annotated[str, Field(max_length=4000)]
Word = Annotated[str, Field(max_length=200)]
Nanoseconds = Annotated[int, Field(ge=0, le=24 * _HOUR_NS)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]
MiB = Annotated[float, Field(ge=0, le=2**26)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Single = Annotated[float, Field(ge=-4e38, le=4e38)]
"""A number that a device computed in float32: its square is finite here."""
Providers = Annotated[dict[Word, JsonValue], Field(max_length=64), AfterValidator(bounded_values)]
SecondsByPhase = Annotated[dict[Word, Seconds], Field(max_length=32)]


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Rep(_Read):
    """One sequence: zero states, a prefill, then single steps.

    Attributes:
        prefill_ns: The prefill call.
        ttft_ns: Prefill and arg-max.
        decode_ns: Each step, arg-max included.
        other_cpu: Share of all cores that others used meanwhile; None where it cannot be read.
        kept: Whether it counts; discarded ones stay on record.
    """

    prefill_ns: Nanoseconds
    ttft_ns: Nanoseconds
    decode_ns: Annotated[tuple[Nanoseconds, ...], Field(max_length=65536, fail_fast=True)]
    other_cpu: Annotated[float, Field(ge=0, le=1.5)] | None = None
    kept: bool = True


class Logits(_Read):
    """What the first sequence of a point produced, for comparison between processes and devices."""

    finite: bool
    tokens: Annotated[tuple[Count, ...], Field(max_length=4096, fail_fast=True)] = ()
    sample: Annotated[tuple[Single | None, ...], Field(max_length=1024, fail_fast=True)] = ()
    rms: Single | None = None


class PointSamples(_Read):
    """One point in one process.

    Attributes:
        point: Index into the job's points.
        warmup: Sequences before warm-up ended.
        repeats: Timed sequences.
        warm: Whether warm-up was seen to end.
        logits: Output sample, where one was taken.
    """

    point: Annotated[int, Field(ge=0, le=64)]
    warmup: Annotated[tuple[Rep, ...], Field(max_length=256, fail_fast=True)] = ()
    repeats: Annotated[tuple[Rep, ...], Field(max_length=1024, fail_fast=True)] = ()
    warm: bool
    logits: Logits | None = None


class Memory(_Read):
    """Peak memory of a worker process, from its own pass; `point` in a comparison, which has a pass for each."""

    peak_rss_mib: MiB
    rss_anon_mib: MiB | None = None
    rss_file_mib: MiB | None = None
    swap_mib: MiB | None = None
    baseline_rss_mib: MiB | None = None
    phases: Annotated[dict[Word, MiB], Field(max_length=32)] = Field(default_factory=dict)
    source: Word = ""
    point: Annotated[int, Field(ge=0, le=64)] | None = None


class ProfileEntry(_Read):
    """Time in nodes of one operator whose names share the first component of their path.

    Attributes:
        group: That component; with the slash before it at the top of a graph, empty for nodes without such a name.
        operator: Operator type; empty, with an empty group, for all that were too small to be listed.
        prefill_ns: In the prefill.
        decode_ns: In one step.
    """

    group: Word
    operator: Word
    prefill_ns: Nanoseconds
    decode_ns: Nanoseconds


class OperatorProfile(_Read):
    """Where the time of one sequence went, under onnxruntime's profiler.

    Attributes:
        point: Index into the job's points; its sequence was run.
        reason: Why there is no profile; empty where there is one.
        prompt: Tokens of the recorded prefill: the point's, or fewer where it would have taken too long.
        steps: Decode steps that were recorded after it.
        prefill_ns: The calls of the prefill, with what lies between nodes.
        decode_ns: The call of one step, mean over the steps.
        entries: Time in nodes; each once, what is nested in it not counted.
    """

    point: Annotated[int, Field(ge=0, le=64)]
    reason: Text = ""
    prompt: Count = 0
    steps: Count = 0
    prefill_ns: Nanoseconds = 0
    decode_ns: Nanoseconds = 0
    entries: Annotated[tuple[ProfileEntry, ...], Field(max_length=MAX_ENTRIES, fail_fast=True)] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({(entry.group, entry.operator) for entry in self.entries}) < len(self.entries):
            raise ValueError("an operator is listed twice in one group")
        if not self.reason and not (self.prompt and self.prefill_ns and self.entries):
            raise ValueError("neither times nor a reason why there are none")
        return self


class ProcessRecord(_Read):
    """One worker process, from start to exit."""

    index: Annotated[int, Field(ge=0, le=10_000)]
    kind: Literal["timing", "memory", "check"]
    pid: Annotated[int, Field(ge=0, le=2**31)] | None = None
    seconds: SecondsByPhase = Field(default_factory=dict)
    load_ms: Annotated[float, Field(ge=0, le=1e8)] | None = None
    points: Annotated[tuple[PointSamples, ...], Field(max_length=64, fail_fast=True)] = ()
    operators: Annotated[dict[Word, Count], Field(max_length=1000)] | None = None
    providers: Providers | None = None
    profile: OperatorProfile | None = None
    memory: Memory | None = None
    exit: Text = ""


class CheckRecord(_Read):
    """One block compared with its host reference on the device."""

    name: Word
    ok: bool
    rel_rms: float | None = None
    tolerance: float | None = None
    message: Text = ""


class ContenderRecord(_Read):
    """One graph of a comparison, as the device found it.

    Attributes:
        points: Indices of its points.
        error: Why it does not run here; empty when it does. What was timed before it failed stays on record.
        bytes: Its external-data file.
        operators: Operators of the optimised graph, counted.
        providers: Execution providers of its nodes, counted.
    """

    name: Word
    points: Annotated[tuple[Annotated[int, Field(ge=0, le=64)], ...], Field(max_length=64, fail_fast=True)] = ()
    error: Text = ""
    bytes: Count = 0
    cached: bool = False
    operators: Annotated[dict[Word, Count], Field(max_length=1000)] | None = None
    providers: Providers | None = None


class Weights(_Read):
    """The external-data file that the device wrote."""

    bytes: Count
    cached: bool


class Environment(BaseModel):
    """The device as it describes itself. Further keys are kept as bounded JSON, for the record."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    host: Word | None = None
    machine: Word | None = None
    cpu_model: Word | None = None
    cores: int | None = Field(default=None, ge=1, le=65536)
    memory_mib: MiB | None = None
    os: Word | None = None
    kernel: Word | None = None
    libc: Word | None = None
    python: Word | None = None
    numpy: Word | None = None
    onnxruntime: Word | None = None
    governor: Word | None = None
    cpu_mhz: Annotated[tuple[Single, ...], Field(max_length=4096, fail_fast=True)] | None = None
    temperature_c: Single | None = None
    load1: Single | None = None

    @model_validator(mode="after")
    def _bounded_extras(self) -> Self:
        extras: dict[str, Any] = self.__pydantic_extra__ or {}
        if len(extras) > 100:
            raise ValueError("more than 100 keys")
        for key, value in extras.items():
            bound(value, key, depth=0)
        return self

    def further(self, name: str) -> object:
        """A further key, or None."""
        return (self.__pydantic_extra__ or {}).get(name)


class Result(_Read):
    """What one job produced.

    Attributes:
        method: Version of the measuring code; it separates series.
        status: `ok`, or why there are no (trustworthy) numbers.
        reason: In words, for people.
        processes: Raw samples of every worker process.
        seconds: Where the wall time went.
        stopped_because: Which rule ended the repetition.
        contenders: Of a comparison, in the job's order.
    """

    format: Annotated[int, Field(ge=1, le=1)]
    job_id: Word
    method: Word | int
    status: Status
    reason: Text = ""
    environment: Environment
    processes: Annotated[tuple[ProcessRecord, ...], Field(max_length=64, fail_fast=True)] = ()
    checks: Annotated[tuple[CheckRecord, ...], Field(max_length=1000, fail_fast=True)] = ()
    seconds: SecondsByPhase = Field(default_factory=dict)
    stopped_because: Literal["interval", "time_budget", "max_processes"] | None = None
    weights: Weights | None = None
    contenders: Annotated[tuple[ContenderRecord, ...], Field(max_length=64, fail_fast=True)] = ()

    @field_validator("stopped_because", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def timing(self) -> tuple[ProcessRecord, ...]:
        """The processes that were timed."""
        return tuple(process for process in self.processes if process.kind == "timing")

    @property
    def memory(self) -> Memory | None:
        """Peak memory, where the pass was made."""
        return next((process.memory for process in self.processes if process.memory is not None), None)

    @property
    def profile(self) -> OperatorProfile | None:
        """Where the time goes, where it was asked for; a profile may hold but the reason why there is none."""
        return next((process.profile for process in self.processes if process.profile is not None), None)


class JobStatus(BaseModel):
    """What the agent does now. Keys that this version does not know are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    state: AgentState
    detail: Text = ""
    process: Annotated[int, Field(ge=0, le=10_000)] | None = None
    processes: Annotated[int, Field(ge=0, le=10_000)] | None = None
    heartbeat_unix: float
    pid: Annotated[int, Field(ge=2, le=2**31)]
    started_unix: float | None = None


def parse_environment(raw: bytes) -> Environment:
    """The answer to `agent info`.

    Raises:
        ResultError: It is not an environment record.
    """
    return parse_json(Environment, raw, MAX_STATUS_BYTES, "the agent's environment")


def parse_status(raw: bytes) -> JobStatus:
    """The content of status.json.

    Raises:
        ResultError: It is not a status.
    """
    return parse_json(JobStatus, raw, MAX_STATUS_BYTES, "the agent's status")


def read_result(raw: bytes) -> Result:
    """A result that was checked by `parse_result` when it arrived and has been stored since.

    Raises:
        ResultError: It is not a result.
    """
    return parse_json(Result, raw, MAX_RESULT_BYTES, "a stored result", trusted=True)


def parse_result(raw: bytes, job: Job) -> Result:
    """The content of result.json, checked against the job that it answers.

    Raises:
        ResultError: It is not a result, belongs to another job, or lacks what an `ok` result must hold.
    """
    result = parse_json(Result, raw, MAX_RESULT_BYTES, f"the result of job {job.job_id}")
    where = f"the result of job {job.job_id}"
    if result.job_id != job.job_id:
        raise ResultError(f"{where} is of job {result.job_id!r}")
    for process in result.processes:
        indices = [samples.point for samples in process.points]
        if any(index >= len(job.points) for index in indices) or len(set(indices)) < len(indices):
            raise ResultError(f"{where}: process {process.index} has points {indices}, and the job {len(job.points)}")
        for samples in process.points:
            steps = job.points[samples.point].decode
            if any(len(rep.decode_ns) != steps for rep in samples.repeats):
                raise ResultError(f"{where}: process {process.index} has a sequence without its {steps} decode steps")
            if any(rep.ttft_ns < rep.prefill_ns for rep in samples.repeats):
                raise ResultError(f"{where}: process {process.index} has a first token before its prefill ended")
        if (profile := process.profile) is not None:
            _require_of(profile, job, f"{where}: the profile of process {process.index}")
    names = [contender.name for contender in job.contenders]
    if result.status == "ok" and [record.name for record in result.contenders] != names:
        raise ResultError(f"{where} is not of the contenders {', '.join(names) or '(none)'}")
    told = [(index, at) for at, record in enumerate(result.contenders) for index in record.points]
    if result.status == "ok" and sorted(told) != list(enumerate(job.contender_of)):
        raise ResultError(f"{where} gives its contenders points that are not theirs")
    if result.status == "ok":
        _require_complete(result, job, where)
    return result


def _require_of(profile: OperatorProfile, job: Job, where: str) -> None:
    if profile.point >= len(job.points):
        raise ResultError(f"{where} is of point {profile.point}, and the job has {len(job.points)}")
    point = job.points[profile.point]
    if profile.prompt > point.prompt or profile.steps > point.decode:
        raise ResultError(f"{where} is of {profile.prompt} tokens and {profile.steps} steps, more than {point.text}")


def _require_complete(result: Result, job: Job, where: str) -> None:
    absent = {index for index, at in enumerate(job.contender_of) if result.contenders[at].error}
    for index, point in enumerate(job.points):
        if index in absent:
            continue
        kept = [
            rep
            for process in result.timing
            for samples in process.points
            if samples.point == index
            for rep in samples.repeats
            if rep.kept
        ]
        if not kept:
            raise ResultError(f"{where} says ok, but holds no timed sequence of {point.text}")
        if any(rep.ttft_ns == 0 or 0 in rep.decode_ns for rep in kept):
            raise ResultError(f"{where}: a time of zero at {point.text}")
    if not job.contenders and (failed := [check.name for check in result.checks if not check.ok]):
        raise ResultError(f"{where} says ok, but check {shown(failed[0])} failed")
    if any(
        s.logits is not None and not s.logits.finite and s.point not in absent
        for process in result.timing
        for s in process.points
    ):
        raise ResultError(f"{where} says ok, but its logits are not finite")

"""What the store keeps, as values; and between those and the rows of its tables."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study's name and settings."""

    name: str
    created_unix: float
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One candidate of a study.

    Attributes:
        state: ``open`` until its outcome is final, then ``done`` or ``failed``.
        choices: What the sampler chose, and its own notes.
    """

    study: str
    number: int
    layout_id: str
    state: str
    choices: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementRecord:
    """One measurement as stored; `result` is the agent's raw JSON, or None when nothing ran."""

    job_id: str
    study: str
    role: str
    label: str
    device: str
    device_fingerprint: str
    workload: str
    precision: str
    key_hash: str
    key: Mapping[str, Any]
    method: str
    status: str
    reason: str = ""
    trial: int | None = None
    layout_id: str | None = None
    name: str | None = None
    bytes_sent: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    result: bytes | None = None
    created_unix: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A measurement without its result.

    Attributes:
        record: All of it but the result.
        ran: Whether it has one.
        summary: What is kept of the result's summary, in the form of now; None where nothing is.
    """

    record: MeasurementRecord
    ran: bool
    summary: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who measures a key now.

    Attributes:
        job_id: Id of the job on the device.
        mine: Whether this process holds it. When it took it over from a dead owner, `job_id` is that owner's job.
        owner: ``host:pid:start``.
        seen_unix: When its owner gave a sign last; of a claim that was taken over, the dead owner.
    """

    key_hash: str
    job_id: str
    mine: bool
    owner: str
    seen_unix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A block check that a device passed."""

    check_id: str
    device_fingerprint: str
    runtime: str
    rel_rms: float | None


def decode_study(record: Any) -> StudyRecord:
    """A row of `studies`."""
    return StudyRecord(name=record.name, created_unix=record.created_unix, config=parse(record.config))


def decode_trial(record: Any) -> TrialRecord:
    """A row of `trials`."""
    return TrialRecord(
        study=record.study, number=record.number, layout_id=record.layout_id, state=record.state,
        choices=parse(record.choices),
    )  # fmt: skip


def decode_measurement(record: Any) -> MeasurementRecord:
    """A row of `measurements`."""
    values = {name: getattr(record, name) for name in MeasurementRecord.__slots__}
    values["key"], values["info"] = parse(record.key), parse(record.info)
    values["result"] = None if record.result is None else zlib.decompress(record.result)
    return MeasurementRecord(**values)


def decode_outline(record: Any) -> Outline:
    """A row of `measurements` without its result, with `ran` and maybe `summary`."""
    values = dict(record._mapping)
    ran, summary = bool(values.pop("ran")), values.pop("summary", None)
    values["key"], values["info"] = parse(values["key"]), parse(values["info"])
    return Outline(record=MeasurementRecord(**values), ran=ran, summary=summary)


def dump(value: Mapping[str, Any]) -> str:
    """JSON as the store keeps it."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def parse(text: str) -> dict[str, Any]:
    """The inverse of `dump`.

    Raises:
        ValueError: It is no JSON object.
    """
    value = from_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"no JSON object: {text[:60]!r}")  # noqa: TRY004 - as of JSON that is none
    return value

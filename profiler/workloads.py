"""Workloads: which prompt lengths and decode depths a measurement runs, by name or spelled out.

A point is one (batch, prompt, decode): a prefill of `prompt` tokens with empty state (in one call, or in pieces), then
`decode` single steps at positions prompt, prompt + 1, ... Different points are never pooled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from profiler.errors import WorkloadError
from profiler.yaml_errors import did_you_mean

MAX_TOKENS = 1 << 20
MAX_DECODE = 1 << 16
"""Decode steps whose times a result can hold."""
MAX_BATCH = 1024
MAX_POINTS = 16
PIECES = 512
"""Tokens of a piece where a named workload prefills in pieces: what llama.cpp does by default (`--ubatch-size`)."""
_CUSTOM = re.compile(r"(?:prompt=)?([0-9]+)\s*[/,]\s*(?:decode=)?([0-9]+)(?:\s*(?:@|,\s*chunk=)\s*([0-9]+))?")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """One measured situation.

    Attributes:
        batch: Sequences at once.
        prompt: Tokens of the prefill.
        decode: Single-token steps after it.
        depth: Tokens that are taken as passed before the prompt: states begin with made-up values. Only parts of
            models are measured so, where filling the states honestly would take most of the time.
        chunk: The prompt is prefilled in pieces of so many tokens, one call each; 0 for one call. Pieces bound the
            memory of a long prompt's activations.
    """

    batch: int = 1
    prompt: int
    decode: int
    depth: int = 0
    chunk: int = 0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("batch", self.batch, MAX_BATCH), ("prompt", self.prompt, MAX_TOKENS), ("decode", self.decode, MAX_DECODE),
        ):  # fmt: skip
            if not 1 <= value <= most:
                raise WorkloadError(f"{name} must be 1 to {most}, not {value}")
        if not 0 <= self.depth <= MAX_TOKENS:
            raise WorkloadError(f"depth must be 0 to {MAX_TOKENS}, not {self.depth}")
        if not 0 <= self.chunk <= MAX_TOKENS:
            raise WorkloadError(f"chunk must be 0 (the whole prompt at once) to {MAX_TOKENS}, not {self.chunk}")
        if self.chunk and self.batch > 1:
            raise WorkloadError("a prompt is prefilled in pieces at batch 1 only: attention's kernel takes no more")

    @property
    def context(self) -> int:
        """Positions that a KV cache must hold: depth + prompt + decode."""
        return self.depth + self.prompt + self.decode

    def to_json(self) -> dict[str, int]:
        """As jobs hold it; `depth` and `chunk` only where they are not 0."""
        sizes = {"batch": self.batch, "prompt": self.prompt, "decode": self.decode}
        return sizes | {name: value for name in ("depth", "chunk") if (value := getattr(self, name))}

    def to_list(self) -> list[int]:
        """As keys and records hold it: batch, prompt, decode, and where one is not 0 depth and chunk."""
        more = [self.depth, self.chunk] if self.depth or self.chunk else []
        return [self.batch, self.prompt, self.decode, *more]

    @classmethod
    def from_list(cls, sizes: Sequence[int]) -> Point:
        """The inverse of `to_list`."""
        return cls(**dict(zip(("batch", "prompt", "decode", "depth", "chunk"), sizes, strict=False)))

    @property
    def text(self) -> str:
        """`1024/32`; `1024/32@512` in pieces of 512; `4x1024/32` at batch 4; `4095+1/32` at depth 4095."""
        sizes = f"{self.depth}+{self.prompt}/{self.decode}" if self.depth else f"{self.prompt}/{self.decode}"
        sizes += f"@{self.chunk}" if self.chunk else ""
        return sizes if self.batch == 1 else f"{self.batch}x{sizes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A named list of points.

    Attributes:
        name: Its name, or for a custom one its sizes.
        points: What is measured, in this order.
        description: One line for listings.
    """

    name: str
    points: tuple[Point, ...]
    description: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= MAX_POINTS:
            raise WorkloadError(f"workload {self.name!r} has {len(self.points)} points; 1 to {MAX_POINTS} are allowed")
        if len(set(self.points)) < len(self.points):
            raise WorkloadError(f"workload {self.name!r} has the same point twice")

    @property
    def max_context(self) -> int:
        """Largest prompt + decode over the points."""
        return max(point.context for point in self.points)

    def with_batches(self, batches: Iterable[int]) -> Workload:
        """The same sizes at each of these batch sizes, for throughput against concurrency; above 1 never in pieces."""
        sizes = tuple(dict.fromkeys(batches))
        if not sizes:
            raise WorkloadError("give at least one batch size")
        points = tuple(
            replace(point, batch=batch, chunk=point.chunk if batch == 1 else 0)
            for batch in sizes
            for point in self.points
        )
        name = self.name if sizes == (1,) else f"{self.name} batch {','.join(map(str, sizes))}"
        return Workload(name=name, points=points, description=self.description)


def _named(name: str, sizes: tuple[tuple[int, int], ...], description: str, *, chunk: int = 0) -> Workload:
    points = tuple(Point(prompt=prompt, decode=decode, chunk=chunk) for prompt, decode in sizes)
    return Workload(name=name, points=points, description=description)


_NAMED = {
    workload.name: workload
    for workload in (
        _named("quick", ((256, 32),), "a short question: for searching"),
        _named("edge", ((1024, 32), (4096, 32)), "on-device assistants: 1K and 4K prompts", chunk=PIECES),
        _named("long", ((4096, 32), (32768, 32)), "documents: 4K and 32K prompts", chunk=PIECES),
    )
}


def workloads() -> tuple[Workload, ...]:
    """The named workloads, shortest first."""
    return tuple(_NAMED.values())


def parse_workload(text: str, batches: str | None = None) -> Workload:
    """A workload from the command line.

    Args:
        text: A name, or `P/D` or `prompt=P,decode=D`, either with `@C` or `,chunk=C` for a prefill in pieces of C
            tokens; several with `;` between.
        batches: Batch sizes such as `1,4`; default 1.

    Raises:
        WorkloadError: Neither a name nor sizes, or sizes out of range; the message says which and what is allowed.
    """
    text = text.strip()
    if text in _NAMED:
        workload = _NAMED[text]
    else:
        points = []
        for part in text.split(";"):
            match = _CUSTOM.fullmatch(part.strip())
            if match is None or max(len(group or "") for group in match.groups()) > 9:
                raise WorkloadError(
                    f"no workload {part.strip()!r}{did_you_mean(part.strip(), list(_NAMED))}, or sizes such as "
                    "512/64, prompt=512,decode=64, or 4096/32@512 for a prefill in pieces of 512"
                )
            if match[3] is not None and int(match[3]) == 0:
                raise WorkloadError(
                    f"{part.strip()!r}: a piece has at least one token; leave it out for the whole prompt"
                )
            points.append(Point(prompt=int(match[1]), decode=int(match[2]), chunk=int(match[3] or 0)))
        workload = Workload(name=";".join(p.text for p in points), points=tuple(points), description="custom")
    return workload if batches is None else workload.with_batches(parse_batches(batches))


def parse_batches(text: str) -> tuple[int, ...]:
    """Batch sizes from `1,4`.

    Raises:
        WorkloadError: An entry is no whole number from 1 to `MAX_BATCH`.
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not re.fullmatch(r"[0-9]{1,6}", part) or not 1 <= int(part) <= MAX_BATCH:
            raise WorkloadError(f"batch sizes are whole numbers from 1 to {MAX_BATCH} such as 1,4; not {part!r}")
    return tuple(int(part) for part in parts)

"""What the comparison found, as tables and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from peer_measure import OURS, THEIRS, Ratio
from peer_profile import REST, Phase
from profiler.results import Result
from profiler.stats import Interval

LEAST_SHARE = 0.01
"""Of the slower side's time: entries below it on both sides are summed up in one line."""
_PHASE_OF = {"ttft_ms": "prefill", "decode_ms": "decode"}


@dataclass(slots=True, kw_only=True)
class AtPrompt:
    """The two models at one prompt length.

    Attributes:
        prompt: Tokens.
        ratios: By what is compared.
        results: The device's results, by side.
        phases: Traces by side, where one was asked for.
        in_turns: Ratios of times within one process, where they were asked for.
    """

    prompt: int
    ratios: Mapping[str, Ratio]
    results: Mapping[str, Sequence[Result]]
    phases: Mapping[str, Mapping[str, Phase]] = field(default_factory=dict)
    in_turns: Mapping[str, Interval] = field(default_factory=dict)

    def slower(self) -> list[str]:
        """What we are slower or larger in."""
        return [what for what, ratio in self.ratios.items() if ratio.value.value > 1]


@dataclass(slots=True, kw_only=True)
class Compared:
    """A model and all that was found of it.

    Attributes:
        name: Of the model.
        spelling: How the builder was offered it.
        refused: What the builder said to other spellings.
        build_s: Seconds of building: `theirs`, `ours`, `ours with weights`.
        kept: Whether the builder's seconds are of an earlier run.
        lowerings: Ours, by block.
        weights_mib: Stored weights, by side.
        at: By prompt.
    """

    name: str
    spelling: str
    refused: Mapping[str, str]
    build_s: Mapping[str, float]
    kept: bool
    lowerings: Mapping[str, str]
    weights_mib: Mapping[str, float]
    at: list[AtPrompt] = field(default_factory=list)


def table(model: Compared, *, precision: str, decode: int, rounds: int) -> Iterator[str]:
    """Lines of the table of ratios."""
    yield f"{model.name}, {precision}: decode {decode} at each prompt's depth, rounds: {rounds}; below 1 we are ahead"
    for kind, said in model.refused.items():
        yield f"  the builder refused {kind}: {said}"
    yield f"  theirs: {model.spelling}; our lowerings: {', '.join(sorted(set(model.lowerings.values())))}"
    yield f"{'prompt':>6}  {'':14} {'ours':>10} {'theirs':>10} {'ratio':>7}  95% interval"
    for at in model.at:
        for what, ratio in at.ratios.items():
            value = ratio.value
            ends = f"{value.low:.3f} to {value.high:.3f}" if math.isfinite(value.high) else "needs 2 rounds"
            yield f"{at.prompt:6}  {what:14} {ratio.ours:10.2f} {ratio.theirs:10.2f} {value.value:7.3f}  {ends}"
    theirs = model.build_s[THEIRS]
    kept = " (theirs: as measured when it was built)" if model.kept else ""
    for name in ("ours", "ours with weights"):
        ours = model.build_s[name]
        yield f"        {'build s':14} {ours:10.3f} {theirs:10.3f} {ours / theirs:7.4f}  {name}{kept}"
    mine, other = model.weights_mib[OURS], model.weights_mib[THEIRS]
    yield f"        {'weights MiB':14} {mine:10.1f} {other:10.1f} {mine / other:7.3f}"


def profile_tables(model: Compared) -> Iterator[str]:
    """For every ratio above 1, lines that say where the difference is."""
    for at in model.at:
        for what in at.slower():
            head = f"{model.name}, prompt {at.prompt}, {what}: ratio {at.ratios[what].value.value:.3f}"
            yield ""
            if what in _PHASE_OF and not at.phases:
                yield f"{head}; it could not be traced"
            elif what in _PHASE_OF:
                ours, theirs = (at.phases[side][_PHASE_OF[what]] for side in (OURS, THEIRS))
                traced = (
                    f"traced: {ours.wall_ms:.2f} against {theirs.wall_ms:.2f} ms ({ours.wall_ms / theirs.wall_ms:.3f})"
                )
                yield f"{head}; {traced}"
                if (turns := at.in_turns.get(what)) is not None:
                    yield f"  in turns within one process: {turns.value:.3f} ({turns.low:.3f} to {turns.high:.3f})"
                yield from _entries("operator", ours, theirs, ours.operators, theirs.operators)
                yield from _entries("product", ours, theirs, ours.products, theirs.products)
            else:
                yield head
                yield from _memory(at, model)


def _entries(
    title: str, ours: Phase, theirs: Phase, mine: Mapping[str, float], other: Mapping[str, float]
) -> Iterator[str]:
    """One line per entry, largest difference to our disadvantage first."""
    yield f"  {title:40} {'ours':>15} {'share':>7} {'theirs':>15} {'share':>7} {'difference ms':>14}"
    least = LEAST_SHARE * max(ours.wall_ms, theirs.wall_ms)
    small = [0.0, 0.0]
    names = sorted({*mine, *other}, key=lambda name: other.get(name, 0.0) - mine.get(name, 0.0))
    for name in names:
        a, b = mine.get(name, 0.0), other.get(name, 0.0)
        if max(abs(a), abs(b)) < least and name != REST:
            small = [small[0] + a, small[1] + b]
            continue
        yield _line(name, ours, theirs, a, b)
    if any(small):
        yield _line("(each below 1%)", ours, theirs, *small)


def _line(name: str, ours: Phase, theirs: Phase, a: float, b: float) -> str:
    cells = [
        f"{time:9.3f} {f'x{count:.0f}' if count else '':>5} {time / phase.wall_ms:7.1%}" if time else f"{'-':>23}"
        for time, phase, count in ((a, ours, ours.counts.get(name, 0)), (b, theirs, theirs.counts.get(name, 0)))
    ]
    return f"  {name:40} {cells[0]} {cells[1]} {a - b:+14.3f}"


def _memory(at: AtPrompt, model: Compared) -> Iterator[str]:
    """Peaks of each phase: median over rounds."""
    peaks: dict[str, list[float]] = {}
    for side in (OURS, THEIRS):
        found = [result.memory.phases for result in at.results[side] if result.memory is not None]
        for name in found[0]:
            values = sorted(phases[name] for phases in found)
            peaks.setdefault(f"peak of {name}", []).append(values[len(values) // 2])
    peaks["stored weights"] = [model.weights_mib[OURS], model.weights_mib[THEIRS]]
    yield f"  {'MiB':40} {'ours':>10} {'theirs':>10} {'difference':>11}"
    for name, (a, b) in peaks.items():
        yield f"  {name:40} {a:10.1f} {b:10.1f} {a - b:+11.1f}"


def to_json(models: Sequence[Compared], failed: Mapping[str, str], settings: Mapping[str, Any], *, raw: bool) -> str:
    """Everything as JSON; with `raw`, the device's results too."""
    found = [
        {
            **{key: getattr(model, key) for key in ("name", "spelling", "build_s", "kept", "weights_mib")},
            "refused": dict(model.refused), "lowerings": dict(model.lowerings),
            "points": [_point(at, raw) for at in model.at],
        }
        for model in models
    ]  # fmt: skip
    whole = {"format": 1, **settings, "models": found, "failed": dict(failed)}
    return json.dumps(whole, indent=None if raw else 1, allow_nan=False)


def _point(at: AtPrompt, raw: bool) -> dict[str, Any]:
    def end(value: float) -> float | None:
        return value if math.isfinite(value) else None

    point: dict[str, Any] = {"prompt": at.prompt}
    point["ratios"] = {
        what: {
            "ours": ratio.ours, "theirs": ratio.theirs, "ratio": ratio.value.value,
            "low": end(ratio.value.low) if math.isfinite(ratio.value.high) else None, "high": end(ratio.value.high),
        }
        for what, ratio in at.ratios.items()
    }  # fmt: skip
    if at.phases:
        point["profile"] = {
            side: {name: asdict(phase) for name, phase in phases.items()} for side, phases in at.phases.items()
        }
    if at.in_turns:
        point["in_turns"] = {what: asdict(interval) for what, interval in at.in_turns.items()}
    if raw:
        point["results"] = {
            side: [json.loads(result.model_dump_json()) for result in results] for side, results in at.results.items()
        }
    return point

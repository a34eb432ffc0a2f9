"""Models in int4 from the ONNX Runtime GenAI model builder and from this project, measured side by side in one run.

    python benchmarks/peer_genai.py [--model NAME ...] [--prompt 128,512,2048] [--decode 64] [--rounds 5] [--profile]

Both sides come from one config.json and are measured by this project's agent on the local device: the same prompts and
depths, the same threads, one fresh process per model, prompt and round, in turns, so that drift meets both alike. Peak
memory is taken in processes of its own, one per round. Each side has one graph for all prompts; ours has the lowerings
that the device is fastest with over these prompts, found first as `archsearch measure` does. The builder's windows of
keys and values are as long as its own runtime makes them.
Build time: the builder's own process, from a saved random model to a folder on disk, against this project's export
in process (graph and recipe, which is all that a search builds per candidate), and export plus writing the weights. A
built model is kept in a cache and built once.
Ratios are ours over the peer's: below 1 we are faster or smaller. They are geometric means over rounds of the ratios
of two medians of one round, which saw the same state of the device, with a 95% t interval of the logarithms.
With --profile, every ratio above 1 is looked into: by operator, and by both sides stepping in turns within one process.
Exit code: 0 when something was compared, 5 when nothing was. Needs transformers and onnxruntime-genai.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any, cast

from archsearch.candidates import Prepared, prepare
from archsearch.cli.exits import NOTHING_MEASURED, CommandError, guarded
from archsearch.cli.layouts import lowering_options
from archsearch.cli.tuners import open_tuners
from archsearch.subjects import Subject
from archsearch.tuning import Tuner
from peer_measure import OURS, THEIRS, NoNumbers, Side, TimeLeft, measure_in_turns, ratios, try_out
from peer_models import MODELS, PRECISION, Built, Refused, build, default_cache
from peer_profile import NoTrace, trace_in_turns
from peer_report import AtPrompt, Compared, profile_tables, table, to_json
from peer_turns import ratios_in_turns
from profiler.agent.weights import write_weights
from profiler.device_files import load_devices
from profiler.errors import AgentDied, ForeignModelError, ResultError
from profiler.foreign import inspect
from profiler.runner import DeviceSession
from profiler.workloads import Point, Workload
from search_space.cost import parameters

MIB = 2**20


def main() -> int:
    """Compare every model that the builder can write; print the ratios."""
    options = _options()
    if missing := [name for name in ("transformers", "onnxruntime_genai") if find_spec(name) is None]:
        raise CommandError(f"the builder needs {' and '.join(missing)}", hint="pip install -e '.[peer]'")
    lowering_options(options.lowering)  # what is wrong with them is told before anything is built
    device = load_devices(options.devices).named(options.device)
    if device.transport != "local":
        raise CommandError(f"{device.name} has `transport: {device.transport}`; what the builder writes lies here")
    points = tuple(Point(prompt=prompt, decode=options.decode) for prompt in options.prompt)
    workload = Workload(name=";".join(point.text for point in points), points=points, description="custom")
    names = list(dict.fromkeys(options.model or MODELS))
    work = {name: parameters(MODELS[name].layout).total for name in names}
    each = 2 * options.rounds * sum(point.context for point in points)
    left = TimeLeft(each * sum(work.values()))
    done: list[Compared] = []
    failed: dict[str, str] = {}
    with (
        DeviceSession(device) as session,
        open_tuners([session], store=None, runs=options.runs, cancel=Event(), say=say) as tuners,
    ):
        settings = {
            "precision": PRECISION, "decode": options.decode, "rounds": options.rounds,
            "threads": session.runtime().threads, "onnxruntime": session.runtime_version,
            "onnxruntime-genai": version("onnxruntime-genai"), "transformers": version("transformers"),
        }  # fmt: skip
        tuner = tuners[options.device] if options.tune else None
        for name in names:
            try:
                compared = compare(name, session, workload, tuner, options, left, work[name])
            except (Refused, NoNumbers, ForeignModelError, AgentDied, ResultError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
                left.drop(each * work[name])
                print(f"{name}: not compared: {failed[name]}", file=sys.stderr)
                continue
            done.append(compared)
            if options.json:  # after each model: what is done is kept when a later one is stopped
                options.json.write_text(to_json(done, failed, settings, raw=True), encoding="utf-8")
            if options.format == "table":
                lines = [*table(compared, precision=PRECISION, decode=options.decode, rounds=options.rounds)]
                print("\n".join([*lines, *(profile_tables(compared) if options.profile else ()), ""]), flush=True)
    if options.format == "json":
        print(to_json(done, failed, settings, raw=False))
    if options.json:
        options.json.write_text(to_json(done, failed, settings, raw=True), encoding="utf-8")
    return 0 if done else NOTHING_MEASURED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="may be repeated; default all")
    parser.add_argument("--prompt", type=_numbers, default=(128, 512, 2048), help="tokens, default 128,512,2048")
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="for every ratio above 1, where the difference is")
    parser.add_argument("--lowering", action="append", metavar="BLOCK=NAME", help="pin ours; may be repeated")
    parser.add_argument("--tune", action=argparse.BooleanOptionalAction, default=True, help="ours; default yes")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here, raw samples too")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where built models are kept")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where comparisons of lowerings are kept")
    parser.add_argument("--devices", type=Path, default=Path("devices.yaml"))
    parser.add_argument("--device", default="local", help="one with `transport: local`; default local")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"whole numbers such as 128,512, not {text!r}") from error


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def compare(
    name: str,
    session: DeviceSession,
    workload: Workload,
    tuner: Tuner | None,
    options: argparse.Namespace,
    left: TimeLeft,
    parameters_: float,
) -> Compared:
    """Build a model on both sides, tune ours, and measure both at every point.

    Raises:
        Refused: The builder does not take it.
        NoNumbers: A side does not run.
        ForeignModelError: We do not understand what the builder wrote.
    """
    built = build(name, options.cache, say)
    foreign = inspect(built.model)
    foreign.require_context(workload)
    theirs = Side.of(Subject(label=f"{name} theirs", workload=workload, precision="file", foreign=foreign))
    say(f"{name}: a short run of what the builder wrote")
    try_out(session, theirs, min(workload.points))
    subject = our_subject(name, built, workload, options.lowering)
    if tuner is not None:
        say(f"{name}: choosing our lowerings")
        subject = tuner.tuned(subject)
    assert subject.prepared is not None
    sides = {OURS: Side.of(subject), THEIRS: theirs}
    lowerings = dict(subject.lowerings())
    compared = Compared(
        name=name, spelling=built.spelling, refused=built.refused, kept=built.kept, lowerings=lowerings,
        build_s={THEIRS: built.seconds} | build_ours(
            lambda: prepare(built.layout, workload=workload, precision=PRECISION, lowerings=lowerings)
        ),
        weights_mib={side: (of.subject.weights_bytes() or 0) / MIB for side, of in sides.items()},
    )  # fmt: skip
    for point in workload.points:
        work = parameters_ * point.context
        results = measure_in_turns(session, sides, point, options.rounds, say, left, work)
        at = AtPrompt(prompt=point.prompt, ratios=ratios(results), results=results)
        if options.profile and {"ttft_ms", "decode_ms"} & set(at.slower()):
            say(f"{name} {point.text}: tracing both sides")
            try:
                at.phases = trace_in_turns(sides, session.runtime(), point)
                at.in_turns = ratios_in_turns(sides, session.runtime(), point)
            except NoTrace as error:
                say(f"{name} {point.text}: no trace: {error}")
        compared.at.append(at)
    return compared


def our_subject(name: str, built: Built, workload: Workload, lowering: list[str] | None) -> Subject:
    """Our export of the layout that the builder's config.json says."""
    pins = lowering_options(lowering)
    prepared = prepare(built.layout, workload=workload, precision=PRECISION, lowerings=pins)
    return Subject(
        label=f"{name} ours", workload=workload, precision=PRECISION, layout=built.layout, prepared=prepared, pins=pins
    )


def build_ours(export: Callable[[], Prepared]) -> dict[str, float]:
    """Seconds of an export, and of one with its weights written; medians of three."""
    plain, whole = [], []
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.bin"
        for _ in range(3):
            began = time.perf_counter()
            exported = export()
            plain.append(time.perf_counter() - began)
            write_weights(exported.candidate.recipe, weights)
            whole.append(time.perf_counter() - began)
            weights.unlink()
    return {"ours": median(plain), "ours with weights": median(whole)}


if __name__ == "__main__":
    sys.exit(guarded(cast("Any", lambda standalone_mode: main())))  # noqa: ARG005 - errors to exit codes, as archsearch

"""LFM2-350M int4 from the ONNX Runtime GenAI model builder and from this project, measured side by side in one run.

    python benchmarks/peer_genai.py [--prompt 512] [--decode 64] [--rounds 5] [--json FILE]

Both models are measured by this project's agent on the local device: the same prompt and depth, the same threads, one
fresh process per model and round, in turns, so that drift meets both alike. Peak memory is taken in processes of its
own. Build time: the builder's own process, from a saved random model to a folder on disk, against this project's export
in process (graph and recipe, which is all that a search builds per candidate), and export plus writing the weights.
Ratios are ours over the peer's: below 1 we are faster or smaller. Those of times are geometric means over rounds of the
two medians of one round, which saw the same state of the device, with a 95% t interval of the logarithms. Needs
transformers and onnxruntime-genai.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from archsearch.candidates import Prepared, prepare
from profiler.agent.weights import write_weights
from profiler.devices import load_devices
from profiler.foreign import inspect
from profiler.jobs import Job, Protocol, new_job_id
from profiler.results import Result, parse_result
from profiler.runner import DeviceSession
from profiler.stats import Interval, centre
from profiler.workloads import Point, Workload
from search_space.anchors import anchor

TIMED = Protocol(min_processes=1, max_processes=1, min_repeats=3, max_repeats=3, memory_pass=False)
MEMORY = Protocol(min_processes=1, max_processes=1, min_repeats=1, max_repeats=1, memory_pass=True)


def save_random_model(folder: Path) -> None:
    """Save transformers' LFM2-350M with random weights, and a small tokenizer, as the builder's input."""
    from tokenizers import Tokenizer, models
    from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedTokenizerFast

    attention = {2, 5, 8, 10, 12, 14}
    config = Lfm2Config(
        vocab_size=65536, hidden_size=1024, intermediate_size=6656, num_hidden_layers=16, num_attention_heads=16,
        num_key_value_heads=8, conv_L_cache=3, block_auto_adjust_ff_dim=True, block_multiple_of=256,
        block_ffn_dim_multiplier=1.0, tie_word_embeddings=True,
        layer_types=["full_attention" if layer in attention else "conv" for layer in range(16)],
    )  # fmt: skip
    model = Lfm2ForCausalLM(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == 354_483_968, f"the peer's model has {total} parameters, not LFM2-350M's"
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(100)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", eos_token="t1", pad_token="t2").save_pretrained(
        folder
    )


def build_peer(source: Path, target: Path) -> float:
    """Run the builder; seconds of its process."""
    began = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            source,
            "-o",
            target,
            "-p",
            "int4",
            "-e",
            "cpu",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the builder failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def build_ours(export: Callable[[], Prepared], weights: Path) -> dict[str, float]:
    """Seconds of an export, and of one with its weights written; medians of five."""
    plain, whole = [], []
    gc.collect()  # what the peer's model left behind is not ours to pay for
    for _ in range(5):
        began = time.perf_counter()
        built = export()
        plain.append(time.perf_counter() - began)
        write_weights(built.candidate.recipe, weights)
        whole.append(time.perf_counter() - began)
        weights.unlink()
    return {"ours": median(plain), "ours with weights": median(whole)}


def run_job(session: DeviceSession, job: Job, files: dict[str, bytes]) -> Result:
    """Measure one job and return its result, ok or not."""
    handle = session.submit(job, files)
    result = parse_result(session.wait(handle), job)
    session.cleanup(job.job_id)
    return result


def main() -> int:
    """Build both, measure both in turns, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=Path, default=Path("devices.yaml"))
    parser.add_argument("--peer", type=Path, help="folder of a model that the builder has written before")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args()
    point = Point(prompt=options.prompt, decode=options.decode)
    workload = Workload(name=point.text, points=(point,), description="custom")

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build: dict[str, float] = {}
        peer_folder = options.peer
        if peer_folder is None:
            save_random_model(folder / "source")
            peer_folder = folder / "peer"
            build["peer"] = build_peer(folder / "source", peer_folder)
        layout = anchor("lfm2.5-350m").layout
        ours = prepare(layout, workload=workload, precision="int4")  # imports are no part of the build
        build |= build_ours(lambda: prepare(layout, workload=workload, precision="int4"), folder / "weights.bin")
        peer = inspect(peer_folder / "model.onnx")
        with DeviceSession(load_devices(options.devices).named("local")) as session:
            base: dict[str, Any] = {"label": "benchmark", "runtime": session.runtime(), "points": (point,)}
            jobs = {
                "ours": (
                    Job(job_id="x", signature=ours.candidate.signature, content_id=ours.content_id, **base),
                    dict(ours.files),
                ),
                "peer": (
                    Job(
                        job_id="x", signature=peer.signature, content_id="peer", model_path=str(peer.path.resolve()),
                        **base
                    ),
                    {},
                ),
            }  # fmt: skip
            results = measure_in_turns(session, jobs, options.rounds)
    return report(results, build, options)


def measure_in_turns(
    session: DeviceSession, jobs: dict[str, tuple[Job, dict[str, bytes]]], rounds: int
) -> dict[str, list[Result]]:
    """One process per model and round, in turns, the order turned round each time; then the memory passes.

    A round in which others used the processor is made again, for both models, at most `rounds` times in all. A slow
    one is not.
    """
    results: dict[str, list[Result]] = {name: [] for name in jobs}
    spare = rounds
    done = 0
    while done <= rounds:
        protocol = TIMED if done < rounds else MEMORY
        found = {}
        for name in sorted(jobs, reverse=bool(done % 2)):
            job, files = jobs[name]
            found[name] = run_job(session, replace(job, job_id=new_job_id(name), protocol=protocol), files)
            state = f"round {done + 1}" if done < rounds else "memory"
            print(f"{state}: {name}: {found[name].status} {found[name].reason}", file=sys.stderr)
        if spare and any(result.status in ("throttled", "not_cooled") for result in found.values()):
            spare -= 1
            continue
        for name, result in found.items():
            results[name].append(result)
        done += 1
    return results


def report(results: dict[str, list[Result]], build: dict[str, float], options: argparse.Namespace) -> int:
    """Print the table of ratios; 5 when a model has no numbers."""
    times: dict[str, dict[str, list[list[float]]]] = {"prefill ms": {}, "decode ms": {}}
    memory: dict[str, float] = {}
    for name, found in results.items():
        bad = [result for result in found if result.status != "ok"]
        if bad or found[-1].memory is None:
            print(f"{name}: no numbers: {[r.reason for r in bad]}", file=sys.stderr)
            return 5
        kept = [[rep for process in r.timing for rep in process.points[0].repeats if rep.kept] for r in found[:-1]]
        times["prefill ms"][name] = [[rep.prefill_ns / 1e6 for rep in reps] for reps in kept]
        times["decode ms"][name] = [[ns / 1e6 for rep in reps for ns in rep.decode_ns] for reps in kept]
        memory[name] = found[-1].memory.peak_rss_mib
    print(f"LFM2-350M int4, prompt {options.prompt}, decode {options.decode} at that depth, {options.rounds} rounds")
    print(f"{'':18} {'ours':>22} {'peer':>22} {'ratio':>8}  95% interval")
    ratios = {}
    for name, by_model in times.items():
        ours, peer = centre(by_model["ours"]), centre(by_model["peer"])
        ratio = paired_ratio(by_model["ours"], by_model["peer"])
        ratios[name] = ratio.value
        print(f"{name:18} {_text(ours):>22} {_text(peer):>22} {ratio.value:8.3f}  {ratio.low:.3f} to {ratio.high:.3f}")
    ratios["peak RSS MiB"] = memory["ours"] / memory["peer"]
    print(f"{'peak RSS MiB':18} {memory['ours']:22.1f} {memory['peer']:22.1f} {ratios['peak RSS MiB']:8.3f}")
    if "peer" in build:
        for name in ("ours", "ours with weights"):
            ratios[f"build: {name}"] = build[name] / build["peer"]
            print(
                f"{'build s: ' + name:28} {build[name]:12.3f} {build['peer']:22.3f} {build[name] / build['peer']:8.4f}"
            )
    if options.json:
        raw = {name: [json.loads(r.model_dump_json()) for r in found] for name, found in results.items()}
        options.json.write_text(json.dumps({"ratios": ratios, "build_s": build, "results": raw}))
    return 0


def paired_ratio(ours: list[list[float]], peer: list[list[float]]) -> Interval:
    """Ratio of the two models' times over rounds, samples given by round; see the module."""
    from scipy.stats import t

    logs = [math.log(median(a) / median(b)) for a, b in zip(ours, peer, strict=True)]
    half = float(t.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    middle = fmean(logs)
    return Interval(value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half))


def _text(interval: Interval) -> str:
    return f"{interval.value:.3f} ±{interval.relative_half_width:.1%}"


if __name__ == "__main__":
    sys.exit(main())

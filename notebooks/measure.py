"""Takes the measurements that the notebooks read, on this machine, and writes them to notebooks/data/.

    python notebooks/measure.py embeddings     # data/embeddings.json, for embedding_shares.ipynb
    python notebooks/measure.py blocks         # data/blocks.json, for operators.ipynb
    python notebooks/measure.py study          # data/study.db, for read_a_study.ipynb

Each takes less than ten minutes and wants a quiet machine. Everything is measured anew, in a folder that is gone
afterwards; every file says under which conditions it was taken. `make notebooks` then writes the notebooks' outputs.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
ROUNDS = 2
"""Each layout is measured so often; every second time in the opposite order, so that a drift of the device cancels."""
PRECISION, WORKLOAD = "int4", "quick"
BODY = "CCGCCGCCGCGC:width=768"
FFN, OTHER_FFNS = 2560, (1024, 4608)
VOCABULARIES = (4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144)
MIDDLE, LARGEST = 32_768, VOCABULARIES[-1]
RANKS = (64, 128, 256)
CONTEXTS = "256,1024,4096"
STUDY_TIME = "8m"
FIELDS = (
    "status", "reason", "weights_mib", "state_mib", "total_params", "effective_params", "embedding_params",
    "embedding_share", "vocab_size", "embedding_rank", "tied", "width", "depth", "prompt", "decode", "processes",
    "discarded", "warm", "lowerings",
    *(f"{name}{end}" for name in ("ttft_ms", "decode_ms", "peak_rss_mib") for end in ("", "_low", "_high")),
)  # fmt: skip
_NAMES_OF_MACHINES = ("host", "kernel")


def subjects() -> Iterator[tuple[str, str]]:
    """What is measured for the embedding notebook: the family that a layout belongs to, and the layout."""
    for vocabulary in VOCABULARIES:
        yield "tied", f"{BODY},ffn={FFN},vocab={vocabulary}"
    for vocabulary in (MIDDLE, LARGEST):
        yield "untied", f"{BODY},ffn={FFN},vocab={vocabulary},tied=false"
    for rank in RANKS:
        yield "factorised", f"{BODY},ffn={FFN},vocab={LARGEST},rank={rank}"
    for hidden in OTHER_FFNS:
        yield "body", f"{BODY},ffn={hidden},vocab={MIDDLE}"


def measure_embeddings(devices: Path, device: str, runs: Path, *, tune: bool = True) -> dict[str, Any]:
    """One body with many embeddings, in rounds; with `tune` each at the kernels that are best on the device."""
    from archsearch.candidates import prepare
    from archsearch.cli.opening import open_devices, stop_on_signals
    from archsearch.cli.tuners import open_tuners
    from archsearch.measuring import Measurer
    from archsearch.store import Store
    from archsearch.subjects import Subject
    from archsearch.table import rows
    from profiler.jobs import Protocol
    from profiler.workloads import parse_workload
    from search_space.notation import resolve

    workload = parse_workload(WORKLOAD)
    protocol = Protocol(min_processes=3, max_processes=4, time_budget_s=6.0)
    todo = list(subjects())
    found: list[dict[str, Any]] = []
    with (
        stop_on_signals() as cancel,
        open_devices(devices, [device]) as (session,),
        open_tuners([session], store=None, runs=runs, cancel=cancel, say=_say) as tuners,
        Store.open(runs / "embeddings.db") as store,
    ):
        store.create_study("embeddings", {"format": 1, "adhoc": True})
        measurer = Measurer(
            session, store, study="embeddings", protocol=protocol, cancel=cancel, say=_say,
            tuner=tuners[device] if tune else None,
        )  # fmt: skip
        for number in range(ROUNDS):
            for family, text in todo if number % 2 == 0 else todo[::-1]:
                layout = resolve(text).layout
                subject = Subject(
                    label=text, workload=workload, precision=PRECISION, layout=layout,
                    prepared=prepare(layout, workload=workload, precision=PRECISION),
                )  # fmt: skip
                (row,) = rows([measurer.measure(subject, fresh=True).measurement])
                _say(f"round {number + 1}: {text}: {row['status']} {row['reason'] or ''}")
                if row["status"] != "ok":
                    sys.exit("this measurement gave no numbers, and a notebook needs all of them; nothing was written")
                found.append(
                    {"family": family, "layout": text, "round": number, **{name: row[name] for name in FIELDS}}
                )
        where = {**conditions(session), "precision": PRECISION, "workload": workload.name, "rounds": ROUNDS}
    return {"conditions": where, "rows": found}


def measure_blocks(devices: Path, device: str, runs: Path) -> dict[str, Any]:
    """What `archsearch blocks --format json` prints, with its conditions."""
    from archsearch.cli.opening import open_devices

    with open_devices(devices, [device]) as (session,):
        where = {**conditions(session), "precision": PRECISION}
    printed = _archsearch(
        "blocks", "--devices", devices, "--device", device, "--context", CONTEXTS, "--precision", PRECISION,
        "--runs", runs, "--format", "json",
    )  # fmt: skip
    return {"conditions": where, "rows": json.loads(printed)}


def measure_study(devices: Path, device: str, runs: Path) -> Path:
    """A short search: the path of its database."""
    _archsearch(
        "run", "--devices", devices, "--device", device, "--study", "notebook", "--space", "100m", "--sampler",
        "nsga2", "--workload", WORKLOAD, "--precision", PRECISION, "--anchor", "gemma-3-270m", "--time-budget",
        STUDY_TIME, "--runs", runs,
    )  # fmt: skip
    return runs / "notebook" / "study.db"


def conditions(session: Any) -> dict[str, Any]:
    """Of measurements on an open device: what one must know to compare with them. Machines are not named."""
    from profiler.agent.protocol import METHOD

    seen = session.environment
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "device": session.device.name, "cpu": seen.cpu_model,
        "architecture": seen.machine, "cores": seen.cores, "threads": session.runtime().threads,
        "memory_mib": seen.memory_mib, "os": seen.os, "python": seen.python,
        "runtime": f"onnxruntime {session.runtime_version}", "method": METHOD, "governor": seen.governor,
    }  # fmt: skip


def pack(database: Path, target: Path) -> None:
    """A study as one small file: no log beside it, no claims, no names of machines."""
    fresh = target.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as source:
        source.execute("VACUUM INTO ?", (str(fresh),))
    with closing(sqlite3.connect(fresh)) as copy:
        copy.execute("DELETE FROM claims")
        for sequence, info, result in copy.execute("SELECT sequence, info, result FROM measurements").fetchall():
            if result is not None:
                content = json.loads(zlib.decompress(result))
                for name in _NAMES_OF_MACHINES:
                    content["environment"].pop(name, None)
                packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
                copy.execute("UPDATE measurements SET result = ? WHERE sequence = ?", (packed, sequence))
            copy.execute("UPDATE measurements SET info = ? WHERE sequence = ?", (_nameless(info), sequence))
        for sequence, data in copy.execute("SELECT sequence, data FROM events").fetchall():
            copy.execute("UPDATE events SET data = ? WHERE sequence = ?", (_nameless(data), sequence))
        copy.commit()
        copy.execute("VACUUM")
    fresh.replace(target)


def _nameless(text: str) -> str:
    """A record that says which process wrote it, without the name of that process's machine."""
    content = json.loads(text)
    if "owner" in content:
        content["owner"] = "machine/" + content["owner"].partition("/")[2]
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def _archsearch(*arguments: str | Path) -> str:
    """Run the command line; what it prints. What it says meanwhile is seen."""
    command = [sys.executable, "-m", "archsearch.cli.main", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure what was asked for and write it."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("embeddings", "blocks", "study"))
    parser.add_argument("--devices", type=Path, default=HERE.parent / "devices.yaml", help="the device file")
    parser.add_argument("--device", default="local", help="one device of it")
    parser.add_argument("--to", type=Path, default=DATA, help="the folder to write to")
    asked = parser.parse_args()
    asked.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="archsearch-notebooks-") as folder:
        runs = Path(folder)
        if asked.what == "study":
            pack(measure_study(asked.devices, asked.device, runs), asked.to / "study.db")
            return
        measure = measure_embeddings if asked.what == "embeddings" else measure_blocks
        content = measure(asked.devices, asked.device, runs)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (asked.to / f"{asked.what}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""A store as the dashboard looks at it: studies, one study, one layout closely. It writes nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from archsearch.measurement import ANCHOR, Measurement
from archsearch.owners import owner_is_dead
from archsearch.ranked import Study, ranked, read_study
from archsearch.snapshot import snapshot
from archsearch.store import Store
from archsearch.table import rows
from archsearch.timing import RUN_ENDED, RUN_STARTED
from profiler.results import Result
from profiler.workloads import Workload
from reports.details import Details, Run, Sample, SampleKind
from reports.tables import render
from search_space.anchors import anchor_names
from search_space.cost import all_weight_bytes, parameters, state_bytes
from search_space.graph.precision import PRECISIONS, PrecisionName
from search_space.layout import Layout, by_kind
from search_space.layout_file import NamedLayout

if TYPE_CHECKING:
    from reports.dashboard.source import Key
    from reports.snapshot import Snapshot

GROWTH = tuple(2**power for power in range(7, 18))
"""Contexts at which carried state is drawn."""
FILES = ("layout.json", "model.onnx", "recipe.json", "measurements.csv")


class StudySource:
    """A study in a store; see `reports.dashboard.Source`. Used from several threads.

    Args:
        store: Holds it; closed by `close`.
        name: Of the study.
        beside: A store of measurements made by hand, whose layouts' times are shown too.
        options: What a command needs to find the study's layouts again, such as ``--runs DIR``.
    """

    def __init__(self, store: Store, name: str, *, beside: Store | None = None, options: str = "") -> None:
        self._store = store
        self._name = name
        self._beside = beside
        self._options = options
        self._lock = Lock()
        self._study: Study | None = None
        self._snapshot: Snapshot | None = None
        self._details: dict[Key, tuple[object, Details]] = {}

    def close(self) -> None:
        """Close the stores."""
        for store in (self._store, self._beside):
            if store is not None:
                store.close()

    def version(self) -> str:
        """Changes whenever the study does."""
        return "-".join(map(str, self._store.version(self._name)))

    def snapshot(self) -> Snapshot:
        """The study now."""
        return self._read()[1]

    def _read(self) -> tuple[Study, Snapshot]:
        with self._lock:
            study = read_study(self._store, self._name, self._study)
            if self._snapshot is None or study is not self._study:
                self._study, self._snapshot = study, snapshot(ranked(self._store, study))
            return study, self._snapshot

    def going_on(self) -> str:
        """Runs that have begun and not ended, and whose process lives."""
        begun = {str(data.get("owner")): (at, data) for at, _, data in self._store.events(self._name, RUN_STARTED)}
        for at, _, data in self._store.events(self._name, RUN_ENDED):
            owner = str(data.get("owner"))
            if at >= begun.get(owner, (at + 1, {}))[0]:
                del begun[owner]
        alive = [data for owner, (at, data) in begun.items() if not owner_is_dead(owner, at)]
        if not alive:
            return ""
        devices = list(dict.fromkeys(name for data in alive for name in data.get("devices", ())))
        return f"measuring on {', '.join(devices)}"

    def state_mib(self, context: int) -> Mapping[str, float]:
        """Carried state of one sequence at a context, by layout id."""
        layouts = {m.layout.layout_id: m.layout for m in self._read()[0].measurements if m.layout is not None}
        return {key: state_bytes(layout, context=context) / 2**20 for key, layout in layouts.items()}

    def details(self, key: Key) -> Details:
        """Everything of one layout."""
        study = self._read()[0]
        with self._lock:
            known = self._details.get(key)
            if known is not None and known[0] is study:
                return known[1]
        own = self._own(study, key)
        layout = own[0].layout
        assert layout is not None
        found = Details(
            facts=_facts(layout, own[0].precision), runs=[self._run(m, study) for m in own],
            times=self._times(study, key), growth=_growth(own[0], study), files=FILES,
        )  # fmt: skip
        with self._lock:
            self._details[key] = (study, found)
        return found

    def _own(self, study: Study, key: Key) -> list[Measurement]:
        own = [m for m in study.measurements if m.layout and (m.layout.layout_id, m.precision) == tuple(key)]
        if not own:
            raise LookupError(f"the study has no layout {key[0]} in {key[1]}")
        return own

    def _run(self, m: Measurement, study: Study) -> Run:
        parts, said = _breakdown(m)
        status, reason = study.judgement.status(m)
        when = datetime.fromtimestamp(m.created_unix, UTC)
        role = f" ({m.role})" if m.role == "watch" else ""
        return Run(
            title=f"{m.device}, {m.workload}, {when:%Y-%m-%d %H:%M} UTC{role}", device=m.device, status=status,
            reason=reason, samples=_samples(m), breakdown=parts, breakdown_note=said,
            conditions=_conditions(m), command=self._command(m),
        )  # fmt: skip

    def _command(self, m: Measurement) -> str:
        what = m.name if m.name in anchor_names() else m.layout.layout_id if m.layout else m.label
        words = ["archsearch", "measure", str(what), "--device", m.device, "--workload", m.workload, "--precision",
                 m.precision]  # fmt: skip
        return shlex.join(words) + self._options

    def _times(self, study: Study, key: Key) -> list[dict[str, Any]]:
        """Rows with times of this layout, here and by hand, and of the anchors beside it."""
        from archsearch.records import load_measurements

        found: list[dict[str, Any]] = []
        known = list(study.rows)
        if self._beside is not None and self._beside.study("measure") is not None:
            of = {m.job_id: m for m in load_measurements(self._beside, "measure")}
            known += rows(m for m in of.values() if m.layout and m.layout.layout_id == key[0])
        for row in known:
            mine = (row["layout_id"], row["precision"]) == tuple(key)
            beside = bool(row["anchor"]) and row["precision"] == key[1]
            if row["status"] != "ok" or row["batch"] != 1 or not (mine or beside):
                continue
            times = {
                f"{name}{end}": row.get(f"{name}{end}")
                for name in ("ttft_ms", "decode_ms")
                for end in ("", "_low", "_high")
            }
            found.append({
                "series": f"{row['name'] or 'this layout'}, {row['device']}", "device": row["device"],
                "anchor": not mine, "prompt": row["prompt"], "context": row["prompt"] + row["decode"] // 2, **times,
            })  # fmt: skip
        return sorted(found, key=lambda row: row["anchor"])

    def file(self, key: Key, name: str) -> bytes:
        """One of `FILES`."""
        study = self._read()[0]
        last = self._own(study, key)[-1]
        assert last.layout is not None
        if name == "layout.json":
            named = NamedLayout(layout=last.layout, name=last.name or "")
            return (json.dumps(named.to_json(), indent=1) + "\n").encode()
        if name == "measurements.csv":
            own = [row for row in study.rows if (row["layout_id"], row["precision"]) == tuple(key)]
            return render(own, None, "csv").encode()
        if name in ("model.onnx", "recipe.json"):
            from archsearch.candidates import prepare

            load = Workload(name=last.workload, points=last.points, description="")
            return prepare(
                last.layout, workload=load, precision=_precision(last.precision), lowerings=last.lowerings,
                seed=last.seed or 0,
            ).files[name]  # fmt: skip
        raise LookupError(f"there is no file {name!r} of a layout")


def _precision(name: str) -> PrecisionName:
    return next(known for known in PRECISIONS if known == name)


def _title(m: Measurement) -> str:
    return m.name or (m.layout.code if m.layout else m.label)


def _facts(layout: Layout, precision: str) -> dict[str, str]:
    counts, emb = parameters(layout), layout.embedding
    stored = {name: size / 2**20 for name, size in all_weight_bytes(layout).items()}
    return {
        "id": layout.layout_id,
        "layers": f"{len(layout.layers)}: " + ", ".join(
            f"{sum(layer.mixer.kind == kind for layer in layout.layers)} {kind}"
            for kind in dict.fromkeys(layer.mixer.kind for layer in layout.layers)
        ),
        "width": f"{layout.width:,}",
        "embedding": f"vocabulary {emb.vocab_size:,}"
        + (f", rank {emb.rank:,}" if emb.rank else "") + (", tied" if emb.tied else ", untied"),
        "parameters": f"{counts.total:,}, of which the embedding {counts.vocabulary:,} ({counts.embedding_share:.2%})",
        "mixers, feed-forward": f"{counts.mixers:,} and {counts.ffn:,} parameters",
        "stored weights": ", ".join(
            f"{name} {size:,.1f} MiB" + (" (measured)" if name == precision else "") for name, size in stored.items()
        ),
    }  # fmt: skip


def _growth(own: Measurement, study: Study) -> dict[str, list[tuple[int, float]]]:
    """Of a layout, and of the study's anchors that are not it."""
    assert own.layout is not None
    curves = {_title(own): _curve(own.layout)}
    for m in study.measurements:
        if m.role == ANCHOR and m.layout is not None and m.layout != own.layout:
            curves.setdefault(_title(m), _curve(m.layout))
    return curves


def _curve(layout: Layout) -> list[tuple[int, float]]:
    return [(context, state_bytes(layout, context=context) / 2**20) for context in GROWTH]


def _samples(m: Measurement) -> dict[str, list[Sample]]:
    """By the words for a point: its sequences, process by process."""
    found: dict[str, list[Sample]] = {point.text: [] for point in m.points}
    for number, process in enumerate(m.result.timing if m.result is not None else ()):
        for of in process.points:
            if of.point >= len(m.points):
                continue
            kinds: list[tuple[SampleKind, Any]] = [("warm-up", rep) for rep in of.warmup]
            kinds += [("counts" if r.kept else "discarded: others used the device", r) for r in of.repeats]
            found[m.points[of.point].text] += [
                Sample(process=number, kind=kind, ttft_ms=rep.ttft_ns / 1e6,
                       decode_ms=tuple(ns / 1e6 for ns in rep.decode_ns))
                for kind, rep in kinds
            ]  # fmt: skip
    return {text: samples for text, samples in found.items() if samples}


def _conditions(m: Measurement) -> dict[str, str]:
    """What the agent said of the device and of the job, in words; what it did not say is left out."""
    key = json.loads(m.conditions or "{}")
    runtime = key.get("runtime") or {}
    found: dict[str, str] = {
        "job": m.job_id, "method": str(key.get("method") or ""), "runtime": f"onnxruntime {key.get('runtime_version')}",
        "threads": str(runtime.get("threads") or ""),
        "cores": ", ".join(map(str, runtime.get("cores") or ())) or "all",
        "providers": ", ".join(name for name, _ in runtime.get("providers") or ()),
        "kernels": ", ".join(f"{block}: {name}" for block, name in by_kind(m.lowerings).items()),
        "bytes sent": f"{m.bytes_sent:,}",
    }  # fmt: skip
    result = m.result
    if result is not None:
        found |= _environment(result)
        found["processes"] = str(len(result.timing))
        found["stopped because"] = str(result.stopped_because or "")
        found["time"] = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items())
        if result.memory is not None:
            found["memory"] = f"peak {result.memory.peak_rss_mib:,.1f} MiB ({result.memory.source})"
    return {name: text for name, text in found.items() if text}


def _environment(result: Result) -> dict[str, str]:
    """Temperature, clocks and load, before and at the end as far as they could be read."""
    there = result.environment
    cores = f"{there.cores} cores" if there.cores else ""
    found = {
        "device": ", ".join(filter(None, (there.cpu_model, cores, there.os))), "governor": there.governor or "",
        "load before": "" if there.load1 is None else f"{there.load1:.2f}",
    }  # fmt: skip
    degrees = [value for value in (there.temperature_c, there.further("temperature_end_c")) if isinstance(value, float)]
    found["temperature"] = ", then ".join(f"{value:.1f} °C" for value in degrees)
    for name, clocks in (("clocks", there.cpu_mhz), ("clocks at the end", there.further("cpu_mhz_end"))):
        known = (
            [float(mhz) for mhz in clocks if isinstance(mhz, int | float)] if isinstance(clocks, list | tuple) else []
        )
        if known:
            found[name] = (
                f"{min(known):,.0f} to {max(known):,.0f} MHz" if min(known) < max(known) else f"{known[0]:,.0f} MHz"
            )
    busy = [rep.other_cpu for p in result.timing for of in p.points for rep in of.repeats if rep.other_cpu is not None]
    if busy:
        found["used by others"] = f"up to {max(busy):.1%} of all cores during a sequence"
    return found


def _breakdown(m: Measurement) -> tuple[list[dict[str, Any]], str]:
    """Time by block and operator, and what was profiled, in words."""
    from archsearch.breakdown import breakdown

    found = breakdown(m)
    if found is None:
        return [], ""
    parts = [
        {"block": row.block or row.part, "operator": row.operator or "small ones", "prefill_ms": row.prefill_ms,
         "decode_ms": row.decode_ms}
        for row in found.by_operator()
    ]  # fmt: skip
    told = []
    for name, phase in (("prefill", found.prefill), ("step", found.decode)):
        # A prefill that was cut short is not set beside the time of the whole one.
        alike = found.prompt == found.point.prompt and phase.measured_ms is not None
        beside = f", {phase.measured_ms:.4g} ms measured without profiling" if alike else ""
        told.append(f"{name} {phase.nodes_ms:.4g} ms in operators and {phase.outside_ms:.4g} ms between{beside}")
    said = (
        f"The runtime's own profile of a prefill of {found.prompt:,} tokens and {found.steps} steps. Profiling slows "
        f"small operators: read the shares. In all: {'; '.join(told)}."
    )
    return parts, said

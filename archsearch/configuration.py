"""What a study is made of, as JSON in the store: written when it begins, read back when it is continued or shown."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsearch.errors import StudyError
from archsearch.objectives import objectives as all_objectives
from archsearch.sampling import SAMPLERS
from archsearch.study_settings import Settings
from profiler.workloads import Point, Workload, parse_workload
from reports.budgets import parse_budgets
from reports.errors import UnknownNameError
from search_space.graph.precision import PRECISIONS, PrecisionName
from search_space.layout_file import parse_layout
from search_space.notation import resolve
from search_space.space import Space
from search_space.space_file import read_space, space_path
from search_space.wording import did_you_mean

DEFAULT_ANCHORS = ("lfm2.5-350m", "gemma-3-270m", "qwen3.5-0.8b")
DEFAULT_OBJECTIVES = ("ttft_ms", "decode_ms", "peak_rss_mib", "effective_params")


def new_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a new study from command-line options; everything is checked.

    Args:
        options: space, workload, precision, objective, budget, anchor, sampler, seed, across, tune, lowering (a
            mapping by block kind).

    Raises:
        ArchsearchError, SearchSpaceError, ProfilerError, ReportError: An option is wrong; the message says which.
    """
    path = space_path(options["space"])
    space = read_space(path)
    workload = parse_workload(options["workload"])
    names = tuple(options["objective"] or DEFAULT_OBJECTIVES)
    known = all_objectives()
    for name in names:
        if name not in known:
            raise StudyError(f"there is no objective {name!r}{did_you_mean(name, known)}")
    if len(names) > 5:
        raise StudyError(f"{len(names)} objectives cannot be ranked together, at most 5 can", hint="make some budgets")
    budgets = parse_budgets(options["budget"] or ())
    anchors = [resolve(text) for text in (options["anchor"] or space.anchors or DEFAULT_ANCHORS)]
    _one_of(options["precision"], PRECISIONS, "--precision")
    _one_of(options["sampler"], SAMPLERS, "--sampler")
    return {
        "format": 1,
        "space": {"name": space.name, "text": path.read_text(encoding="utf-8")},
        "workload": {
            "name": workload.name,
            "description": workload.description,
            "points": [point.to_list() for point in workload.points],
        },
        "precision": options["precision"],
        "objectives": list(names),
        "budgets": [str(budget) for budget in budgets],
        "anchors": [anchor.to_json() for anchor in anchors],
        "sampler": options["sampler"],
        "seed": options["seed"],
        "across": options["across"],
        "tune": options["tune"],
        "lowering": dict(options["lowering"]),
    }


def settings(config: Mapping[str, Any]) -> Settings:
    """The settings of a stored study.

    Raises:
        StudyError: It was written by another version.
    """
    if config.get("format") != 1:
        raise StudyError(f"the study's configuration has format {config.get('format')!r}; this version reads format 1")
    points = tuple(map(Point.from_list, config["workload"]["points"]))
    return Settings(
        space=_space(config["space"]["name"], config["space"]["text"]),
        workload=Workload(
            name=config["workload"]["name"], points=points, description=config["workload"]["description"]
        ),
        precision=_precision(config["precision"]),
        objectives=tuple(config["objectives"]),
        budgets=parse_budgets(config["budgets"]),
        anchors=tuple(parse_layout(dict(anchor)) for anchor in config["anchors"]),
        sampler=config["sampler"],
        seed=config["seed"],
        across=config["across"],
        tune=config.get("tune", True),
        pins=config.get("lowering", {}),
    )


def _space(name: str, text: str) -> Space:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return read_space(path)


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any], explicit: Sequence[str]) -> list[str]:
    """Explicitly given options that contradict a stored study, in words."""
    shown = {"objective": "objectives", "budget": "budgets", "anchor": "anchors"}
    found = []
    for option in explicit:
        field = shown.get(option, option)
        if field in stored and stored[field] != asked[field]:
            found.append(f"--{option} (the study has {_words(stored[field])})")
    return found


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value["name"]) if "name" in value else ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(v.get("name") if isinstance(v, Mapping) else v) for v in value) or "none"
    return str(value)


def _precision(value: str) -> PrecisionName:
    return next(name for name in PRECISIONS if name == value)


def _one_of(value: str, allowed: Sequence[str], option: str) -> None:
    if value not in allowed:
        raise UnknownNameError(f"{option} is {value!r}; it must be one of {', '.join(allowed)}")


def config_path(folder: Path) -> Path:
    """Where a copy of a study's configuration lies, for people."""
    return folder / "study.json"

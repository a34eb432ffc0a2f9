"""Several graphs in one job: timed in turns, each judged alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiler.jobs import Contender, Job, Runtime, comparison_id
from profiler.results import parse_result
from profiler.workloads import Point
from tests.unit.profiler import agent_models as models

SIZES = (Point(prompt=12, decode=6), Point(prompt=1, decode=9, depth=40))


def compared(
    work: Path, contenders: dict[str, tuple[bytes, Any, Any]], checks: Any = (), traced: bool = True, **changes: Any
) -> tuple[Job, dict[str, Any]]:
    """Run a comparison of these models at both sizes to its end."""
    theirs = tuple(
        Contender(name=name, signature=model[2], content_id=name, points=SIZES, traced=traced)
        for name, model in contenders.items()
    )
    job = Job(
        job_id="job-1", label="a comparison", signature={}, runtime=Runtime(threads=1),
        content_id=comparison_id(theirs), points=SIZES * len(theirs), contenders=theirs,
    )  # fmt: skip
    order = models.job({}, model=job.to_json()["model"], points=job.to_json()["points"], **changes)
    files = {}
    for at, (graph, recipe, _) in enumerate(contenders.values()):
        files |= {f"contender{at}.onnx": graph, f"contender{at}.json": json.dumps(recipe).encode()}
    for number, (at, (check, check_files)) in enumerate(checks):
        names = {"graph": f"check{number}.onnx", "recipe": f"check{number}.json"}
        order["checks"].append({**check, **names, "contender": at})
        files |= {names["graph"]: check_files["check0.onnx"], names["recipe"]: check_files["check0.json"]}
    folder = models.folder_of(work, order, files)
    with models.start(folder) as agent:
        assert agent.wait(timeout=60) == 0
    raw = (folder / "result.json").read_bytes()
    result: dict[str, Any] = json.loads(raw)
    if result["status"] == "ok":
        parse_result(raw, job)  # the host accepts it
    return job, result


def test_contenders_take_turns_and_all_are_measured(tmp_path: Path):
    _, result = compared(
        tmp_path, {"one": models.hybrid(), "two": models.hybrid(scale=0.3)}, protocol={"memory_pass": True}
    )
    assert result["status"] == "ok", result["reason"]
    assert [(entry["name"], entry["points"]) for entry in result["contenders"]] == [("one", [0, 1]), ("two", [2, 3])]
    assert all(entry["operators"]["GroupQueryAttention"] == 1 for entry in result["contenders"])
    timing = [process for process in result["processes"] if process["kind"] == "timing"]
    for process in timing:
        assert [samples["point"] for samples in process["points"]] == [0, 1, 2, 3]
        for samples in process["points"]:
            assert len(samples["repeats"]) == len(process["points"][0]["repeats"])
            assert all(len(repeat["decode_ns"]) == SIZES[samples["point"] % 2].decode for repeat in samples["repeats"])
    # Of a point that begins in the middle there is no honest peak: a pass for each of the others.
    passes = [process["memory"]["point"] for process in result["processes"] if process["kind"] == "memory"]
    assert passes == [0, 2]


def test_what_was_computed_does_not_depend_on_the_company(tmp_path: Path):
    _, alone = compared(tmp_path / "alone", {"one": models.hybrid()})
    _, both = compared(tmp_path / "both", {"two": models.hybrid(scale=0.3), "one": models.hybrid()})
    single = models.measure(tmp_path / "single", models.hybrid(), points=[SIZES[0].to_json()])
    logits = next(process["points"] for process in alone["processes"] if process["kind"] == "timing")
    other = next(process["points"] for process in both["processes"] if process["kind"] == "timing")
    plain = next(process["points"] for process in single["processes"] if process["kind"] == "timing")
    for own, theirs in zip(logits, other[2:], strict=True):
        assert own["logits"]["sample"] == pytest.approx(theirs["logits"]["sample"], rel=1e-5)
    assert logits[0]["logits"]["sample"] == pytest.approx(plain[0]["logits"]["sample"], rel=1e-5)


@pytest.mark.parametrize("why", ["check", "graph"])
def test_a_contender_that_is_wrong_or_does_not_load_is_left_out_with_its_reason(tmp_path: Path, why: str):
    graph, recipe, signature = models.hybrid()
    checks: list[Any] = [(1, models.block_check())]
    if why == "check":
        checks.append((0, models.block_check(tolerance=1e-12)))
    else:
        graph = b"no graph at all"
    _, result = compared(tmp_path, {"wrong": (graph, recipe, signature), "right": models.hybrid()}, checks)
    assert result["status"] == "ok", result["reason"]
    wrong, right = result["contenders"]
    assert ("check running sum failed" if why == "check" else "Protobuf parsing failed") in wrong["error"]
    assert right["error"] == ""
    timing = next(process for process in result["processes"] if process["kind"] == "timing")
    assert [samples["point"] for samples in timing["points"]] == [2, 3]


@pytest.mark.parametrize("why", ["logits", "load", "states", "run"])
def test_a_contender_that_fails_while_it_is_timed_is_left_out_and_the_others_go_on(tmp_path: Path, why: str):
    graph, recipe, signature = models.hybrid(scale=3e38) if why == "logits" else models.hybrid()
    if why == "load":
        graph = b"no graph at all"
    elif why == "states":
        signature["states"][0]["input"] = "past_nothing"
    elif why == "run":
        signature["vocab_size"] = 10**6  # tokens that its table does not have
    _, result = compared(
        tmp_path, {"wrong": (graph, recipe, signature), "right": models.hybrid()}, traced=False,
        protocol={"memory_pass": True},
    )  # fmt: skip
    assert result["status"] == "ok", result["reason"]
    wrong, right = result["contenders"]
    said = {"logits": "logits are not finite", "load": "Protobuf", "states": "past_nothing", "run": "indices"}[why]
    assert said in wrong["error"]
    assert right["error"] == ""
    timing = [process for process in result["processes"] if process["kind"] == "timing"]
    assert len(timing) > 1
    assert all([samples["point"] for samples in process["points"]] == [2, 3] for process in timing)
    passes = [process["memory"]["point"] for process in result["processes"] if process["kind"] == "memory"]
    assert passes == [2]


def test_contenders_that_all_fail_while_they_are_timed_make_it_invalid(tmp_path: Path):
    _, result = compared(tmp_path, {"a": models.hybrid(scale=3e38), "b": models.hybrid(scale=3e38)}, traced=False)
    assert result["status"] == "invalid"
    assert "none of the contenders runs here; a: the logits are not finite" in result["reason"]


def test_a_comparison_of_which_nothing_runs_is_invalid(tmp_path: Path):
    _, recipe, signature = models.hybrid()
    _, result = compared(tmp_path, {"a": (b"nothing", recipe, signature), "b": (b"nothing", recipe, signature)})
    assert result["status"] == "invalid"
    assert "none of the contenders runs here; a:" in result["reason"]

"""The agent's decisions, one by one: intervals, agreement, the weight cache, limits, load."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from profiler.agent import cache as cache_module
from profiler.agent import conditions
from profiler.agent.agreement import disagreements, half_width, median, relative_rms, wanted_repeats, widest_interval
from profiler.agent.cache import WeightCache
from profiler.agent.limits import MemoryCgroup, resident_mib
from profiler.agent.protocol import JobFailure, finite, one_line, read_json, write_json
from profiler.agent.timing import settled


def process(index: int, ttft: float, step: float, **logits: Any) -> dict[str, Any]:
    seen = {"finite": True, "tokens": [1, 2], "sample": [1.0, 2.0], "rms": 1.0, **logits}
    kept = {"ttft_ns": ttft, "decode_ns": [step] * 3, "kept": True}
    discarded = {"ttft_ns": 10**12, "decode_ns": [10**12], "kept": False}
    return {"index": index, "points": [{"point": 0, "logits": seen, "repeats": [kept, discarded]}]}


@pytest.mark.parametrize("values", [[1.0, 1.1], [5.0, 5.2, 5.1, 4.8], [float(v) for v in range(1, 40)]])
def test_the_interval_is_students(values: list[float]) -> None:
    low, high = stats.t.interval(0.95, len(values) - 1, loc=0, scale=stats.sem(values))
    expected = (high - low) / 2 / (sum(values) / len(values))
    assert half_width(values) == pytest.approx(expected, rel=0.04 if len(values) > 31 else 1e-3)


def test_one_process_has_no_interval() -> None:
    assert half_width([3.0]) == math.inf
    assert half_width([]) == math.inf


def test_the_widest_interval_decides_and_discarded_repeats_do_not_count() -> None:
    assert widest_interval([process(0, 100, 10), process(1, 100, 10)]) == 0
    assert widest_interval([process(0, 100, 10), process(1, 100, 11)]) == half_width([10, 11])
    assert widest_interval([process(0, 100, 10), process(1, 130, 11)]) == half_width([100, 130])


def test_median_of_even_and_odd_counts() -> None:
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 2, 3]) == 2.5


def test_processes_must_agree() -> None:
    a = process(0, 1, 1)
    assert disagreements([a, process(1, 1, 1)]) == {}
    assert "different logits" in disagreements([a, process(1, 1, 1, sample=[1.0, 2.1])])[0]
    assert "different tokens" in disagreements([a, process(1, 1, 1, tokens=[1, 3])])[0]
    assert disagreements([a, process(1, 1, 1, tokens=[1, 3], sample=[1.0, 2.0001])]) == {}


def sequences(*times: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"prefill_ns": prefill, "decode_ns": [step] * 3} for prefill, step in times]


@pytest.mark.parametrize(
    ("times", "ended"),
    [
        ([(100, 10)], False),  # one sequence tells nothing
        ([(100, 10), (100, 10)], True),
        ([(200, 10), (100, 10)], False),  # prefill still gains
        ([(100, 20), (100, 10)], False),  # the step does
        ([(200, 20), (100, 10), (99, 9.9)], True),
        ([(200, 20), (100, 10), (90, 10)], False),
        ([(100, 10), (120, 13)], True),  # slower is noise or heat, not warming up
        ([(200, 20), (100, 10), (115, 12), (104, 10.5)], True),
        ([(200, 20), (100, 10), (115, 12), (90, 10.5)], False),  # faster than anything before
    ],
)
def test_warm_up_ends_when_nothing_gets_faster(times: list[tuple[float, float]], ended: bool) -> None:
    assert settled(sequences(*times), 0.03) is ended


def test_a_prefill_alone_can_warm_up() -> None:
    assert settled([{"prefill_ns": 10, "decode_ns": []}] * 2, 0.03)
    assert not settled([{"prefill_ns": 10, "decode_ns": []}, {"prefill_ns": 9, "decode_ns": []}], 0.03)


def test_relative_rms() -> None:
    assert relative_rms([1, 2], [1, 2]) == 0
    assert relative_rms([3, 0], [0, 4]) == pytest.approx(5 / 4)
    assert relative_rms([1], [1, 2]) == math.inf
    assert relative_rms([math.nan], [1.0]) != relative_rms([1.0], [1.0])


@pytest.mark.parametrize(("decode", "wanted"), [(128, 2), (32, 2), (16, 3), (4, 8), (0, 2)])
def test_repeats_reach_the_samples_of_a_95th_percentile(decode: int, wanted: int) -> None:
    assert wanted_repeats({"min_processes": 3, "min_repeats": 2, "max_repeats": 8}, decode) == wanted


class TestCache:
    def place(self, cache: WeightCache, folder: Path, seed: int, size: int = 2**20) -> cache_module.Placed:
        fill = {"kind": "bytes", "seed": seed}
        tensor = {"name": "t", "dtype": "uint8", "shape": [size], "offset": 0, "fill": fill}
        (folder / "r.json").write_text(json.dumps({"format": 1, "size": size, "tensors": [tensor]}))
        (folder / "g.onnx").write_bytes(b"graph %d" % seed)
        return cache.place(folder / "g.onnx", folder / "r.json")

    def test_a_second_time_is_free(self, tmp_path: Path) -> None:
        first = self.place(WeightCache(tmp_path / "w"), tmp_path, 1)
        second = self.place(WeightCache(tmp_path / "w"), tmp_path, 1)
        assert (first.cached, second.cached) == (False, True)
        assert first.model == second.model
        assert first.model.read_bytes() == b"graph 1"

    @pytest.mark.parametrize("damage", ["truncated", "unmarked"])
    def test_what_is_damaged_or_unfinished_is_written_again(self, tmp_path: Path, damage: str) -> None:
        folder = self.place(WeightCache(tmp_path / "w"), tmp_path, 1).model.parent
        if damage == "truncated":
            os.truncate(folder / "weights.bin", 100)
        else:
            (folder / "done").unlink()
        assert not self.place(WeightCache(tmp_path / "w"), tmp_path, 1).cached
        assert (folder / "weights.bin").stat().st_size == 2**20

    def test_the_longest_unused_goes_first_and_what_is_in_use_stays(self, tmp_path: Path) -> None:
        placed = [self.place(WeightCache(tmp_path / "w"), tmp_path, seed).model.parent for seed in (1, 2, 3)]
        for age, folder in zip((300, 200, 100), placed, strict=True):
            os.utime(folder / "done", (time.time() - age,) * 2)
        cache = WeightCache(tmp_path / "w", limit_mib=4)
        assert self.place(cache, tmp_path, 1).cached  # used again: now it is the youngest, and in use
        self.place(cache, tmp_path, 4)
        self.place(cache, tmp_path, 5)
        assert [folder.exists() for folder in placed] == [True, False, False]

    def test_what_others_keep_beside_is_neither_removed_nor_counted(self, tmp_path: Path) -> None:
        theirs = tmp_path / "w" / "llama"
        theirs.mkdir(parents=True)
        (theirs / "model.bin").touch()
        os.truncate(theirs / "model.bin", 9 * 2**30)
        (tmp_path / "w" / (63 * "a")).mkdir()
        first = self.place(WeightCache(tmp_path / "w", limit_mib=3), tmp_path, 1).model.parent
        self.place(WeightCache(tmp_path / "w", limit_mib=3), tmp_path, 2)
        assert first.exists()
        self.place(WeightCache(tmp_path / "w", limit_mib=3), tmp_path, 3)
        assert not first.exists()
        assert (theirs / "model.bin").exists()
        assert (tmp_path / "w" / (63 * "a")).exists()

    def test_a_full_disk_is_said_before_writing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(WeightCache, "_free", lambda _: 10 * 2**20)
        with pytest.raises(JobFailure, match="disk full: the weights need 1 MiB and 64 MiB to spare, and 10 MiB are"):
            self.place(WeightCache(tmp_path / "w"), tmp_path, 1)

    @pytest.mark.parametrize("recipe", ["", "[]", "{}", '{"size": 3}', '{"size": 3, "tensors": [{}]}'])
    def test_a_wrong_recipe_leaves_nothing(self, tmp_path: Path, recipe: str) -> None:
        (tmp_path / "r.json").write_text(recipe)
        (tmp_path / "g.onnx").write_bytes(b"")
        with pytest.raises(JobFailure, match=r"recipe|r\.json"):
            WeightCache(tmp_path / "w").place(tmp_path / "g.onnx", tmp_path / "r.json")
        assert not list(tmp_path.glob("w/*"))


class TestCgroup:
    """Against a folder that looks like a cgroup tree; the kernel's part is not ours to test."""

    def tree(self, root: Path, *, delegated: str) -> Path:
        own = root / "user/session"
        own.mkdir(parents=True)
        (root / "cgroup.controllers").write_text("cpu memory")
        for folder in (own, own.parent):
            folder.joinpath("cgroup.subtree_control").write_text("memory" if folder.name == delegated else "")
        return root

    @pytest.mark.parametrize("delegated", ["session", "user"])
    def test_it_is_made_where_memory_is_delegated(self, tmp_path: Path, delegated: str) -> None:
        group = MemoryCgroup(100, root=self.tree(tmp_path, delegated=delegated), own="/user/session")
        (made,) = tmp_path.rglob("archsearch-*")
        assert group.active
        assert made.parent.name == delegated
        assert (made / "memory.max").read_text() == str(100 * 2**20)
        (made / "memory.events").write_text("oom 0\noom_kill 0\n")
        assert group.adopt(os.getpid())
        assert not group.killed()
        (made / "memory.events").write_text("oom 1\noom_kill 1\n")
        assert group.killed()

    def test_without_delegation_somebody_else_has_to_look(self, tmp_path: Path) -> None:
        group = MemoryCgroup(100, root=self.tree(tmp_path, delegated="nobody"), own="/user/session")
        assert not group.active
        assert not group.adopt(os.getpid())
        assert not list(tmp_path.rglob("archsearch-*"))


def test_resident_memory_of_a_living_and_of_a_dead_process() -> None:
    assert 1 < resident_mib(os.getpid()) < 10_000
    assert resident_mib(2**22 + 1) == 0


class TestLoad:
    def test_own_work_is_not_others_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, busy, own = [100.0], [50.0], [10.0]
        monkeypatch.setattr(conditions.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(conditions, "busy_seconds", lambda: busy[0])
        monkeypatch.setattr(conditions.os, "cpu_count", lambda: 4)
        load = conditions.OtherLoad(lambda: own[0])
        clock[0], busy[0], own[0] = 102.0, 54.0, 12.0  # of 8 core seconds we used 2 and others 2
        assert load.since_mark() == pytest.approx(0.25)
        load.mark()
        clock[0], busy[0], own[0] = 102.1, 54.2, 12.2  # too short to tell alone: judged with what came before
        assert load.since_mark() == pytest.approx(2 / 8.4)

    def test_a_device_that_shows_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conditions, "busy_seconds", lambda: None)
        load = conditions.OtherLoad(lambda: 0.0)
        load.mark()
        assert load.since_mark() is None


def test_json_files_are_whole_and_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1.0, math.nan, (math.inf, 2)]})
    assert read_json(tmp_path / "a.json") == {"x": [1.0, None, [None, 2]]}
    assert finite({"a": -math.inf}) == {"a": None}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_error_fits_a_line() -> None:
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(JobFailure("failed", "reason")) == "reason"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line("x" * 1000)) == 400

"""A job runs as real processes, and what it measured is the computation that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from profiler.agent.agreement import relative_rms
from profiler.agent.driver import Driver
from profiler.agent.protocol import JobFailure
from profiler.agent.weights import raw_words, tensor_values
from profiler.foreign import inspect
from profiler.results import Result
from tests.unit.profiler import agent_models as models


def prompt_of(seed: int, batch: int, length: int) -> np.ndarray:
    return (raw_words(seed, batch * length).reshape(batch, length) % np.uint64(models.V)).astype(np.int64)


def plain_tokens(model: Path, batch: int, prompt: int, decode: int, seed: int) -> tuple[list[int], np.ndarray]:
    """The hybrid graph in one session of ours: caches passed by value, exact capacity."""
    session = ort.InferenceSession(str(model))
    tokens = prompt_of(seed, batch, prompt)
    cache = np.zeros((batch, models.KV, prompt + decode, models.HEAD), np.float32)
    state = [np.zeros((batch, 2, models.D), np.float32), cache, cache]
    found, first, total = [], None, 0
    for _ in range(decode + 1):
        total += tokens.shape[1]
        feed = {
            "input_ids": tokens, "past_conv": state[0], "past_key": state[1], "past_value": state[2],
            "seqlens_k": np.full(batch, total - 1, np.int32), "total": np.array(total, np.int32),
        }  # fmt: skip
        logits, *state = session.run(["logits", "present_conv", "present_key", "present_value"], feed)
        first = logits if first is None else first
        tokens = logits[:, -1].argmax(-1)[:, None]
        found.append(int(tokens[0, 0]))
    return found, first[0, -1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    points = [{"batch": 1, "prompt": 12, "decode": 6}, {"batch": 2, "prompt": 5, "decode": 9}]
    work = tmp_path_factory.mktemp("work")
    result = models.measure(
        work, models.hybrid(), models.block_check(), points=points, protocol={"memory_pass": True, "max_processes": 3}
    )
    assert result["status"] == "ok", result["reason"]
    return {**result, "work": work}


def test_the_result_is_what_the_host_accepts(whole: dict[str, Any]) -> None:
    text = (whole["work"] / "jobs/job-1/result.json").read_bytes()
    result = Result.model_validate_json(text)
    assert result.memory is not None
    assert [process.kind for process in result.processes][:3] == ["check", "timing", "timing"]


def test_chunked_decode_gives_the_tokens_of_one_plain_session(whole: dict[str, Any], tmp_path: Path) -> None:
    model = models.unpack(tmp_path, models.hybrid())
    for point, (batch, prompt, decode) in enumerate([(1, 12, 6), (2, 5, 9)]):
        tokens, logits = plain_tokens(model, batch, prompt, decode, seed=7 + point)
        seen = whole["processes"][1]["points"][point]["logits"]
        assert seen["finite"]
        assert seen["tokens"] == tokens
        sample = logits[np.linspace(0, models.V - 1, 64).round().astype(int)].tolist()
        assert relative_rms(seen["sample"], sample) < 1e-4


def test_the_job_stops_for_a_reason_and_books_its_time(whole: dict[str, Any]) -> None:
    assert whole["stopped_because"] in {"interval", "max_processes"}
    seconds = whole["seconds"]
    assert sum(value for name, value in seconds.items() if name != "total") == pytest.approx(seconds["total"], abs=0.01)
    for process in whole["processes"][1:3]:
        assert process["exit"] == "ok"
        assert process["load_ms"] > 0
        for samples in process["points"]:
            assert len(samples["warmup"]) >= 2
            for repeat in samples["repeats"]:
                assert 0 < repeat["prefill_ns"] <= repeat["ttft_ns"]
                assert all(step > 0 for step in repeat["decode_ns"])


def test_sequences_too_long_for_the_budget_run_twice_in_each_process(tmp_path: Path) -> None:
    point = {"batch": 1, "prompt": 400, "decode": 200}
    result = models.measure(tmp_path, models.hybrid(), points=[point], protocol={"time_budget_s": 0.01})
    assert result["status"] == "ok"
    for process in result["processes"][1:]:
        (samples,) = process["points"]
        assert (len(samples["warmup"]), len(samples["repeats"])) == (1, 1)
        assert samples["warm"]  # by the tolerance of the tests, which anything meets


def test_what_ran_is_on_record(whole: dict[str, Any]) -> None:
    check = whole["processes"][0]
    assert check["operators"]["GroupQueryAttention"] == 1
    assert set(check["providers"]) == {"CPUExecutionProvider"}
    assert whole["checks"][0]["ok"]
    assert whole["environment"]["onnxruntime"] == ort.__version__
    assert not list((whole["work"] / "jobs/job-1").glob("trace*"))


def test_memory_has_its_own_process_and_phases(whole: dict[str, Any]) -> None:
    record = whole["processes"][-1]
    assert record["kind"] == "memory"
    memory = record["memory"]
    assert list(memory["phases"]) == ["load", "prefill", "decode"]
    assert memory["peak_rss_mib"] == max(memory["phases"].values())
    assert 0 < memory["baseline_rss_mib"] <= memory["peak_rss_mib"] < 500


def test_weights_are_written_once_and_kept(whole: dict[str, Any], tmp_path: Path) -> None:
    assert whole["weights"]["cached"] is False
    assert whole["weights"]["bytes"] == models.hybrid()[1]["size"]
    again = models.measure(whole["work"], models.hybrid(), job_id="job-2")
    assert again["weights"]["cached"] is True
    assert len(list((whole["work"] / "weights").iterdir())) == 2  # the model's and the block's


@pytest.mark.parametrize("axes", [0, 3])
def test_a_model_from_elsewhere(tmp_path: Path, axes: int) -> None:
    graph = models.masked(axes)
    path = models.unpack(tmp_path / "elsewhere", graph)
    points = [{"batch": 2, "prompt": 9, "decode": 4}]
    result = models.measure(tmp_path / "work", graph, model={"path": str(path)}, points=points)
    assert result["status"] == "ok", result["reason"]
    session = ort.InferenceSession(str(path))
    tokens = prompt_of(7, 2, 9)
    found = []
    for _ in range(5):
        length = tokens.shape[1]
        mask = np.ones((2, length), np.int64)
        positions = np.tile(np.arange(length), (*([axes] if axes else []), 2, 1))
        feed = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
        best = session.run(["logits"], feed)[0][:, -1].argmax(-1)
        found.append(int(best[0]))
        tokens = np.concatenate([tokens, best[:, None]], axis=1)
    assert result["processes"][1]["points"][0]["logits"]["tokens"] == found


def test_a_prompt_in_pieces_is_the_same_prompt(whole: dict[str, Any], tmp_path: Path) -> None:
    points = [{"batch": 1, "prompt": 12, "decode": 6, "chunk": 5}]
    result = models.measure(tmp_path, models.hybrid(), points=points)
    assert result["status"] == "ok", result["reason"]
    timing = [process for process in result["processes"] if process["kind"] == "timing"]
    pieces, once = timing[0]["points"][0]["logits"], whole["processes"][1]["points"][0]["logits"]
    assert relative_rms(pieces["sample"], once["sample"]) < 1e-4
    assert pieces["tokens"] == once["tokens"]


def test_a_concatenated_cache_is_bound_with_the_rows_it_has(tmp_path: Path) -> None:
    graph = models.concatenated()
    path = models.unpack(tmp_path / "elsewhere", graph)
    assert inspect(path).signature == graph[2]
    driver = Driver(ort.InferenceSession(str(path)), graph[2], batch=2, capacity=8)
    embed, head = (tensor_values(tensor) for tensor in graph[1]["tensors"])
    tokens = prompt_of(3, 2, 8)
    prefill, step = driver.call(5), driver.call(1)
    assert prefill.tokens is not None
    assert prefill.logits is not None
    assert step.tokens is not None
    assert step.logits is not None
    for _ in range(2):  # rows of an earlier sequence lie behind the new one's
        driver.reset()
        prefill.tokens[...] = tokens[:, :5]
        prefill.run()
        np.testing.assert_allclose(prefill.logits, embed[tokens[:, :5]].mean(1) @ head, rtol=1e-4, atol=1e-5)
        for length in (6, 7, 8):
            step.tokens[...] = tokens[:, length - 1 : length]
            step.run()
            np.testing.assert_allclose(step.logits, embed[tokens[:, :length]].mean(1) @ head, rtol=1e-4, atol=1e-5)
    with pytest.raises(JobFailure, match="made for 8 tokens"):
        step.run()


def test_a_concatenated_cache_is_measured(tmp_path: Path) -> None:
    graph = models.concatenated()
    points = [{"batch": 1, "prompt": 3, "decode": 4}]
    result = models.measure(tmp_path, graph, points=points, protocol={"memory_pass": True})
    assert result["status"] == "ok", result["reason"]
    embed, head = (tensor_values(tensor) for tensor in graph[1]["tensors"])
    tokens = list(prompt_of(7, 1, 3)[0])
    for _ in range(5):
        tokens.append(int((embed[tokens].mean(0) @ head).argmax()))
    assert result["processes"][1]["points"][0]["logits"]["tokens"] == tokens[3:]

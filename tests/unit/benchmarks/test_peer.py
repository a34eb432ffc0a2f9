"""The comparison with the GenAI builder: what it offers, what it understands, and how it reads traces."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest

import peer_measure
import peer_models
import peer_profile
import peer_turns
from profiler.agent.driver import Driver
from profiler.foreign import inspect
from profiler.foreign_states import WINDOW_SLACK
from profiler.jobs import Runtime
from profiler.workloads import Point
from search_space.blocks.gdn import GDN
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.huggingface import parse_config
from search_space.layout import Embedding, Layer, Layout
from tests.unit.profiler import agent_models

WINDOW = 6
_EPS = 1e-6
_FULL = {"heads": 2, "kv_heads": 1, "head_dim": 32, "qk_norm_eps": _EPS}


def small(*mixers: Any, **fields: Any) -> Layout:
    ffn = SwiGLU(hidden=96, activation="gelu_tanh" if fields else "silu")
    return Layout(
        width=64, embedding=Embedding(vocab_size=128, tied=True, scaled=bool(fields)), norm_eps=_EPS,
        layers=tuple(Layer(mixer=mixer, ffn=ffn) for mixer in mixers), **fields,
    )  # fmt: skip


SMALL = {
    "lfm2-350m": small(ShortConv(kernel=3), GQA(**_FULL, rope_theta=1e6)),
    "gemma-3-270m": small(
        SWA(**_FULL, window=WINDOW, rope_theta=1e4), GQA(**_FULL, rope_theta=1e6), post_norm=True
    ),
    "qwen3.5-0.8b": small(
        GDN(key_heads=2, value_heads=2, key_dim=32, value_dim=32, kernel=4, norm_eps=_EPS),
        GQA(**{**_FULL, "head_dim": 64}, rope_theta=1e7, rotary_fraction=0.25, output_gate=True),
    ),
}  # fmt: skip
SHORTEST = "lfm2-350m"
"""The builder takes half a minute for each."""


# models


@pytest.mark.parametrize("name", peer_models.MODELS)
def test_what_is_offered_first_reads_back_as_the_anchor(name: str) -> None:
    model = peer_models.MODELS[name]
    config = model.spellings[0].wrap(peer_models._text_config(model))
    assert parse_config(config).named.layout == model.layout


def test_a_small_gemma_keeps_both_rotary_bases_beside_the_sections() -> None:
    model = peer_models.MODELS["gemma-3-270m"]
    rope = model.spellings[1].retouch(peer_models._text_config(model))["rope_parameters"]
    assert (rope["rope_theta"], rope["rope_local_base_freq"], rope["rope_type"]) == (1e6, 1e4, "default")
    assert rope["sliding_attention"]["rope_theta"] == 1e4


@pytest.mark.needs("onnxruntime_genai", "transformers")
@pytest.mark.parametrize("name", [SHORTEST, *(pytest.param(n, marks=pytest.mark.long) for n in SMALL if n != SHORTEST)])
def test_what_the_builder_writes_is_driven(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real builder: token by token it says what it says of the whole sequence, past the window too."""
    spellings = peer_models.MODELS[name].spellings
    model = peer_models.PeerModel(layout=SMALL[name], context=64, spellings=spellings)
    monkeypatch.setattr(peer_models, "MODELS", {name: model})
    said: list[str] = []
    built = peer_models.build(name, tmp_path, said.append)
    assert built.layout == SMALL[name]
    assert not built.kept
    foreign = inspect(built.model)
    assert foreign.max_context == 64
    states = foreign.signature["states"]
    windows = [state["shape"][2] for state in states if state.get("in_place") and not state["growing"]]
    assert windows == ([WINDOW + WINDOW_SLACK] * 2 if name.startswith("gemma") else [])

    session = onnxruntime.InferenceSession(str(built.model))
    tokens = np.arange(40).reshape(1, 40) % 100
    step_by_step = _last_logits(session, foreign.signature, tokens, first=3)
    at_once = _last_logits(session, foreign.signature, tokens, first=40)
    assert np.abs(step_by_step - at_once).max() < 0.02 * np.abs(at_once).max()
    assert np.abs(_last_logits(session, foreign.signature, tokens[:, ::-1], first=40) - at_once).max() > 0.1 * (
        np.abs(at_once).max()
    )

    assert peer_models.build(name, tmp_path, said.append).kept
    assert [line for line in said if "the builder writes" in line][-1].endswith(built.spelling)


def _last_logits(session: Any, signature: Any, tokens: Any, *, first: int) -> Any:
    driver = Driver(session, dict(signature), batch=1, capacity=tokens.shape[1])
    driver.reset()
    at = 0
    for length in [first] + [1] * (tokens.shape[1] - first):
        call = driver.call(length)
        assert call.tokens is not None
        call.tokens[...] = tokens[:, at : at + length]
        call.run()
        at += length
    assert call.logits is not None
    return call.logits.copy()


@pytest.mark.needs("onnxruntime_genai", "transformers")
def test_what_the_builder_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text_only = peer_models.MODELS["qwen3.5-0.8b"].spellings[1]
    model = peer_models.PeerModel(layout=SMALL["qwen3.5-0.8b"], context=64, spellings=(text_only,))
    monkeypatch.setattr(peer_models, "MODELS", {"small": model})
    with pytest.raises(peer_models.Refused, match=r"Qwen3_5ForCausalLM.*NotImplementedError.*not currently supported"):
        peer_models.build("small", tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())


# ratios


def test_a_device_that_slows_down_does_not_move_a_paired_ratio() -> None:
    ratio = peer_measure.paired_ratio([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_interval_is_student_s_over_the_logarithms() -> None:
    ratio = peer_measure.paired_ratio([1.0, 4.0], [1.0, 1.0])
    assert ratio.value == pytest.approx(2.0)
    assert math.log(ratio.high / ratio.value) == pytest.approx(
        12.7062 * math.log(2), rel=1e-4
    )  # t(0.975, 1), s/sqrt(2)


def test_one_round_has_no_interval() -> None:
    assert peer_measure.paired_ratio([1.0], [2.0]).high == math.inf


# traces


def node(ts: int, dur: int, kind: str, rows: int = 1) -> dict[str, Any]:
    args = {
        "op_name": kind,
        "input_type_shape": [{"float": [1, rows, 8]}],
        "output_type_shape": [{"float": [1, rows, 16]}],
    }
    return {"cat": "Node", "name": f"{kind}_kernel_time", "ts": ts, "dur": dur, "args": args}


def trace(steps: int) -> list[dict[str, Any]]:
    """Sequences whose prefills take 100 us and whose steps take 50, but for the warm-up, which is ten times slower."""
    events, now = [], 1000
    for sequence in range(peer_profile.WARMUPS + peer_profile.REPEATS):
        slow = 10 if sequence < peer_profile.WARMUPS else 1
        for call in range(1 + steps):
            wall = (50 if call else 100) * slow
            events += [
                node(now, 20 * slow, "MatMul", rows=1 if call else 4), node(now + 20 * slow, 20 * slow, "If"),
                node(now + 25 * slow, 5 * slow, "Mul"),
                {"cat": "Session", "name": "model_run", "ts": now, "dur": wall},
            ]  # fmt: skip
            now += wall
    return events


def test_a_trace_is_summed_by_phase_without_warm_up_and_nested_time() -> None:
    phases = peer_profile.phases_of(reversed(trace(steps=2)), steps=2)
    prefill, decode = phases["prefill"], phases["decode"]
    assert prefill.wall_ms == pytest.approx(0.1)
    assert prefill.operators == pytest.approx({"MatMul": 0.02, "If": 0.015, "Mul": 0.005, peer_profile.REST: 0.06})
    assert prefill.products == pytest.approx({"MatMul 4x8 -> 16": 0.02})
    assert decode.wall_ms == pytest.approx(0.05)
    assert decode.counts == pytest.approx({"MatMul": 1, "MatMul 1x8 -> 16": 1, "If": 1, "Mul": 1})


def test_a_trace_with_calls_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="the trace has 12 calls, not 16"):
        peer_profile.phases_of(trace(steps=2), steps=3)


def test_the_mean_of_traces_knows_what_one_of_them_lacks() -> None:
    one = peer_profile.Phase(wall_ms=4.0, operators={"A": 4.0}, products={}, counts={"A": 1})
    two = peer_profile.Phase(wall_ms=2.0, operators={"A": 1.0, "B": 1.0}, products={}, counts={"A": 1, "B": 2})
    mean = peer_profile.mean_phase([one, two])
    assert (mean.wall_ms, mean.operators, mean.counts) == (3.0, {"A": 2.5, "B": 0.5}, {"A": 1, "B": 1})


class Traced(NamedTuple):
    fields: dict[str, Any]
    files: dict[str, bytes]


def test_real_traces_account_for_every_call() -> None:
    graph, recipe, signature = agent_models.hybrid()
    files = {"model.onnx": graph, "recipe.json": json.dumps(recipe).encode()}
    side = Traced({"signature": signature}, files)
    traced = peer_profile.trace_in_turns({"a": side, "b": side}, Runtime(threads=1), Point(prompt=9, decode=1))
    for name, rows in (("prefill", 9), ("decode", 1)):
        for phase in (traced["a"][name], traced["b"][name]):
            assert sum(phase.operators.values()) == pytest.approx(phase.wall_ms)
            assert phase.counts["GroupQueryAttention"] == pytest.approx(1)
            assert any(key.startswith(f"MatMul {rows}x") for key in phase.products)


def test_a_pair_of_processes_balances_who_was_loaded_first() -> None:
    first, second = math.log(0.9), math.log(1.1)  # the first loaded is slower, whoever it is
    found = peer_turns.over_pairs([(first, second)] * 3)
    assert found.value == pytest.approx(math.sqrt(0.9 * 1.1))
    assert found.low == pytest.approx(found.high)


def test_two_models_step_in_turns_within_one_process() -> None:
    graph, recipe, signature = agent_models.hybrid()
    side = Traced({"signature": signature}, {"model.onnx": graph, "recipe.json": json.dumps(recipe).encode()})
    found = peer_turns.ratios_in_turns({"a": side, "b": side}, Runtime(threads=1), Point(prompt=9, decode=40))
    assert found.keys() == {"ttft_ms", "decode_ms"}
    for interval in found.values():
        assert 0 < interval.low <= interval.value <= interval.high
    broken = Traced({"signature": {**signature, "vocab_size": 10**6}}, side.files)
    with pytest.raises(peer_profile.NoTrace, match="indices"):
        peer_turns.ratios_in_turns({"a": side, "b": broken}, Runtime(threads=1), Point(prompt=9, decode=4))

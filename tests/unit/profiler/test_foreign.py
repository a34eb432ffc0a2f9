"""Graphs from elsewhere: driven, or refused by the name of what is not understood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import ForeignModelError
from profiler.foreign import inspect
from profiler.foreign_states import WINDOW_SLACK
from profiler.workloads import parse_workload

FLOAT, FLOAT16, INT32, INT64 = 1, 10, 6, 7
KV = ["batch", 2, "past", 16]
INPUTS = {
    "input_ids": (INT64, ["batch", "seq"]),
    "attention_mask": (INT64, ["batch", "total"]),
    "past_key_values.0.key": (FLOAT, KV),
    "past_key_values.0.value": (FLOAT, KV),
    "past.1.conv": (FLOAT, ["batch", 64, 2]),
}
OUTPUTS = {
    "logits": (FLOAT, ["batch", "seq", 100]),
    "present.0.key": (FLOAT, KV),
    "present.0.value": (FLOAT, KV),
    "present.1.conv": (FLOAT, ["batch", 64, 2]),
}


def write(
    path: Path,
    inputs: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    *,
    attention: str = "GroupQueryAttention",
    positions: int | None = None,
    **attributes: int,
) -> Path:
    """A graph with these inputs and outputs; an entry of None leaves one out. It need not compute anything."""
    from onnx import helper, save

    ins = {k: v for k, v in {**INPUTS, **(inputs or {})}.items() if v is not None}
    outs = {k: v for k, v in {**OUTPUTS, **(outputs or {})}.items() if v is not None}
    tables = ["seqlens_k", "total_length", "cos", "sin"] if positions else []
    nodes = [
        helper.make_node(
            attention,
            ["q", "k", "v", "past_key_values.0.key", "past_key_values.0.value", *tables],
            ["y", "present.0.key", "present.0.value"],
            domain="com.microsoft",
            num_heads=4,
            **attributes,
        ),
        helper.make_node("MatMulNBits", ["y", "w"], ["o"], domain="com.microsoft", K=64, N=64),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *what) for name, what in ins.items()],
        [helper.make_tensor_value_info(name, *what) for name, what in outs.items()],
        [helper.make_tensor(name, FLOAT, [positions, 8], [0.0] * positions * 8) for name in ("cos", "sin")]
        if positions
        else [],
    )
    save(helper.make_model(graph, producer_name="test"), path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ForeignModelError) as caught:
        inspect(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_a_genai_graph_gives_a_signature(target: Path):
    model = inspect(write(target))
    cache = {"dtype": "float32", "shape": ["batch", 2, "capacity", 16], "growing": True}
    assert model.signature == {
        "inputs": [
            {"name": "input_ids", "role": "tokens", "dtype": "int64", "shape": ["batch", "T"]},
            {"name": "attention_mask", "role": "attention_mask", "dtype": "int64", "shape": ["batch", "total"]},
        ],
        "states": [
            {"input": "past_key_values.0.key", "output": "present.0.key", **cache},
            {"input": "past_key_values.0.value", "output": "present.0.value", **cache},
            {
                "input": "past.1.conv",
                "output": "present.1.conv",
                "dtype": "float32",
                "shape": ["batch", 64, 2],
                "growing": False,
            },
        ],
        "logits": "logits",
        "logits_positions": "all",
        "vocab_size": 100,
    }
    assert model.producer == "test"


def test_a_head_dimension_left_symbolic_is_derived(target: Path):
    symbolic = (FLOAT, ["batch", 2, "past", "kv_cache_dim"])
    model = inspect(write(target, {"past_key_values.0.key": symbolic, "past_key_values.0.value": symbolic}))
    assert [state["shape"][3] for state in model.signature["states"][:2]] == [16, 16]  # K = 64 over 4 heads


def test_weights_are_counted_once_and_rotary_tables_not_at_all(target: Path):
    import onnx

    model = onnx.load(write(target, positions=100))
    for name, data_type, dims, location in (
        ("packed", onnx.TensorProto.UINT8, [10, 30], "w"),
        ("rows", onnx.TensorProto.UINT8, [300], "w"),  # the same bytes for the output head
        ("half", onnx.TensorProto.FLOAT16, [7], "v"),
        ("nibbles", onnx.TensorProto.INT4, [9], "n"),
    ):
        tensor = model.graph.initializer.add(name=name, data_type=data_type, dims=dims)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (target.parent / location).write_bytes(bytes(300))
    target.write_bytes(model.SerializeToString())
    assert inspect(target).weight_bytes == 300 + 14 + 5


def test_weights_and_rotary_tables_of_branches_count_too(target: Path):
    import onnx

    helper, FLOAT_TYPE = onnx.helper, onnx.TensorProto.FLOAT
    model = onnx.load(write(target, positions=100))
    inner = [
        helper.make_tensor("cos", FLOAT_TYPE, [40, 8], bytes(4 * 320), raw=True),
        helper.make_tensor("w", FLOAT_TYPE, [25], bytes(100), raw=True),
    ]
    turn = helper.make_node("RotaryEmbedding", ["x", "", "cos", "cos"], ["y"], domain="com.microsoft")
    branch = helper.make_graph([turn], "b", [], [], inner)
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    before = inspect(target).weight_bytes
    target.write_bytes(model.SerializeToString())
    assert inspect(target).weight_bytes == before + 200
    assert inspect(target).max_context == 40


def test_a_workload_beyond_the_rotary_tables_is_refused(target: Path):
    model = inspect(write(target, positions=100))
    assert model.max_context == 100
    model.require_context(parse_workload("80/20"))
    with pytest.raises(ForeignModelError, match=r"hold 100 positions; 80/21 .* needs 101") as caught:
        model.require_context(parse_workload("80/21"))
    assert "--context" in str(caught.value.hint)


def test_a_graph_without_rotary_tables_takes_any_workload(target: Path):
    model = inspect(write(target))
    assert model.max_context is None
    model.require_context(parse_workload("100000/1"))


def test_positions_half_precision_and_other_states(target: Path):
    state = (FLOAT16, ["batch", 4, 8, 8])
    model = inspect(
        write(
            target,
            {"position_ids": (INT64, ["b", "s"]), "past_recurrent.3": state},
            {"present_recurrent.3": state, "logits": (FLOAT16, ["batch", 1, 100])},
        )
    )
    assert [item["role"] for item in model.signature["inputs"]] == ["tokens", "attention_mask", "position_ids"]
    assert model.signature["states"][-1]["output"] == "present_recurrent.3"
    assert model.signature["logits_positions"] == "last"


def test_positions_of_three_axes_are_driven_as_such(target: Path):
    model = inspect(write(target, {"position_ids": (INT64, [3, "b", "s"])}))
    assert model.signature["inputs"][-1]["shape"] == [3, "batch", "T"]


def test_a_cache_that_holds_a_window_has_a_fixed_size(target: Path):
    window = {"sliding_window_cache": 1, "local_window_size": 40}
    states = inspect(write(target, **window)).signature["states"]
    assert [state["shape"] for state in states[:2]] == [["batch", 2, 40 + WINDOW_SLACK, 16]] * 2
    assert all(state["in_place"] and not state["growing"] for state in states[:2])


def test_a_window_with_its_size_in_the_graph_is_taken_at_its_word(target: Path):
    window = {"sliding_window_cache": 1, "local_window_size": 40}

    def sized(rows: int) -> dict[str, Any]:
        return {f"past_key_values.0.{part}": (FLOAT, ["batch", 2, rows, 16]) for part in ("key", "value")}

    assert inspect(write(target, sized(48), **window)).signature["states"][0]["shape"][2] == 48
    assert "cannot hold a window of 40" in refused(write(target, sized(39), **window))


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({"pixel_values": (FLOAT, ["b", 3, 224, 224])}, {}, "'pixel_values'"),
        ({"inputs_embeds": (FLOAT, ["b", "s", 64])}, {}, "'inputs_embeds'"),
        ({"input_ids": None}, {}, "no input 'input_ids'"),
        ({"input_ids": (INT64, [1, "seq"])}, {}, "'input_ids' (int64 [1, 'seq']) has a fixed size 1"),
        ({"input_ids": (INT64, ["tokens"])}, {}, "another rank"),
        ({"position_ids": (INT64, [4, "b", "s"])}, {}, "'position_ids'"),
        ({"position_ids": (INT64, [3, "b", 1])}, {}, "has a fixed size 1"),
        ({"attention_mask": (FLOAT, ["b", "t"])}, {}, "understood as int64 only"),
        ({}, {"present.1.conv": None}, "no output carries the state 'past.1.conv'"),
        ({}, {"present.1.conv": (FLOAT16, ["batch", 64, 2])}, "becomes 'present.1.conv'"),
        ({}, {"present.1.conv": (FLOAT, ["batch", 64, 3])}, "becomes 'present.1.conv'"),
        ({"past.1.conv": (FLOAT, ["batch", 64, "n"])}, {}, "the size of 'n' is not known"),
        ({"past.1.conv": (FLOAT, [64, 64, 2])}, {}, "no batch axis"),
        ({"past_key_values.0.key": (FLOAT, ["b", "h", "p", 16])}, {}, "is not [batch, heads, positions, dim]"),
        ({}, {"logits": None}, "no output 'logits'"),
        ({}, {"logits": (FLOAT, ["b", "s", "v"])}, "is not [batch, positions, vocabulary]"),
        ({}, {"logits": (INT32, ["b", "s", 5])}, "float32 or float16"),
    ],
)
def test_what_is_not_understood_is_named(target: Path, inputs: dict[str, Any], outputs: dict[str, Any], said: str):
    assert said in refused(write(target, inputs, outputs))


def test_a_cache_that_grows_in_an_unknown_way_is_refused(target: Path):
    # The operator of this name in com.microsoft is not the standard's.
    assert "a way that is understood (used by Attention)" in refused(write(target, attention="Attention"))


def concatenating(path: Path, op_type: str, past: Any = "past", axis: int = 2) -> Path:
    """A graph whose two caches are made longer by `Concat` or by the standard's `Attention`."""
    from onnx import helper, save

    caches = {f"past_key_values.0.{name}": f"present.0.{name}" for name in ("key", "value")}
    if op_type == "Concat":
        nodes = [helper.make_node("Concat", [a, "new"], [b], axis=axis) for a, b in caches.items()]
    else:
        nodes = [helper.make_node(op_type, ["q", "k", "v", "", *caches], ["y", *caches.values()])]
    shape, info = ["batch", 2, past, 16], helper.make_tensor_value_info
    inputs = [info("input_ids", INT64, ["batch", "seq"]), *(info(name, FLOAT, shape) for name in caches)]
    outputs = [info("logits", FLOAT, ["batch", 1, 9])]
    outputs += [info(name, FLOAT, ["batch", 2, "total", 16]) for name in caches.values()]
    save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs)), path)
    return path


@pytest.mark.parametrize("op_type", ["Concat", "Attention"])
def test_a_cache_that_is_a_concatenation_is_bound_as_one(target: Path, op_type: str):
    states = inspect(concatenating(target, op_type)).signature["states"]
    assert [state["output"] for state in states] == ["present.0.key", "present.0.value"]
    for state in states:
        assert state["shape"] == ["batch", 2, "capacity", 16]
        assert (state["growing"], state["in_place"]) == (True, False)


def test_a_concatenation_along_another_axis_or_of_fixed_length_is_refused(target: Path):
    assert "a way that is understood (used by Concat)" in refused(concatenating(target, "Concat", axis=1))
    assert "says a fixed length" in refused(concatenating(target, "Concat", past=7))


def test_rotary_tables_are_found_inside_a_branch(target: Path):
    import onnx
    from onnx import helper

    model = onnx.load(write(target, positions=100))
    inner = helper.make_graph(model.graph.node[:], "then", [], [])
    branch = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(branch)
    del model.graph.node[0].input[5:]  # only the branch still reads the tables
    onnx.save(model, target)
    assert inspect(target).max_context == 100
    assert inspect(target).weight_bytes == 0


def test_what_is_no_graph_is_one_message(tmp_path: Path):
    assert "no such file" in refused(tmp_path / "absent.onnx")
    assert "a folder" in refused(tmp_path)
    for index, data in enumerate([b"", b"hello", b"\0" * 100, b"PK\x03\x04zip", bytes(range(256)) * 50]):
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(data)
        assert "not an ONNX file" in refused(path)


@settings(max_examples=60)
@given(st.data())
def test_damaged_graphs_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    good = bytearray(write(path).read_bytes())
    if data.draw(st.booleans()):
        good = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(good)
    try:
        inspect(path)
    except ForeignModelError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right; any other exception is not


def external(path: Path, location: str, *, offset: int = 0, length: int = 400) -> Path:
    import onnx

    model = onnx.load(write(path))
    tensor = model.graph.initializer.add(name="w", data_type=FLOAT, dims=[100])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_checked_but_not_loaded(target: Path):
    external(target, "model.onnx.data", offset=4096)
    assert "'model.onnx.data' is missing" in refused(target)
    data = target.with_name("model.onnx.data")
    data.write_bytes(b"x" * 100)
    assert "cut short" in refused(target)
    data.write_bytes(b"x" * 4496)
    model = inspect(target)
    assert model.data_files == (data,)
    assert model.weight_bytes == 400  # one float tensor of 100; where it lies in the file is no weight
    before = model.content_id()
    data.write_bytes(b"y" * 4496)
    assert model.content_id() != before


@pytest.mark.parametrize("location", ["../up.data", "/etc/passwd", ""])
def test_external_data_outside_the_folder_is_refused(target: Path, location: str):
    assert "outside the folder" in refused(external(target, location))


@pytest.mark.needs("onnxruntime_genai", "transformers")
def test_a_model_of_the_genai_builder_runs_as_its_signature_says(tmp_path: Path):
    """A tiny LFM2 with random weights, through the real builder, then one prefill and one step."""
    code = """
import sys
from tokenizers import Tokenizer, models
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedTokenizerFast
config = Lfm2Config(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, layer_types=["conv", "conv", "full_attention"], block_auto_adjust_ff_dim=False,
    max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)
Lfm2ForCausalLM(config).save_pretrained(sys.argv[1])
words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(64)}, unk_token="t0"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", pad_token="t0").save_pretrained(sys.argv[1])
import runpy
folder, out, cache = sys.argv[1:]
sys.argv = ["builder", "-i", folder, "-o", out, "-p", "int4", "-e", "cpu", "-c", cache]
runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
"""
    env = {**__import__("os").environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    folders = [str(tmp_path / name) for name in ("model", "out", "cache")]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    model = inspect(tmp_path / "out" / "model.onnx")
    states = model.signature["states"]
    assert [state["growing"] for state in states].count(True) == 2
    assert {state["input"] for state in states} >= {"past.0.conv", "past.1.conv", "past_key_values.2.key"}
    assert model.data_files

    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    sizes = {"batch": 1, "capacity": 8}
    feeds = {s["input"]: np.zeros([sizes.get(d, d) for d in s["shape"]], s["dtype"]) for s in states}
    feeds["input_ids"] = np.ones([1, 5], np.int64)
    feeds["attention_mask"] = np.ones([1, 5], np.int64)
    feeds = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in feeds.items()}
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, value)
    for state in states:
        if state["growing"]:
            binding.bind_ortvalue_output(state["output"], feeds[state["input"]])
        else:
            binding.bind_output(state["output"])
    binding.bind_output(model.signature["logits"])
    session.run_with_iobinding(binding)
    assert binding.copy_outputs_to_cpu()[-1].shape == (1, 5, 64)
    cache = feeds["past_key_values.2.key"].numpy()
    assert cache[:, :, :5].any()
    assert not cache[:, :, 5:].any()

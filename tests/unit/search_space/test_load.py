"""Stored bytes back to torch values: packing against a slow loop over ONNX Runtime's documented layout."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_space.conformance import GraphRunner
from search_space.export import export_layout
from search_space.graph.precision import PRECISIONS, QUANTIZATION
from search_space.load import dequantize, state_dict
from search_space.model import LanguageModel
from tests.unit.search_space.small_layouts import HYBRIDS, layout


@given(outputs=st.integers(1, 5), inputs=st.integers(1, 100), precision=st.sampled_from(["int8", "int4"]))
def test_dequantize_is_a_loop(outputs, inputs, precision):
    quantization = QUANTIZATION[precision]
    random = np.random.default_rng(inputs)
    packed = random.integers(0, 256, quantization.packed_shape(outputs, inputs), dtype=np.uint8)
    scales = random.uniform(0.5, 2, packed.shape[:2]).astype(np.float32)
    got = dequantize(packed, scales, inputs, quantization)
    assert got.shape == (outputs, inputs)
    assert got.dtype == np.float32
    for row in range(outputs):
        for column in range(inputs):
            block, place = divmod(column, 32)
            if precision == "int8":
                value = int(packed[row, block, place]) - 128
            else:  # two values a byte, the first in the low half
                byte = int(packed[row, block, place // 2])
                value = (byte >> 4 if place % 2 else byte & 15) - 8
            assert got[row, column] == np.float32(value * scales[row, block])


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("rank", [None, 17, 32])
def test_the_look_up_and_the_head_read_the_same_table(precision, rank):
    # One-hot probes of the graph: a row of the table by look-up must be the column that the head multiplies with.
    hybrid = layout("N", bare=(), rank=rank)
    runner = GraphRunner(export_layout(hybrid, precision=precision, context=4), exact=True)
    table = runner.torch_state()["embedding.weight"].numpy()
    assert table.shape == (101, rank or 33)
    model = LanguageModel(hybrid).eval()
    model.load_state_dict(runner.torch_state())
    tokens = np.arange(101).reshape(101, 1)
    with torch.no_grad():
        wanted = model(torch.from_numpy(tokens))[0].numpy()
    (got,), _ = runner.sequence(tokens, [1], capacity=1)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", HYBRIDS)
def test_names_and_shapes_are_the_models(name, precision):
    candidate = export_layout(HYBRIDS[name], precision=precision, context=4)
    values = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in candidate.stored}
    loaded = state_dict(candidate, values.__getitem__)
    wanted = LanguageModel(HYBRIDS[name]).state_dict()
    assert {key: tuple(value.shape) for key, value in loaded.items()} == {k: tuple(v.shape) for k, v in wanted.items()}
    assert {value.dtype for value in loaded.values()} == {torch.float32}


def test_a_part_can_be_loaded_alone():
    candidate = export_layout(layout(), context=4)
    values = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in candidate.stored}
    assert set(state_dict(candidate, values.__getitem__, only=["norm.weight"])) == {"norm.weight"}
    inside = state_dict(candidate, values.__getitem__, strip="layers.0.", only=["layers.0.mixer.conv.weight"])
    assert set(inside) == {"mixer.conv.weight"}


@settings(max_examples=6, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_weights_written_by_the_device_open_in_plain_onnxruntime(tmp_path_factory, seed):
    from profiler.agent.weights import tensor_values, write_weights

    folder = tmp_path_factory.mktemp("model")
    hybrid = layout()
    candidate = export_layout(hybrid, precision="int4", context=16, seed=seed)
    write_weights(candidate.recipe, folder / "weights.bin")
    (folder / "model.onnx").write_bytes(candidate.graph)
    assert (folder / "weights.bin").stat().st_size == candidate.recipe["size"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(0).integers(0, 101, (2, 9))
    feeds = GraphRunner(candidate, values=tensor_values)
    (wanted,), _ = feeds.sequence(tokens, [9], capacity=9)
    (got,) = session.run(["logits"], {**feeds.feeds(tokens, 0), **feeds.zero_states(batch=2, capacity=9)})
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert np.isfinite(got).all()

"""The chunked recurrences against float64 loops, over inputs made to break them: strong gates, keys that repeat."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from search_space.blocks import _chunked_attention as chunked
from search_space.blocks import _linear_attention as linear
from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.conformance import graph_nodes, recipe_values
from search_space.export import export_block
from search_space.graph.builder import GraphBuilder
from search_space.graph.recipe import DATA_FILE

H, K, V = 2, 16, 24
LENGTHS = (1, 2, chunked.CHUNK - 1, chunked.CHUNK, chunked.CHUNK + 1, 4 * chunked.CHUNK + 5)


@dataclass
class Inputs:
    """q, k [B, T, H, K], v [B, T, H, V], log decay [B, T, H, K or 1], beta [B, T, H, 1], the state before."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    decay: np.ndarray
    beta: np.ndarray
    state: np.ndarray

    def arrays(self):
        return self.q, self.k, self.v, self.decay, self.beta


def inputs(tokens, decay_dim, seed=0):
    random = np.random.default_rng(seed)
    q, k = (random.standard_normal((2, tokens, H, K)) for _ in "qk")
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = random.standard_normal((2, tokens, H, V))
    decay = -0.05 * random.random((2, tokens, H, decay_dim))
    beta = random.random((2, tokens, H, 1))
    return Inputs(q=q, k=k, v=v, decay=decay, beta=beta, state=random.standard_normal((2, H, K, V)))


def rounded(given):
    """Float32 values in float64: what the graph is given, so that only its own arithmetic differs."""
    return Inputs(*(x.astype(np.float32).astype(np.float64) for x in (*given.arrays(), given.state)))


def recurrence(given, *, delta):
    S, outputs = given.state.copy(), []
    for t in range(given.q.shape[1]):
        q, k, v, decay, beta = (x[:, t] for x in given.arrays())
        S = np.exp(decay)[..., None] * S
        written = beta * (v - np.einsum("bhkv,bhk->bhv", S, k)) if delta else v
        S = S + k[..., None] * written[..., None, :]
        outputs.append(np.einsum("bhkv,bhk->bhv", S, q) / np.sqrt(K))
    return np.stack(outputs, axis=1).reshape(2, -1, H * V), S


def session_of(lower, decay_dim, *, delta):
    g = GraphBuilder(precision="fp32", context=8, depth=1, seed=0)
    sizes = {"q": H * K, "k": H * K, "v": H * V, "decay": H * decay_dim, **({"beta": H} if delta else {})}
    values = [g.input(name, "hidden", ir.DataType.FLOAT, ["batch", "tokens", size]) for name, size in sizes.items()]
    y = lower(g, linear.recurrent_state(H, K, V), *values)
    g.output("y", y, ["batch", "tokens", H * V])
    model = ir.to_proto(g.model("test"))
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / DATA_FILE).open("wb") as file:
            file.truncate(g.recipe.size)
            for tensor in g.recipe.tensors:
                file.seek(tensor.offset)
                file.write(recipe_values(tensor.to_json()).tobytes())
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def gated():
    return session_of(chunked.lower_gated, K, delta=False)


@pytest.fixture(scope="module")
def gated_delta():
    return session_of(chunked.lower_gated_delta, 1, delta=True)


def session_run(session, given, *, delta):
    names = ("q", "k", "v", "decay", "beta")[: 5 if delta else 4]
    flat = (x.reshape(*x.shape[:2], -1).astype(np.float32) for x in given.arrays())
    feeds = dict(zip(names, flat, strict=False))
    return session.run(None, {**feeds, "past.recurrent": given.state.astype(np.float32)})


def error(session, given, *, delta):
    """Largest difference of y and of S from float64, over their largest value."""
    given = rounded(given)
    got, wanted = session_run(session, given, delta=delta), recurrence(given, delta=delta)
    assert all(np.isfinite(x).all() for x in got)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, wanted, strict=True))


GATES = {
    "no decay": lambda random, decay: 0.0,
    "weak": lambda random, decay: decay,
    "strong": lambda random, decay: -6.25,  # GLA: sigmoid(-100)^(1/16)
    "all is forgotten": lambda random, decay: -3e4,
    "in turns": lambda random, decay: np.where(np.arange(decay.shape[1])[:, None, None] % 2, 0.0, -90.0),
    "of every size": lambda random, decay: -np.exp(random.normal(0, 4, decay.shape)),
    "rarely": lambda random, decay: np.where(random.random(decay.shape) < 0.03, -1e3, -1e-4),
}

KEYS = {
    "random": lambda random, k: k,
    "equal": lambda random, k: k[:, :1],
    "nearly equal": lambda random, k: k[:, :1] + 1e-3 * random.standard_normal(k.shape),
    "alternating": lambda random, k: k[:, :1] * np.where(np.arange(k.shape[1]) % 2, -1, 1)[:, None, None],
    "of random sign": lambda random, k: k[:, :1] * random.choice((-1, 1), (*k.shape[:3], 1)),
    "in a plane": lambda random, k: random.standard_normal((*k.shape[:3], 2)) @ random.standard_normal((2, K)),
}

LIMIT = 2e-6
"""Of an error relative to the largest value; the worst seen is 5e-7, and 2e-6 for the fused kernels."""


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("gate", GATES)
def test_gla_is_exact_under_any_gate(gated, gate, tokens):
    given = inputs(tokens, K)
    given.decay = given.decay * 0 + GATES[gate](np.random.default_rng(1), given.decay)
    assert error(gated, given, delta=False) < LIMIT


@pytest.mark.parametrize("beta", [1.0, 0.999, "random"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("keys", KEYS)
def test_the_delta_rule_is_exact_for_any_keys(gated_delta, keys, gate, beta):
    for tokens in LENGTHS:
        given = inputs_with(keys, gate, beta, tokens)
        assert error(gated_delta, given, delta=True) < LIMIT, f"{tokens} tokens"


def inputs_with(keys, gate, beta, tokens):
    random, given = np.random.default_rng(2), inputs(tokens, 1)
    given.k = given.k * 0 + KEYS[keys](random, given.k)
    given.k /= np.linalg.norm(given.k, axis=-1, keepdims=True)
    given.decay = given.decay * 0 + GATES[gate](random, given.decay)
    if beta != "random":
        given.beta[:] = beta
    return given


def test_nothing_written_leaves_the_decayed_state(gated_delta):
    given = inputs_with("random", "weak", 0.0, 40)
    assert error(gated_delta, given, delta=True) < LIMIT


def test_chunks_handed_on_are_one_sequence(gated_delta):
    given = rounded(inputs_with("nearly equal", "weak", 1.0, 50))
    wanted, last = recurrence(given, delta=True)
    S, pieces = given.state.astype(np.float32), []
    for start, stop in ((0, 3), (3, 4), (4, 37), (37, 50)):
        piece = Inputs(*(x[:, start:stop] for x in given.arrays()), S)
        y, S = session_run(gated_delta, piece, delta=True)
        pieces.append(y)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), wanted, atol=LIMIT * np.abs(wanted).max())
    np.testing.assert_allclose(S, last, atol=LIMIT * np.abs(last).max())


def test_a_series_over_the_whole_chunk_would_not_be_exact(monkeypatch):
    """Why the inverse is built up from small blocks, and that these inputs can tell."""

    def whole_series(g, L):  # (I - L)(I + L^2)(I + L^4)...: right in exact arithmetic
        identity = chunked._mask(g, "identity", chunked.CHUNK, lambda t, s: t == s)
        result, power, reach = g.op("Sub", identity, L), L, 2
        while reach < chunked.CHUNK:
            power = g.op("MatMul", power, power)
            result = g.op("MatMul", result, g.op("Add", identity, power))
            reach *= 2
        return result

    monkeypatch.setattr(chunked, "_unit_lower_inverse", whole_series)
    session = session_of(chunked.lower_gated_delta, 1, delta=True)
    assert error(session, inputs_with("random", "weak", "random", 40), delta=True) < LIMIT
    assert error(session, inputs_with("nearly equal", "no decay", 1.0, 40), delta=True) > 5 * LIMIT


@pytest.mark.parametrize("kind", ["gla", "gdn"])
def test_the_chunked_lowering_uses_operators_of_every_runtime(kind):
    """Standard ones, and QuickGelu and the norms that every block shares; quantised products beside them."""
    spec = {
        "gla": GLA(heads=2, key_dim=8, value_dim=8),
        "gdn": GDN(key_heads=1, value_heads=2, key_dim=8, value_dim=8),
    }[kind]
    candidate = export_block(spec, 32, precision="fp32", lowering="chunked")
    nodes = list(graph_nodes(onnx.load_from_string(candidate.graph).graph))
    assert {node.op_type for node in nodes if node.domain} <= {"QuickGelu"}
    assert {"If", "Scan"} <= {node.op_type for node in nodes}

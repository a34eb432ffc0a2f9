"""The suite every block must pass; a block of your own is checked by subclassing `BlockConformance`.

    class TestMyMixer(BlockConformance):
        specs = (MyMixer(heads=2), MyMixer(heads=3, gated=True))

pytest then compares the torch module (in float64) with ONNX Runtime for every lowering and precision, a whole prefill
with single steps over carried state, and the formulas for parameters, state bytes and operations with what is really
there. The checks are plain functions that raise AssertionError: property tests call them with sizes of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from search_space.blocks import Block, FeedForward
from search_space.export import Candidate, export_block
from search_space.graph.precision import PRECISIONS, PrecisionName
from search_space.graph.recipe import DATA_FILE, tensor_seed
from search_space.load import round_activations, state_dict

if TYPE_CHECKING:
    pass

Array = np.ndarray[Any, Any]
Tensor = dict[str, Any]
Values = Callable[[Tensor], Array]
States = dict[str, Array]

TOLERANCE: dict[PrecisionName, float] = {"fp32": 1e-5, "int8": 1e-4, "int4": 1e-4}
"""Largest relative RMS difference between torch and the graph with products in float arithmetic: quantised values then
agree nearly as closely as plain ones, if they are packed and unpacked rightly."""

ROUNDED_TOLERANCE = 3e-2
"""The same for int8 arithmetic, against a torch module whose activations are rounded as the kernel rounds them. They
agree to 1e-6 where this was written (x86-64, AVX-512), but for rare steps of one unit; other processors may differ."""


def recipe_values(tensor: Tensor) -> Array:
    """Values that a recipe's tensor allows. Not the device's bytes: both sides of a check only need the same ones."""
    fill, shape = tensor["fill"], tuple(tensor["shape"])
    random = np.random.default_rng(fill.get("seed", 0))
    if fill["kind"] == "uniform":
        return random.uniform(fill["low"], fill["high"], shape).astype(tensor["dtype"])
    if fill["kind"] == "bytes":
        return random.integers(0, 256, shape, dtype=np.uint8)
    if fill["kind"] == "constant":
        return np.full(shape, fill["value"], tensor["dtype"])
    if fill["kind"] == "values":
        return np.array(fill["values"], tensor["dtype"]).reshape(shape)
    angles = np.outer(np.arange(shape[0]), fill["theta"] ** (-2 * np.arange(shape[1]) / fill["rotary_dim"]))
    return np.asarray({"cos": np.cos, "sin": np.sin}[fill["part"]](angles), tensor["dtype"])


def relative_rms(got: Array, wanted: Array) -> float:
    """Root mean square of the difference over that of `wanted`."""
    scale = float(np.sqrt(np.mean(np.square(wanted, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(got.astype(np.float64) - wanted)))) / max(scale, 1e-30)


class GraphRunner:
    """A candidate opened in ONNX Runtime, with weights written to a temporary folder.

    Attributes:
        candidate: What runs.
        values: Stored arrays by name.
    """

    def __init__(self, candidate: Candidate, *, values: Values = recipe_values, exact: bool = False) -> None:
        """Open the graph.

        Args:
            candidate: The graph, its recipe and signature.
            values: Makes a tensor's values.
            exact: Run quantised products in float arithmetic.
        """
        import onnxruntime

        self.candidate = candidate
        self.values = {tensor["name"]: values(tensor) for tensor in candidate.recipe["tensors"]}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # failures are raised
        with tempfile.TemporaryDirectory() as folder:
            with (Path(folder) / DATA_FILE).open("wb") as file:
                file.truncate(candidate.recipe["size"])
                for tensor in candidate.recipe["tensors"]:
                    file.seek(tensor["offset"])
                    file.write(self.values[tensor["name"]].tobytes())
            path = Path(folder) / "model.onnx"
            path.write_bytes(in_float_arithmetic(candidate.graph) if exact else candidate.graph)
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def torch_state(self, *, strip: str = "") -> dict[str, Any]:
        """The weights as a torch state dict (see `search_space.load.state_dict`)."""
        return state_dict(self.candidate, self.values.__getitem__, strip=strip)

    def zero_states(self, *, batch: int, capacity: int) -> States:
        """The states at the start of a sequence, by input name."""
        sizes = {"batch": batch, "capacity": capacity}
        return {
            state["input"]: np.zeros([sizes[d] if isinstance(d, str) else d for d in state["shape"]], state["dtype"])
            for state in self.candidate.signature["states"]
        }

    def feeds(self, x: Array, past: int) -> States:
        """Inputs other than states for one call after `past` tokens."""
        total = past + x.shape[1]
        by_role: dict[str, Array] = {
            "tokens": x,
            "hidden": x,
            "seqlens_k": np.full(x.shape[0], total - 1, np.int32),
            "total_length": np.array(total, np.int32),
        }
        return {entry["name"]: by_role[entry["role"]] for entry in self.candidate.signature["inputs"]}

    def call(self, x: Array, states: States, past: int) -> tuple[Array, States]:
        """One call; returns the output and the new states by input name."""
        signature = self.candidate.signature
        names = [signature["logits"], *(state["output"] for state in signature["states"])]
        y, *new = self.session.run(names, {**self.feeds(x, past), **states})
        return y, {state["input"]: value for state, value in zip(signature["states"], new, strict=True)}

    def sequence(self, x: Array, calls: Sequence[int], *, capacity: int) -> tuple[list[Array], States]:
        """Feed x in pieces of the given lengths, handing states on as new arrays."""
        states = self.zero_states(batch=x.shape[0], capacity=capacity)
        outputs, past = [], 0
        for length in calls:
            y, states = self.call(x[:, past : past + length], states, past)
            outputs.append(y)
            past += length
        return outputs, states

    def bound_sequence(self, x: Array, calls: Sequence[int], *, capacity: int) -> tuple[list[Array], States]:
        """As `sequence`, in the way a device runs it: `in_place` states in one buffer for past and present.

        Growing caches start with NaN in every row: a device does not clean them between sequences.
        """
        import onnxruntime

        signature = self.candidate.signature
        zeros = self.zero_states(batch=x.shape[0], capacity=capacity)
        buffers = {}
        for state in signature["states"]:
            if state["growing"]:
                zeros[state["input"]].fill(np.nan)
            first = onnxruntime.OrtValue.ortvalue_from_numpy(zeros[state["input"]])
            second = first if state["in_place"] else onnxruntime.OrtValue.ortvalue_from_numpy(zeros[state["input"]])
            buffers[state["input"]] = (first, second)
        outputs, past = [], 0
        for length in calls:
            binding = self.session.io_binding()
            for name, value in self.feeds(np.ascontiguousarray(x[:, past : past + length]), past).items():
                binding.bind_cpu_input(name, value)
            for state in signature["states"]:
                before, after = buffers[state["input"]]
                binding.bind_ortvalue_input(state["input"], before)
                binding.bind_ortvalue_output(state["output"], after)
                buffers[state["input"]] = (after, before)
            binding.bind_output(signature["logits"])
            self.session.run_with_iobinding(binding)
            outputs.append(binding.copy_outputs_to_cpu()[-1])
            past += length
        # A copy: numpy() is a view that does not keep its buffer alive.
        return outputs, {name: pair[0].numpy().copy() for name, pair in buffers.items()}


def in_float_arithmetic(graph: bytes) -> bytes:
    """The graph with `accuracy_level` removed: quantised weights are then expanded, and nothing else is rounded."""
    import onnx

    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One check of a block in ONNX Runtime.

    Attributes:
        block: The spec.
        width: Model width D.
        precision: Storage of the matrices.
        lowering: Which of the block's lowerings.
        batch: Sequences B.
        tokens: Tokens T of each.
        prefill: Tokens of the first call where a sequence is fed in several.
        spare: Rows of caches beyond the tokens used.
        seed: Of the inputs.
    """

    block: Block
    width: int
    precision: PrecisionName
    lowering: str
    batch: int = 2
    tokens: int = 19
    prefill: int = 7
    spare: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.block}-D{self.width}-{self.precision}-{self.lowering}"

    def candidate(self) -> Candidate:
        """The block exported alone."""
        return export_block(
            self.block,
            self.width,
            precision=self.precision,
            context=self.tokens + self.spare,
            lowering=self.lowering,
            seed=self.seed,
        )

    def hidden(self) -> Array:
        """Inputs [B, T, D] of unit variance, as after a norm."""
        shape = (self.batch, self.tokens, self.width)
        return np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)


def torch_run(
    block: Block, width: int, weights: dict[str, Any] | None, x: Array, calls: Sequence[int], *, rounded: bool = False
) -> tuple[Array, tuple[Array, ...]]:
    """Run the torch module in float64.

    Args:
        block: The spec.
        width: Model width.
        weights: State dict; None for the module's own initialisation.
        x: [B, T, D].
        calls: Tokens of each call.
        rounded: Round the inputs of every `Linear` as int8 arithmetic does.

    Returns:
        Outputs [B, T, D] and the last state.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = block.module(width).eval()
    if weights is not None:
        module.load_state_dict(weights)
    module.double()
    if rounded:
        round_activations(module)
    x_BTD, state, outputs, past = torch.from_numpy(x).double(), None, [], 0
    with torch.no_grad():
        for length in calls:
            piece = x_BTD[:, past : past + length]
            if isinstance(block, FeedForward):
                outputs.append(module(piece))
            else:
                y_BTD, state = module(piece, state, past)
                outputs.append(y_BTD)
            past += length
    return torch.cat(outputs, dim=1).numpy(), tuple(tensor.numpy() for tensor in state or ())


def check_torch_steps(block: Block, width: int, *, batch: int, tokens: int, prefill: int, seed: int = 0) -> None:
    """The torch module gives the same for one call, for single steps, and for a prefill with steps after it."""
    x = np.random.default_rng(seed).standard_normal((batch, tokens, width), dtype=np.float32)
    whole, state = torch_run(block, width, None, x, [tokens])
    for calls in ([1] * tokens, _prefill_then_steps(tokens, prefill), [prefill, tokens - prefill]):
        if 0 in calls:
            continue
        pieces, carried = torch_run(block, width, None, x, calls)
        assert relative_rms(pieces, whole) < 1e-9, f"torch: {calls} calls differ from one call"
        for got, wanted in zip(carried, state, strict=True):
            assert got.shape == wanted.shape, f"torch: state {got.shape} after {calls}, {wanted.shape} after one call"
            assert relative_rms(got, wanted) < 1e-9, f"torch: the state after {calls} calls differs from one call"


def check_runtime(case: Case) -> None:
    """ONNX Runtime agrees with torch for the whole sequence: with products in float arithmetic, and as exported."""
    candidate, x = case.candidate(), case.hidden()
    assert candidate.lowerings == {case.block.kind: case.lowering}
    for exact in (True, False) if case.precision != "fp32" else (True,):
        runner = GraphRunner(candidate, exact=exact)
        weights = runner.torch_state(strip="block.")
        wanted, state = torch_run(case.block, case.width, weights, x, [case.tokens], rounded=not exact)
        (got,), new = runner.sequence(x, [case.tokens], capacity=case.tokens + case.spare)
        assert got.shape == wanted.shape, f"the graph returns {got.shape}, torch {wanted.shape}"
        error, limit = relative_rms(got, wanted), TOLERANCE[case.precision] if exact else ROUNDED_TOLERANCE
        assert error <= limit, f"graph and torch differ by {error:.2g} (limit {limit:g}, float arithmetic: {exact})"
        _same_states(case, new, state, limit)


def check_runtime_steps(case: Case) -> None:
    """Prefill then steps, and steps alone, equal one call: with states handed on, and with buffers shared in place."""
    exact = case.precision != "fp32"  # rounding of activations differs with the number of tokens in a call
    runner, x = GraphRunner(case.candidate(), exact=exact), case.hidden()
    capacity, limit = case.tokens + case.spare, TOLERANCE[case.precision]
    wanted, state = torch_run(case.block, case.width, runner.torch_state(strip="block."), x, [case.tokens])
    for calls in ([1] * case.tokens, _prefill_then_steps(case.tokens, case.prefill)):
        for feed in (runner.sequence, runner.bound_sequence):
            outputs, new = feed(x, calls, capacity=capacity)
            error = relative_rms(np.concatenate(outputs, axis=1), wanted)
            assert error <= limit, f"{feed.__name__}: calls of {calls} tokens differ by {error:.2g} from one call"
            _same_states(case, new, state, limit)
            _same_bytes(case, new)


def check_chunks(case: Case) -> None:
    """Calls of several tokens after earlier ones, batch 1 (the attention kernel's limit)."""
    if case.tokens <= case.prefill:
        return
    runner, x = GraphRunner(case.candidate(), exact=case.precision != "fp32"), case.hidden()[:1]
    calls = [case.prefill, case.tokens - case.prefill]
    wanted, _ = torch_run(case.block, case.width, runner.torch_state(strip="block."), x, [case.tokens])
    for feed in (runner.sequence, runner.bound_sequence):
        outputs, _ = feed(x, calls, capacity=case.tokens + case.spare)
        error = relative_rms(np.concatenate(outputs, axis=1), wanted)
        assert error <= TOLERANCE[case.precision], f"{feed.__name__}: calls of {calls} tokens differ by {error:.2g}"


def check_counts(case: Case) -> None:
    """`params` is the torch module's count and the graph's; its external tensors are exactly those of the recipe."""
    import onnx

    wanted = case.block.params(case.width)
    module = case.block.module(case.width)
    in_torch = sum(parameter.numel() for parameter in module.parameters())
    assert in_torch == wanted, f"params says {wanted}, the torch module has {in_torch}"
    candidate = case.candidate()
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    declared = {parameter.name.removeprefix("block."): parameter.shape for parameter in candidate.parameters}
    assert declared == shapes, f"the graph's parameters {declared} are not the module's {shapes}"
    counted = sum(parameter.count for parameter in candidate.parameters)
    assert counted == wanted, f"params says {wanted}, the graph's parameters count {counted}"
    stored = {tensor["name"]: tensor for tensor in candidate.recipe["tensors"]}
    graph = onnx.load_from_string(candidate.graph).graph
    external = {tensor.name: tensor for tensor in graph.initializer if tensor.external_data}
    assert external.keys() == stored.keys(), "the graph's external tensors are not those of the recipe"
    for name, tensor in external.items():
        assert list(tensor.dims) == stored[name]["shape"], f"{name}: {list(tensor.dims)} in the graph"
        assert not tensor.raw_data, f"{name} carries its values inside the graph"
    if case.precision == "fp32":
        trained = {name for parameter in candidate.parameters for part in parameter.parts for name in part}
        assert sum(prod(external[name].dims) for name in trained) == wanted


def check_state_bytes(block: Block, width: int, *, context: int, batch: int, lowering: str) -> None:
    """`state_bytes` is the size of the graph's state tensors at that context."""
    candidate = export_block(block, width, precision="fp32", context=context, lowering=lowering)
    runner = GraphRunner(candidate)
    arrays = runner.zero_states(batch=batch, capacity=context)
    wanted = block.state_bytes(width, context=context, batch=batch)
    assert sum(array.nbytes for array in arrays.values()) == wanted, f"state_bytes says {wanted}"
    x = np.zeros((batch, 1, width), np.float32)
    _, new = runner.call(x, arrays, 0)
    assert sum(array.nbytes for array in new.values()) == wanted, "the state after a call has another size"
    assert {name: array.shape for name, array in new.items()} == {name: array.shape for name, array in arrays.items()}
    assert block.state_bytes(width, context=context, batch=batch, dtype="float16") * 2 == wanted


def check_flops(block: Block, width: int, *, tokens: int) -> None:
    """`flops` adds up: a prefill costs as much as its single steps or its two halves, and no less than the products."""
    whole = block.flops(width, tokens=tokens, context=tokens)
    steps = sum(block.flops(width, tokens=1, context=context) for context in range(1, tokens + 1))
    assert whole == steps, f"flops of {tokens} tokens is {whole}, of as many single steps {steps}"
    half = tokens // 2
    if half:
        second = block.flops(width, tokens=tokens - half, context=tokens)
        assert whole == block.flops(width, tokens=half, context=half) + second
    if block.kind != "none":
        products = _matrix_products(block, width, tokens)
        assert whole >= products, f"flops says {whole}, the matrix products over weights alone take {products}"


def check_names(candidate: Candidate, prefixes: Sequence[str]) -> None:
    """Every node is named once, under one of the prefixes, so that a profile can be summed per block."""
    import onnx

    names = [node.name for node in onnx.load_from_string(candidate.graph).graph.node]
    assert len(set(names)) == len(names), "two nodes share a name"
    stray = [name for name in names if not name.startswith(tuple(prefixes))]
    assert not stray, f"nodes outside {list(prefixes)}: {stray[:5]}"


def _matrix_products(block: Block, width: int, tokens: int) -> int:
    from torch import nn

    linears = [module for module in block.module(width).modules() if isinstance(module, nn.Linear)]
    return 2 * tokens * sum(linear.in_features * linear.out_features for linear in linears)


def _prefill_then_steps(tokens: int, prefill: int) -> list[int]:
    first = min(prefill, tokens)
    return [first, *[1] * (tokens - first)]


def _same_states(case: Case, new: States, state: tuple[Array, ...], limit: float) -> None:
    """States of fixed size are the torch module's, in its order (a cache's layout is the kernel's business)."""
    for binding, wanted in zip(case.candidate().signature["states"], state, strict=True):
        if not binding["in_place"]:
            error = relative_rms(new[binding["input"]], wanted)
            assert error <= limit, f"state {binding['input']} differs from torch by {error:.2g}"


def _same_bytes(case: Case, new: States) -> None:
    capacity = case.tokens + case.spare
    wanted = case.block.state_bytes(case.width, context=capacity, batch=case.batch)
    got = sum(array.nbytes for array in new.values())
    assert got == wanted, f"state_bytes says {wanted}, the states hold {got}"


class BlockConformance:
    """Subclass, name it Test..., and list specs of your block; pytest runs every check over every combination.

    Attributes:
        specs: Specs to try; cover every branch of the lowerings.
        widths: Model widths; odd ones find padding mistakes (quantisation blocks hold 32 inputs).
        batch: Sequences per call.
        tokens: Tokens per sequence; longer than any window among the specs, so that caches wrap.
        prefill: Tokens of the first call.
    """

    specs: ClassVar[Sequence[Block]] = ()
    widths: ClassVar[Sequence[int]] = (33, 64)
    batch: ClassVar[int] = 2
    tokens: ClassVar[int] = 19
    prefill: ClassVar[int] = 7

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Give `case` and `spec` their values (called by pytest)."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases()), ids=str)
        if "spec" in metafunc.fixturenames:
            metafunc.parametrize("spec", self.specs, ids=str)

    def cases(self) -> Iterator[Case]:
        """Every spec, width, precision and lowering."""
        for spec in self.specs:
            for width in self.widths:
                for precision in PRECISIONS:
                    for lowering in spec.lowerings:
                        yield Case(
                            block=spec, width=width, precision=precision, lowering=lowering, batch=self.batch,
                            tokens=self.tokens, prefill=self.prefill, seed=tensor_seed(0, f"{spec}{width}") % 1000,
                        )  # fmt: skip

    def test_specs_are_possible(self) -> None:
        """There are specs, and `problems` finds nothing to say about them."""
        assert self.specs, "list some specs"
        for spec in self.specs:
            for width in self.widths:
                assert not list(spec.problems(width)), f"{spec} at width {width}: {list(spec.problems(width))}"

    def test_torch_prefill_equals_steps(self, spec: Block) -> None:
        """The torch module carries its state rightly."""
        for width in self.widths:
            check_torch_steps(spec, width, batch=self.batch, tokens=self.tokens, prefill=self.prefill)

    def test_torch_is_trainable(self, spec: Block) -> None:
        """Every parameter receives a finite gradient."""
        import torch

        module = spec.module(self.widths[0])
        x_BTD = torch.randn(self.batch, self.tokens, self.widths[0], generator=torch.Generator().manual_seed(0))
        y_BTD = module(x_BTD) if isinstance(spec, FeedForward) else module(x_BTD, None, 0)[0]
        y_BTD.square().sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"

    def test_graph_agrees_with_torch(self, case: Case) -> None:
        """See `check_runtime`."""
        check_runtime(case)

    def test_prefill_equals_steps(self, case: Case) -> None:
        """See `check_runtime_steps`; once with caches as long as the sequence, once longer."""
        check_runtime_steps(case)
        check_runtime_steps(replace(case, spare=5))

    def test_chunks(self, case: Case) -> None:
        """See `check_chunks`."""
        check_chunks(case)

    def test_counts(self, case: Case) -> None:
        """See `check_counts`."""
        check_counts(case)

    def test_node_names_carry_the_path(self, case: Case) -> None:
        """See `check_names`."""
        check_names(case.candidate(), ["block"])

    def test_state_bytes(self, spec: Block) -> None:
        """See `check_state_bytes`."""
        for lowering in spec.lowerings:
            for context in (1, self.tokens, 8 * self.tokens):
                check_state_bytes(spec, self.widths[0], context=context, batch=self.batch, lowering=lowering)

    def test_flops(self, spec: Block) -> None:
        """See `check_flops`."""
        for width in self.widths:
            check_flops(spec, width, tokens=self.tokens)

"""Checks that one mathematics comes out everywhere: torch and ONNX Runtime, one call and many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from search_space.blocks import EXPORTED, Block, FeedForward
from search_space.blocks._base import STATE_BYTES
from search_space.conformance._case import Case
from search_space.conformance._runner import Array, GraphRunner, States
from search_space.graph.precision import PrecisionName
from search_space.load import round_activations

TOLERANCE: dict[PrecisionName, float] = {"fp32": 1e-5, "int8": 1e-4, "int4": 1e-4}
"""Largest relative RMS difference between torch and the graph with products in float arithmetic: quantised values then
agree nearly as closely as plain ones, if they are packed and unpacked rightly."""

ROUNDED_TOLERANCE = 3e-2
"""The same for int8 arithmetic, against a torch module whose activations are rounded as the kernel rounds them. They
agree to 1e-6 where this was written (x86-64, AVX-512), but for rare steps of one unit; other processors may differ."""


def relative_rms(got: Array, wanted: Array) -> float:
    """Root mean square of the difference over that of `wanted`."""
    scale = float(np.sqrt(np.mean(np.square(wanted, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(got.astype(np.float64) - wanted)))) / max(scale, 1e-30)


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


def check_zero_state(block: Block, width: int, *, batch: int, tokens: int, seed: int = 0) -> None:
    """The torch module takes zeros (of a growing state: no rows) for None; a device begins every sequence with them.

    A cache of fixed size that is updated in place is laid out for a kernel, not for the module: it is left out.
    """
    import torch

    states = block.states(width, context=tokens)
    if isinstance(block, FeedForward) or any(state.in_place and not state.growing for state in states):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, x_BTD = block.module(width).eval(), torch.randn(batch, tokens, width)
    sizes = {"batch": batch, "capacity": 0}
    zeros = tuple(torch.zeros([sizes[dim] if isinstance(dim, str) else dim for dim in s.shape]) for s in states)
    with torch.no_grad():
        error = relative_rms(module(x_BTD, zeros, 0)[0].numpy(), module(x_BTD, None, 0)[0].numpy())
    assert error <= TOLERANCE["fp32"], f"torch: a state of zeros and a state of None differ by {error:.2g}"


def check_same_weights(block: Block, width: int, precision: PrecisionName) -> None:
    """A seed gives every lowering the same weights: devices that choose different ones still compute the same."""
    import torch

    states = {}
    for lowering in block.lowerings:
        case = Case(
            block=block, width=width, precision=precision, lowering=lowering, batch=1, tokens=2, prefill=1, seed=3
        )  # fmt: skip
        states[lowering] = GraphRunner(case.candidate()).torch_state(strip="block.")
    first = next(iter(states))
    for lowering, state in states.items():
        assert state.keys() == states[first].keys(), f"{block}: {lowering} and {first} have other parameters"
        for name, values in state.items():
            same = torch.equal(values, states[first][name])
            assert same, f"{block}: {lowering} draws other values of {name} than {first} does"


def check_runtime(case: Case) -> None:
    """ONNX Runtime agrees with torch for the whole sequence: with products in float arithmetic, and as exported."""
    candidate, x = case.candidate(), case.hidden()
    assert list(candidate.lowerings.values()) == [case.lowering]
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


def _prefill_then_steps(tokens: int, prefill: int) -> list[int]:
    first = min(prefill, tokens)
    return [first, *[1] * (tokens - first)]


def _same_states(case: Case, new: States, state: tuple[Array, ...], limit: float) -> None:
    """States are the torch module's, in its order (how a cache lies that is kept in place is the kernel's business).

    A lowering with states of its own may carry the last rows only: zeros come before them where there are fewer.
    """
    # Those of an exported module are the module's: any number of dimensions, and no row less.
    own = case.lowering != EXPORTED and case.block.all_lowerings()[case.lowering].states is not None
    for binding, wanted in zip(case.candidate().signature["states"], state, strict=True):
        if binding["in_place"]:
            continue
        got, truth = new[binding["input"]], wanted
        if own and not binding["growing"] and got.ndim > 2 and got.shape[2] != truth.shape[2]:
            missing = max(0, got.shape[2] - truth.shape[2])
            assert not got[:, :, :missing].any(), f"state {binding['input']} has rows that torch does not have"
            rows = min(got.shape[2], truth.shape[2])
            got, truth = got[:, :, -rows:], truth[:, :, -rows:]
        assert got.shape == truth.shape, f"state {binding['input']} is {got.shape}, torch has {truth.shape}"
        error = relative_rms(got, truth)
        assert error <= limit, f"state {binding['input']} differs from torch by {error:.2g}"


def _same_bytes(case: Case, new: States) -> None:
    rows = {True: case.tokens, False: case.tokens + case.spare}  # a concatenation has no spare ones
    states = case.block.lowered_states(case.lowering, case.width, context=case.tokens + case.spare)
    wanted = sum(
        state.elements(batch=case.batch, context=rows[state.growing and not state.in_place]) for state in states
    )
    got = sum(array.nbytes for array in new.values())
    assert got == wanted * STATE_BYTES["float32"], f"the states should hold {wanted} values, and hold {got} bytes"

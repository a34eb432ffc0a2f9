"""Checks that what a block says of itself is so: parameters, state bytes, operations, node names."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from search_space.blocks import Block
from search_space.blocks._base import STATE_BYTES
from search_space.conformance._case import Case
from search_space.conformance._runner import GraphRunner, graph_nodes
from search_space.export import Candidate, export_block


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
    """The graph's state tensors at that context have the bytes of `lowered_states`.

    Those are `state_bytes`, or no more than that where the lowering has states of its own.
    """
    said = block.state_bytes(width, context=context, batch=batch)
    states = block.lowered_states(lowering, width, context=context)
    wanted = [state.elements(batch=batch, context=context) * STATE_BYTES["float32"] for state in states]
    if block.all_lowerings()[lowering].states is None:
        assert sum(wanted) == said, f"state_bytes says {said}"
    else:
        assert sum(wanted) <= said, f"the states of {lowering} have {sum(wanted)} bytes, state_bytes says {said}"
    runner = GraphRunner(export_block(block, width, precision="fp32", context=context, lowering=lowering))
    arrays = runner.zero_states(batch=batch, capacity=context)
    x = np.zeros((batch, context, width), np.float32)
    _, new = runner.call(x, arrays, 0)
    got = [array.nbytes for array in new.values()]
    assert got == wanted, f"the states after {context} tokens have {got} bytes, declared are {wanted}"
    for state, (name, array) in zip(states, arrays.items(), strict=True):
        if not state.growing or state.in_place:
            assert new[name].shape == array.shape, f"{name} changes its shape from {array.shape} to {new[name].shape}"
    assert block.state_bytes(width, context=context, batch=batch, dtype="float16") * 2 == said


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
    """Every node is named once, under one of the prefixes, so that a profile can be summed per block.

    The nodes of subgraphs too: a profile shows them beside the others.
    """
    import onnx

    names = [node.name for node in graph_nodes(onnx.load_from_string(candidate.graph).graph)]
    assert len(set(names)) == len(names), "two nodes share a name"
    stray = [name for name in names if not name.startswith(tuple(prefixes))]
    assert not stray, f"nodes outside {list(prefixes)}: {stray[:5]}"


def _matrix_products(block: Block, width: int, tokens: int) -> int:
    from torch import nn

    linears = [module for module in block.module(width).modules() if isinstance(module, nn.Linear)]
    return 2 * tokens * sum(linear.in_features * linear.out_features for linear in linears)

"""Layout -> job: the files that travel, the block checks with their host reference values, and the counts for tables.

This is the only place where a layout meets a device's job: `search_space` knows no job and `profiler` no layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from search_space.blocks import EXPORTED, Block, Mixer
from search_space.export import Candidate, export_block, export_layout
from search_space.graph.precision import PrecisionName
from search_space.layout import Layout, block_id, distinct_blocks

if TYPE_CHECKING:
    from profiler.jobs import Check
    from profiler.workloads import Workload
    from search_space.load import Rounding

CHECK_VALUES = 96
"""Output values compared per call, spread evenly over the output."""

CHECK_TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "int8": 0.02, "int4": 0.02}
"""Relative RMS difference between device and torch that is always allowed. In int8 arithmetic the torch module rounds
its activations too, so that they agree to about 1e-6 on x86, in int8 on Arm as well; a wrong kernel differs by 100%."""

ROUNDED_OTHERWISE = 2.0
"""Times the difference that another way of rounding activations makes: so far may a kernel be that rounds in a way of
its own, as those for int4 on Arm do (measured there: 0.013 to 0.025, where rounding changes 0.009 to 0.022)."""
MOST_TOLERANT = 0.25
"""A check that allows more would say nothing."""

_MIN_CHECK_TOKENS = 9
_PAST_WINDOW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A candidate ready to be sent.

    Attributes:
        candidate: Graph, recipe and signature.
        files: ``model.onnx`` and ``recipe.json``.
        recipe_id: Hash of the recipe.
        content_id: Identity of graph and weights, part of the measurement key.
    """

    candidate: Candidate
    files: Mapping[str, bytes]
    recipe_id: str
    content_id: str


def prepare(
    layout: Layout,
    *,
    workload: Workload,
    precision: PrecisionName,
    lowerings: Mapping[str, str] | None = None,
    seed: int = 0,
    context: int | None = None,
) -> Prepared:
    """Export a layout for a workload: caches and position tables hold `context`, or the workload's largest."""
    from profiler.agent.weights import recipe_id
    from profiler.jobs import candidate_id

    candidate = export_layout(
        layout, precision=precision, context=context or workload.max_context, lowerings=lowerings, seed=seed
    )
    recipe = recipe_id(candidate.recipe)
    return Prepared(
        candidate=candidate,
        files={"model.onnx": candidate.graph, "recipe.json": _json(candidate.recipe)},
        recipe_id=recipe,
        content_id=candidate_id(candidate.graph, recipe),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCheck:
    """A block whose numbers are to be compared on a device.

    Attributes:
        check_id: Hash of graph, recipe and calls: a device that passed it need not be asked again.
        name: For messages; no other check has it.
    """

    block: Block
    width: int
    precision: PrecisionName
    context: int
    lowering: str
    candidate: Candidate
    check_id: str
    name: str


def block_checks(layout: Layout, candidate: Candidate) -> Iterator[BlockCheck]:
    """One check for each distinct block spec of a layout, as lowered in `candidate`."""
    for block, width in distinct_blocks(layout):
        lowering = candidate.lowerings[block_id(block, width)]
        yield _block_check(block, width, candidate.precision, candidate.context, lowering)


@lru_cache(maxsize=512)
def _block_check(block: Block, width: int, precision: PrecisionName, context: int, lowering: str) -> BlockCheck:
    # The check is no longer than it must be to take the model's path: a window that slides, or one that does not.
    rows = _sliding_rows(block, width, context)
    check_context = max(context, rows + _PAST_WINDOW + 1, _MIN_CHECK_TOKENS + 1) if rows else min(context, 64)
    candidate = export_block(block, width, precision=precision, context=check_context, lowering=lowering)
    digest = hashlib.sha256(candidate.graph + _json(candidate.recipe)).hexdigest()[:24]
    # Two specs of one kind may be in a layout: results tell them apart by the name alone.
    name = f"{block.kind} ({lowering}, {precision}, width {width}, check {digest[:8]})"
    return BlockCheck(
        block=block, width=width, precision=precision, context=check_context, lowering=lowering,
        candidate=candidate, check_id=digest, name=name,
    )  # fmt: skip


def check_tokens(check: BlockCheck) -> tuple[int, int]:
    """Tokens of the two calls: a prefill (past the window where one slides), then one step."""
    rows = _sliding_rows(check.block, check.width, check.context)
    return (max(_MIN_CHECK_TOKENS, rows + _PAST_WINDOW) if rows else min(_MIN_CHECK_TOKENS, check.context - 1), 1)


def _sliding_rows(block: Block, width: int, context: int) -> int:
    """Rows of a cache that is overwritten once it is full; 0 for a block that has none at this context."""
    sizes = (state.shape[2] for state in block.states(width, context=context) if state.in_place and not state.growing)
    return max((size for size in sizes if isinstance(size, int)), default=0)


def reference_check(check: BlockCheck, index: int) -> tuple[Check, dict[str, bytes]]:
    """The agent's form of a check; expected values are computed here by the torch module on the same seeded weights."""
    from profiler.agent.agreement import relative_rms
    from profiler.jobs import Check, CheckCall

    fills = [{"kind": "uniform", "seed": 1 + number, "low": -1.7, "high": 1.7} for number in range(2)]
    tolerance = CHECK_TOLERANCE[check.precision]
    if check.precision == "fp32":
        expected = _reference(check, fills, None)
    else:
        expected = _reference(check, fills, "blocks")
        for other in (_reference(check, fills, "rows"), _reference(check, fills, None)):
            for one, two in zip(expected, other, strict=True):
                tolerance = max(tolerance, ROUNDED_OTHERWISE * relative_rms(two.tolist(), one.tolist()))
    calls = [
        CheckCall(tokens=tokens, fill=fill, expected=tuple(values.tolist()))
        for tokens, fill, values in zip(check_tokens(check), fills, expected, strict=True)
    ]
    graph, recipe = f"check{index}.onnx", f"check{index}.json"
    return (
        Check(
            name=check.name,
            graph=graph,
            recipe=recipe,
            signature=check.candidate.signature,
            output=check.candidate.signature["logits"],
            calls=tuple(calls),
            tolerance=min(tolerance, MOST_TOLERANT),
        ),
        {graph: check.candidate.graph, recipe: _json(check.candidate.recipe)},
    )


def _reference(check: BlockCheck, fills: Sequence[Mapping[str, Any]], rounding: Rounding | None) -> list[Any]:
    """Values of the torch module at `CHECK_VALUES` places of each call's output, with activations rounded or not."""
    import numpy as np
    import torch

    from profiler.agent.weights import tensor_values
    from search_space.load import round_activations, state_dict

    tensors = {tensor["name"]: tensor for tensor in check.candidate.recipe["tensors"]}
    values: Callable[[str], Any] = lambda name: tensor_values(tensors[name])  # noqa: E731
    with torch.device("cpu" if check.lowering == EXPORTED else "meta"):
        # On meta no values are drawn that would be replaced at once; but an exported module may hold tables of its own.
        module = check.block.module(check.width).eval()
    module.load_state_dict(state_dict(check.candidate, values, strip="block."), assign=True)
    if rounding is not None:
        round_activations(module, rounding)
    found, state, position = [], None, 0
    with torch.no_grad():
        for tokens, fill in zip(check_tokens(check), fills, strict=True):
            shape = [1, tokens, check.width]
            x = torch.from_numpy(
                tensor_values({"name": "x", "dtype": "float32", "shape": shape, "offset": 0, "fill": fill}).copy()
            )
            if isinstance(check.block, Mixer):
                y, state = module(x, state, position)
            else:
                y = module(x)
            position += tokens
            flat = y.numpy().ravel()
            where = np.round(np.linspace(0, flat.size - 1, min(CHECK_VALUES, flat.size))).astype(int)
            found.append(flat[where])
    return found


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

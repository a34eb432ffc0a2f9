"""The suite every block must pass; a block of your own is checked by subclassing `BlockConformance`.

    class TestMyMixer(BlockConformance):
        specs = (MyMixer(heads=2), MyMixer(heads=3, gated=True))

pytest then compares the torch module (in float64) with ONNX Runtime for every lowering and precision, a whole prefill
with single steps over carried state, and the formulas for parameters, state bytes and operations with what is really
there. The checks are plain functions that raise AssertionError: property tests call them with sizes of their own.
"""

from search_space.conformance._case import Case
from search_space.conformance._counts import check_counts, check_flops, check_names, check_state_bytes
from search_space.conformance._numbers import (
    ROUNDED_TOLERANCE,
    TOLERANCE,
    check_chunks,
    check_runtime,
    check_runtime_steps,
    check_torch_steps,
    check_zero_state,
    relative_rms,
    torch_run,
)
from search_space.conformance._runner import GraphRunner, graph_nodes, recipe_values
from search_space.conformance._suite import BlockConformance

__all__ = [
    "ROUNDED_TOLERANCE",
    "TOLERANCE",
    "BlockConformance",
    "Case",
    "GraphRunner",
    "check_chunks",
    "check_counts",
    "check_flops",
    "check_names",
    "check_runtime",
    "check_runtime_steps",
    "check_state_bytes",
    "check_torch_steps",
    "check_zero_state",
    "graph_nodes",
    "recipe_values",
    "relative_rms",
    "torch_run",
]

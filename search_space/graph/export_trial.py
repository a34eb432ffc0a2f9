"""Trials that an exported module must pass: an exporter writes down one path through a module's code, at example sizes.

A branch that other sizes would take is lost without a word. So the traced program is asked for large sizes, without
computing, and the ONNX model is run at small ones, beside the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search_space.blocks._base import Block, FeedForward, StateSpec
from search_space.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch import nn
    from torch.export import ExportedProgram

SEQUENCES = ((1, (1, 1, 6)), (2, (16, 1, 9)), (1, (64, 1)))
"""Batch, and tokens of each call: odd and even ones, single ones, and multiples of chunks."""

LARGE = ((2, 67, 3), (2, 307, 4099), (3, 4099, 2), (2, 40_009, 70_001))
"""Batch, tokens and position: primes. Torch also notes where a size of one, or a padding of none, changes strides
alone; whether such sizes are right is told by the numbers at small ones."""

LIMIT = 1e-4
"""Largest relative RMS difference between float32 in torch and in ONNX Runtime."""


def try_module(block: Block, module: nn.Module, width: int, states: Sequence[StateSpec]) -> None:
    """Call the module as a device would, and compare what it gives with what the block says of it.

    Raises:
        ExportError: It fails, or gives something else.
    """
    import torch

    batch, tokens = 3, 5
    x_BTD = torch.rand(batch, tokens, width) - 0.5
    past = zeros(states, batch, 0)
    told = [list(value.shape) for value in zeros(states, batch, tokens)]
    sizes = f"x of [{batch}, {tokens}, {width}]"
    with torch.no_grad():
        try:
            y_BTD, new = _call(block, module, x_BTD, past, 0)
            start = y_BTD if isinstance(block, FeedForward) else module(x_BTD, None, 0)[0]
        except Exception as error:  # whatever the module's own code raises
            raise ExportError(f"{block.kind}: its module fails on {sizes}: {first_line(error)}") from error
    if y_BTD.shape != x_BTD.shape:
        raise ExportError(f"{block.kind}: its module turns {sizes} into y of {list(y_BTD.shape)}; y must be as x")
    if (got := [list(value.shape) for value in new]) != told:
        raise ExportError(
            f"{block.kind}: `states` names {told} (batch {batch}, after {tokens} tokens), its module returns {got}"
        )
    if _difference(y_BTD.numpy(), start.numpy()) > LIMIT:
        raise ExportError(
            f"{block.kind}: its module gives one thing for a state of None and another for a state of zeros; a device "
            "begins every sequence with zeros",
            hint="a state in which zero means that nothing has been seen",
        )


def try_sizes(block: Block, program: ExportedProgram, width: int, states: Sequence[StateSpec]) -> None:
    """Ask the traced program whether it holds at large sizes; nothing is computed.

    Raises:
        ExportError: It was traced through a branch that other sizes do not take.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    weights = program.example_inputs[0][3]
    call = program.module()
    for batch, tokens, position in LARGE:
        with FakeTensorMode(allow_non_fake_inputs=True):
            x_BTD = torch.empty(batch, tokens, width)
            try:
                call(x_BTD, position, zeros(states, batch, position), weights)
            except Exception as error:  # guards and assertions of torch are of many classes
                raise ExportError(
                    f"{block.kind} cannot be exported by torch: its module takes another way at {tokens} tokens after "
                    f"{position} (batch {batch}) than at a few: {first_line(error)}",
                    hint="one way for all sizes, or a lowering of its own",
                ) from error


def try_model(block: Block, model: ir.Model, module: nn.Module, width: int, states: Sequence[StateSpec]) -> None:
    """Run the model in ONNX Runtime over short sequences; outputs and states must be those of the module.

    Raises:
        ExportError: ONNX Runtime cannot run it, or it gives other numbers.
    """
    import onnx_ir as ir
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # failures are raised
    weights = {f"weight.{name}": value.detach().numpy() for name, value in module.named_parameters()}
    content = ir.to_proto(model).SerializeToString()
    wrong: tuple[int, int, int] | None = None
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for batch, calls in SEQUENCES:
            past, position = zeros(states, batch, 0), 0
            for tokens in calls:
                x_BTD = 2 * torch.rand(batch, tokens, width) - 1
                feeds = {f"past.{s.name}": value.numpy() for s, value in zip(states, past, strict=True)}
                feeds |= {"hidden": x_BTD.numpy(), "position": np.array(position), **weights}
                got = session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
                with torch.no_grad():
                    y_BTD, past = _call(block, module, x_BTD, past, position)
                if not _same(got, [value.numpy() for value in (y_BTD, *past)]):
                    wrong = wrong or (batch, tokens, position)
                position += tokens
    except Exception as error:  # the runtime's errors share no class
        raise ExportError(
            f"{block.kind} cannot be exported by torch: ONNX Runtime does not run its graph: {first_line(error)}",
            hint="a lowering of its own",
        ) from error
    if wrong is not None:
        batch, tokens, position = wrong
        raise ExportError(
            f"{block.kind} cannot be exported by torch: at {tokens} tokens after {position} (batch {batch}) its graph "
            "gives something else than its module, which may take another way there (an `if` over the number of "
            "tokens, the batch or the position)",
            hint="one way for all sizes, or a lowering of its own",
        )


def outputs(block: Block, result: Any) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """What a module returned, as output and new states."""
    if isinstance(block, FeedForward):
        return result, ()
    y_BTD, new = result
    return y_BTD, tuple(new)


def zeros(states: Sequence[StateSpec], batch: int, rows: int) -> tuple[torch.Tensor, ...]:
    """States of zeros after `rows` tokens; after none, those at the start of a sequence."""
    import torch

    sizes = {"batch": batch, "capacity": rows}
    return tuple(torch.zeros([sizes[dim] if isinstance(dim, str) else dim for dim in state.shape]) for state in states)


def first_line(error: BaseException) -> str:
    """An error's class and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _call(
    block: Block, module: nn.Module, x_BTD: torch.Tensor, past: tuple[torch.Tensor, ...], position: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    return outputs(block, module(x_BTD) if isinstance(block, FeedForward) else module(x_BTD, past, position))


def _same(got: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return all(a.shape == b.shape and _difference(a, b) <= LIMIT for a, b in zip(got, wanted, strict=True))


def _difference(got: Any, wanted: Any) -> float:
    """Root mean square of the difference over that of `wanted`; 0 when both are the same."""
    apart = float(np.sqrt(np.mean(np.square(got.astype(np.float64) - wanted)))) if wanted.size else 0.0
    scale = float(np.sqrt(np.mean(np.square(wanted, dtype=np.float64)))) if wanted.size else 0.0
    return apart / max(scale, 1e-30) if apart else 0.0

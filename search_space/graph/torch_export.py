"""A block's torch module -> an ONNX model without weights, by `torch.onnx.export`.

Parameters are inputs of the model, not initialisers: no pass of the exporter can fold or rename them. Batch and number
of tokens are dynamic; the position is a whole number, so that a module may count with it.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import logging
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from search_space.blocks._base import Block, FeedForward, StateSpec
from search_space.errors import ExportError
from search_space.graph import export_trial as trial
from search_space.graph.builder import OPSET

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

HIDDEN, POSITION, MIXED = "hidden", "position", "mixed"
TRAINABLE = "archsearch.trainable"
"""Metadata of the model: what is known of its parameters, as JSON."""

_EXPORTING = Lock()
_BATCH, _TOKENS, _SEEN = 3, 5, 7  # example sizes; they differ, so that no two dimensions are taken for one
_ADVICE = "give the block a lowering of its own (`lowerings`), or write its module in tensor operations of any length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """A parameter of an exported module.

    Attributes:
        name: In the module's state dict.
        shape: In torch.
        linear: Whether it is the matrix of an `nn.Linear`.
        low: Smallest value that the module's own initialisation gives it.
        high: Largest one.
    """

    name: str
    shape: tuple[int, ...]
    linear: bool
    low: float
    high: float


def export_module(block: Block, width: int, states: Sequence[StateSpec]) -> ir.Model:
    """The block's module as a model: inputs `hidden`, `position`, the states and the parameters, by their names.

    A growing state has as many rows as there are earlier tokens. Outputs are `mixed` and the new states. The model was
    run in ONNX Runtime, and gave what the module gives.

    Raises:
        ExportError: The module cannot be exported; the message says what in it and what to do.
    """
    import torch

    _require_returned(block, states)
    with _EXPORTING, _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the ranges of parameters are those of one and the same initialisation
        module = block.module(width).eval()
        trainable = _trainable(block, module)
        trial.try_module(block, module, width, states)
        program = _traced(block, module, width, states)
        trial.try_sizes(block, program, width, states)
        try:
            made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        except Exception as error:  # operators without a translation come as errors of many classes
            raise ExportError(
                f"{block.kind} cannot be exported by torch: no ONNX for its module: {_root(error)}", hint=_ADVICE
            ) from error
        assert made is not None
        model = made.model
        RemoveUnusedNodesPass()(model)
        _name(model, states, trainable)
        trial.try_model(block, model, module, width, states)
    model.metadata_props[TRAINABLE] = json.dumps([asdict(parameter) for parameter in trainable])
    return model


def trainable_of(model: ir.Model) -> list[Trainable]:
    """The parameters of an exported module."""
    return [
        Trainable(**{**entry, "shape": tuple(entry["shape"])}) for entry in json.loads(model.metadata_props[TRAINABLE])
    ]


def _name(model: ir.Model, states: Sequence[StateSpec], trainable: Sequence[Trainable]) -> None:
    names = [HIDDEN, POSITION, *(f"past.{s.name}" for s in states), *(f"weight.{p.name}" for p in trainable)]
    for value, name in zip(model.graph.inputs, names, strict=True):
        value.name = name
    for value, name in zip(model.graph.outputs, [MIXED, *(f"present.{s.name}" for s in states)], strict=True):
        value.name = name


def _require_returned(block: Block, states: Sequence[StateSpec]) -> None:
    for state in states:
        if state.in_place:
            raise ExportError(
                f"{block.kind} cannot be exported by torch: its state {state.name!r} is updated in place at this "
                "context, and a module's graph can only carry what it returns: states of fixed size, or with new rows",
                hint="a lowering of its own (see search_space/blocks/_attention_lowerings.py)",
            )


def _trainable(block: Block, module: nn.Module) -> list[Trainable]:
    """What the parameters are.

    Raises:
        ExportError: The state dict holds what is no parameter, or one parameter has two names.
    """
    from torch import nn

    parameters = dict(module.named_parameters())
    if shared := [name for name, _ in module.named_parameters(remove_duplicate=False) if name not in parameters]:
        raise ExportError(f"{block.kind}: parameter {shared[0]!r} of its module is another one too; give it one name")
    if buffers := [name for name in module.state_dict() if name not in parameters]:
        raise ExportError(
            f"{block.kind}: buffer {buffers[0]!r} of its module is in the state dict, but it is not trained",
            hint="register_buffer(..., persistent=False)",
        )
    if isinstance(module, nn.Linear):
        raise ExportError(f"{block.kind}: its module is itself an nn.Linear; make it an attribute of a module")
    linears = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    return [
        Trainable(
            name=name, shape=tuple(value.shape), linear=name in linears, low=float(value.min()), high=float(value.max())
        )
        for name, value in parameters.items()
    ]


def _traced(block: Block, module: nn.Module, width: int, states: Sequence[StateSpec]) -> ExportedProgram:
    import torch
    from torch import nn
    from torch.export import Dim

    names = [name for name, _ in module.named_parameters()]

    class Call(nn.Module):
        """The module as a function of its inputs and its parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(
            self, x_BTD: torch.Tensor, position: int, past: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]
        ) -> tuple[torch.Tensor, ...]:
            given = dict(zip(names, weights, strict=True))
            arguments: tuple[Any, ...] = (x_BTD,) if isinstance(block, FeedForward) else (x_BTD, past, position)
            y_BTD, new = trial.outputs(block, torch.func.functional_call(self.module, given, arguments))
            return y_BTD, *new

    dynamic = Dim.DYNAMIC
    weights = tuple(value.detach() for value in module.parameters())
    shapes = {
        "x_BTD": {0: dynamic, 1: dynamic},
        "position": dynamic,
        "past": tuple({i: dynamic for i, dim in enumerate(state.shape) if isinstance(dim, str)} for state in states),
        "weights": tuple(None for _ in weights),
    }
    arguments = (torch.zeros(_BATCH, _TOKENS, width), _SEEN, trial.zeros(states, _BATCH, _SEEN), weights)
    try:
        with redirect_stderr(io.StringIO()):  # it prints the graph so far when it gives up
            program = torch.export.export(
                Call().eval(), arguments, dynamic_shapes=shapes, strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )  # fmt: skip
    except Exception as error:  # the module's own code runs in there
        raise ExportError(f"{block.kind} cannot be exported by torch: {_why(module, error)}", hint=_ADVICE) from error
    if changed := [*program.graph_signature.buffers_to_mutate.values()]:
        raise ExportError(
            f"{block.kind} cannot be exported by torch: its module changes its buffer {changed[0]!r}",
            hint="return what is carried from call to call as the new state",
        )
    return program


# -- what went wrong ---------------------------------------------------------------------------------------------------


def _why(module: nn.Module, error: Exception) -> str:
    """What in the module cannot be exported."""
    text = str(error)
    if "data-dependent" in text:
        at = re.findall(r'File "([^"]+)", line (\d+), in \w+', text)
        where = f" ({Path(at[-1][0]).name}:{at[-1][1]})" if at else ""
        return f"its module decides by values of a tensor{where}: an `if`, a loop, int() or .item() over them"
    if "static shape" not in text and "onstrain" not in text:
        return f"tracing its module fails: {trial.first_line(error)}"
    fixed = [
        name
        for name, sign in (("number of tokens", ".shape[1]"), ("batch", ".shape[0]"), ("position", "'position'"))
        if sign in text
    ]
    found = next(_choices(type(module)), None)
    where = f" ({found})" if found else ""
    return (
        f"its module is written for one {' and one '.join(fixed) or 'size'}{where}: a Python loop or int() over it "
        "would be fixed in the graph"
    )


def _choices(cls: type[nn.Module]) -> Iterator[str]:
    """Places in a module's own `forward` at which Python decides: loops first."""
    try:
        source, line = inspect.getsourcelines(cls.forward)
        tree = ast.parse(textwrap.dedent("".join(source)))
        file = Path(inspect.getsourcefile(cls.forward) or "").name
    except (OSError, TypeError, SyntaxError):
        return
    loops = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp)
    for kinds in (loops, (ast.If, ast.IfExp)):
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield f"{file}:{line + node.lineno - 1}: `{source[node.lineno - 1].strip().rstrip(':')}`"


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return trial.first_line(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own parts, and logs what it leaves out: none of it is the user's concern."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

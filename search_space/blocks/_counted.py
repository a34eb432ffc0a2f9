"""What a block that brings no formulas costs: counted in its torch module, without values."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from search_space.errors import SearchSpaceError

if TYPE_CHECKING:
    from torch import nn

    from search_space.blocks._base import Block


def without_values(block: Block, width: int) -> nn.Module:
    """The block's torch module on the meta device: shapes and code, and no memory."""
    import torch

    try:
        with torch.device("meta"):
            return block.module(width).eval()
    except (NotImplementedError, RuntimeError):  # its constructor reads values
        return block.module(width).eval().to("meta")


@lru_cache(maxsize=4096)
def counted_params(block: Block, width: int) -> int:
    """Elements of the module's parameters; one that has two names is counted once."""
    return sum(parameter.numel() for parameter in without_values(block, width).parameters())


@lru_cache(maxsize=4096)
def counted_flops(block: Block, width: int, *, tokens: int, context: int) -> int:
    """Operations of one call of `tokens` tokens that ends at `context`, as torch's `FlopCounterMode` counts them.

    Raises:
        SearchSpaceError: The module cannot be run without values.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from search_space.blocks._base import FeedForward

    module, past = without_values(block, width), context - tokens
    sizes = {"batch": 1, "capacity": past}
    arguments: list[Any] = [torch.empty(1, tokens, width, device="meta")]
    if not isinstance(block, FeedForward):
        states = block.states(width, context=context)
        shapes = [[sizes[dim] if isinstance(dim, str) else dim for dim in state.shape] for state in states]
        arguments += [tuple(torch.empty(shape, device="meta") for shape in shapes), past]
    try:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*arguments)
    except Exception as error:  # the module's own code runs in there
        raise SearchSpaceError(
            f"{block.kind}: the operations of its module cannot be counted: {type(error).__name__}: {error}",
            hint="give the block a `flops` of its own",
        ) from error
    return int(counter.get_total_flops())

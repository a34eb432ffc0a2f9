"""Blocks measured as they run in a model: many copies in a row, each with weights of its own.

A block alone would find its weights in the processor's cache at every step, and look 2.4 times as fast as it is. A
stack is an ordinary layout: a tiny embedding, N equal layers, a tiny head. Its time over N is the time of one block
with the norm before it and its residual sum.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from search_space.blocks import Block, FeedForward, Mixer, mixers
from search_space.cost import state_bytes, weight_bytes
from search_space.graph.precision import PrecisionName
from search_space.layout import Embedding, Layer, Layout

STACK_VOCABULARY = 64
SPILL = 4
"""Between two steps, more than the last-level cache holds is read by this factor."""
ASSUMED_CACHE = 32 << 20
"""Last-level cache of a device that does not tell."""
PREFILL_COPIES = 2
"""A prefill reads its weights once for many tokens: few copies will do."""
MAX_COPIES = 32
"""A stack that still fits the cache then is of a block so small that its models fit too."""
_FIRM_BYTES, _FIRM_COPIES = 20 << 20, 16
"""A step reads so much, or goes through so many copies, that starting a run no longer counts."""
_SIZE = re.compile(r"(\d+)\s*([KM]?)")


def stack(block: Block, width: int, copies: int) -> Layout:
    """A layout of `copies` layers with nothing but this block, of a mixer or of a feed-forward network."""
    if isinstance(block, Mixer):
        layer = Layer(mixer=block, ffn=None)
    else:
        assert isinstance(block, FeedForward)
        layer = Layer(mixer=mixers()["none"](), ffn=block)
    return Layout(width=width, embedding=Embedding(vocab_size=STACK_VOCABULARY), layers=(layer,) * copies)


def entrant_name(lowering: str, part: str, copies: int) -> str:
    """What a stack is called in a comparison: ``shifted/prefill*2``, ``shifted/decode0*16``."""
    return f"{lowering}/{part}*{copies}"


@lru_cache(maxsize=512)
def block_weight_bytes(block: Block, width: int, precision: PrecisionName) -> int:
    """Stored bytes of one block with the norm before it."""
    return weight_bytes(stack(block, width, 2), precision) - weight_bytes(stack(block, width, 1), precision)


def bytes_per_step(block: Block, width: int, precision: PrecisionName, *, context: int, batch: int = 1) -> int:
    """Bytes that a step with `context` tokens behind it must read: the weights and the carried state."""
    state = state_bytes(stack(block, width, 1), context=context, batch=batch)
    return block_weight_bytes(block, width, precision) + state


def decode_copies(
    block: Block, width: int, precision: PrecisionName, *, context: int, batch: int, cache_bytes: int, others: int
) -> int:
    """Copies whose weights and state cannot wait in the cache from one step to the next.

    Args:
        block: The spec.
        width: Model width.
        precision: Storage of the weights.
        context: Tokens behind a step.
        batch: Sequences B.
        cache_bytes: Of the last-level cache.
        others: Contenders of about this size that take their turn between two steps, each with weights of its own:
            what they read drives ours out of the cache as well as more copies would.
    """
    each = bytes_per_step(block, width, precision, context=context, batch=batch)
    spill = math.ceil(SPILL * cache_bytes / (each * max(1, others)))
    firm = min(_FIRM_COPIES, math.ceil(_FIRM_BYTES / each))
    return min(MAX_COPIES, max(2, spill, firm))


def cache_bytes(text: object) -> int:
    """Bytes of a last-level cache as the kernel writes them (``32768K``); `ASSUMED_CACHE` where it says nothing."""
    found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or int(found[1]) == 0:
        return ASSUMED_CACHE
    return int(found[1]) << {"": 0, "K": 10, "M": 20}[found[2]]

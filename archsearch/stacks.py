"""Blocks measured as they run in a model: several copies in a row, each with weights of its own.

A stack is an ordinary layout: a tiny embedding, N equal layers, a tiny head. Its time over N is the time of one block
with the norm before it and its residual sum. Between two steps of a stack something else must read more than the cache
holds (`archsearch.roofline`): a block that finds its weights in the processor's cache looks 2.4 times as fast as it is
in a model.
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
STEPS = 16
"""Decode steps timed in a row."""
PREFILL_COPIES = 2
"""A prefill reads its weights once for many tokens: few copies will do."""
ASSUMED_CACHE = 32 << 20
"""Last-level cache of a device that does not tell."""
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


@lru_cache(maxsize=512)
def block_weight_bytes(block: Block, width: int, precision: PrecisionName) -> int:
    """Stored bytes of one block with the norm before it."""
    return weight_bytes(stack(block, width, 2), precision) - weight_bytes(stack(block, width, 1), precision)


def bytes_per_step(block: Block, width: int, precision: PrecisionName, *, context: int, batch: int = 1) -> int:
    """Bytes that a step with `context` tokens behind it must read: the weights and the carried state."""
    state = state_bytes(stack(block, width, 1), context=context, batch=batch)
    return block_weight_bytes(block, width, precision) + state


def decode_copies(block: Block, width: int, precision: PrecisionName, *, context: int, batch: int) -> int:
    """Copies whose step takes so long that starting a run does not count.

    Args:
        block: The spec.
        width: Model width.
        precision: Storage of the weights.
        context: Tokens behind a step.
        batch: Sequences B.
    """
    each = bytes_per_step(block, width, precision, context=context, batch=batch)
    return max(2, min(_FIRM_COPIES, math.ceil(_FIRM_BYTES / each)))


def cache_bytes(text: object) -> int:
    """Bytes of a last-level cache as the kernel writes them (``32768K``); `ASSUMED_CACHE` where it says nothing."""
    found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or int(found[1]) == 0:
        return ASSUMED_CACHE
    return int(found[1]) << {"": 0, "K": 10, "M": 20}[found[2]]

"""Operations of blocks, counted one by one."""

import pytest
import torch

from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU


@pytest.mark.parametrize("window", [None, 1, 3, 8, 9, 30])
@pytest.mark.parametrize(("tokens", "context"), [(1, 1), (8, 8), (5, 12), (1, 20), (7, 9), (20, 20)])
def test_attention_flops_count_visible_pairs(window, tokens, context):
    sizes = {"heads": 4, "kv_heads": 2, "head_dim": 16, "qk_norm": False}
    spec = GQA(**sizes) if window is None else SWA(**sizes, window=window)
    pairs = sum(
        1
        for query in range(context - tokens, context)
        for key in range(context)
        if key <= query and (window is None or query - key < window)
    )
    width = 24
    products = 2 * tokens * width * 16 * (4 + 2 + 2 + 4)  # q, k, v and out
    assert spec.flops(width, tokens=tokens, context=context) == products + 2 * (2 * 4 * 16 * pairs)


@pytest.mark.parametrize("spec", [SwiGLU(hidden=31), ShortConv(kernel=3)], ids=str)
def test_flops_equal_torchs_own_counter(spec):
    from torch.utils.flop_counter import FlopCounterMode

    width, tokens = 20, 13
    module, x_BTD = spec.module(width), torch.zeros(1, tokens, width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x_BTD) if spec.kind == "swiglu" else module(x_BTD, None, 0)
    gates = 2 * tokens * width if spec.kind == "short_conv" else 0  # elementwise products, which torch does not count
    assert spec.flops(width, tokens=tokens, context=tokens) == counter.get_total_flops() + gates


class Counted(float):
    """A number that counts multiplications and additions."""

    operations = 0

    def __mul__(self, other):
        Counted.operations += 1
        return Counted(float(self) * float(other))

    def __add__(self, other):
        Counted.operations += 1
        return Counted(float(self) + float(other))

    def __sub__(self, other):
        Counted.operations += 1
        return Counted(float(self) - float(other))


@pytest.mark.parametrize(
    ("spec", "elsewhere"),
    [
        (GLA(heads=3, key_dim=4, value_dim=5, decay_rank=2), 24 * (2 * 12 + 2 * 15) + 2 * (24 + 12) + 15 * 24),
        (GDN(key_heads=1, value_heads=3, key_dim=4, value_dim=5, kernel=2), 24 * (23 + 15 + 6) + 2 * 23 + 15 * 24),
    ],
    ids=str,
)
def test_linear_attention_flops_equal_a_counted_recurrence(spec, elsewhere):
    heads, K, V = 3, 4, 5
    Counted.operations = 0
    for _ in range(heads):
        S = [[Counted(0.5) for _ in range(V)] for _ in range(K)]
        q, k, v = ([Counted(0.1)] * n for n in (K, K, V))
        S = [[s * Counted(0.9) for s in row] for row in S]
        if spec.kind == "gdn":
            read = [sum((S[i][j] * k[i] for i in range(K)), Counted(0)) for j in range(V)]
            v = [(v[j] - read[j]) * Counted(0.3) for j in range(V)]
        S = [[S[i][j] + k[i] * v[j] for j in range(V)] for i in range(K)]
        [sum((S[i][j] * q[i] for i in range(K)), Counted(0)) for j in range(V)]
    per_token = 2 * elsewhere + Counted.operations  # `elsewhere`: weights of projections and taps
    assert spec.flops(24, tokens=7, context=7) == spec.flops(24, tokens=7, context=7000) == 7 * per_token

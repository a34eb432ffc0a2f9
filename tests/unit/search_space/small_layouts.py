"""Small layouts with every mixer, at sizes that fit no block of anything."""

from typing import Any

from search_space.blocks.gdn import GDN
from search_space.blocks.gla import GLA
from search_space.blocks.gqa import GQA
from search_space.blocks.none import NoMixer
from search_space.blocks.short_conv import ShortConv
from search_space.blocks.swa import SWA
from search_space.blocks.swiglu import SwiGLU
from search_space.layout import Embedding, Layer, Layout

FFN = SwiGLU(hidden=65)
MIXERS = {
    "C": ShortConv(kernel=3),
    "W": SWA(heads=2, kv_heads=1, head_dim=16, window=5),
    "G": GQA(heads=2, kv_heads=2, head_dim=16),
    "L": GLA(heads=2, key_dim=8, value_dim=9, decay_rank=3),
    "D": GDN(key_heads=1, value_heads=2, key_dim=8, value_dim=8),
    "N": NoMixer(),
}


def layout(
    code: str = "CWGLDN",
    *,
    width: int = 33,
    vocab_size: int = 101,
    bare: tuple[int, ...] = (2,),
    rank: int | None = None,
    tied: bool = True,
    scaled: bool = False,
    **fields: Any,
) -> Layout:
    """One layer per letter; layers listed in `bare` have no feed-forward network."""
    return Layout(
        width=width,
        embedding=Embedding(vocab_size=vocab_size, rank=rank, tied=tied, scaled=scaled),
        layers=tuple(
            Layer(mixer=MIXERS[letter], ffn=None if index in bare else FFN) for index, letter in enumerate(code)
        ),
        **fields,
    )


HYBRIDS = {
    "tied": layout(),
    "untied": layout(tied=False),
    "factorised": layout(rank=17),
    "factorised, untied": layout(rank=17, tied=False),
    "post-norm, scaled": layout(post_norm=True, scaled=True),
    "factorised, scaled": layout("GCCWDL", rank=32, scaled=True, bare=()),
    "one layer": layout("G", bare=()),
    "a mixer alone": layout("C", bare=(0,)),
    "no mixer": layout("NN", bare=(), norm_eps=1e-6),
    "deep": layout("CCGCCGCCGCGCGCGC", width=32),
}

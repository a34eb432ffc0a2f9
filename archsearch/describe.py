"""`archsearch describe`: everything that can be said of a layout without measuring it."""

from __future__ import annotations

from typing import Any

from search_space.cost import all_weight_bytes, flops, parameters, state_bytes
from search_space.layout_file import NamedLayout

CONTEXTS = (512, 1024, 4096, 32768)


def describe(named: NamedLayout) -> dict[str, Any]:
    """Counts of a layout as one JSON object.

    Byte counts end in `_bytes`; `state_bytes` is for batch 1 with float32 state; `flops_per_token` counts one decode
    step at each context (a multiply-add is two operations).
    """
    layout, counts = named.layout, parameters(named.layout)
    extra = sum(named.extra_params.values())
    return {
        "name": named.name,
        "layout_id": layout.layout_id,
        "code": layout.code,
        "width": layout.width,
        "depth": len(layout.layers),
        "vocab_size": layout.embedding.vocab_size,
        "embedding_rank": layout.embedding.rank,
        "tied": layout.embedding.tied,
        "total_params": counts.total,
        "embedding_params": counts.vocabulary,
        "effective_params": counts.effective,
        "embedding_share": counts.embedding_share,
        "params": {
            "embedding": counts.embedding,
            "head": counts.head,
            "mixers": counts.mixers,
            "ffn": counts.ffn,
            "norms": counts.norms,
        },
        "extra_params": dict(named.extra_params),
        "all_tensors_params": counts.total + extra,
        "embedding_share_of_all_tensors": counts.vocabulary / (counts.total + extra),
        "weight_bytes": dict(all_weight_bytes(layout)),
        "state_bytes": {str(context): state_bytes(layout, context=context) for context in CONTEXTS},
        "flops_per_token": {str(context): flops(layout, tokens=1, context=context) for context in CONTEXTS},
        "prefill_flops": {str(context): flops(layout, tokens=context, context=context) for context in CONTEXTS},
        "layers": _layers(named),
        "notes": named.notes,
    }


def _layers(named: NamedLayout) -> list[dict[str, Any]]:
    """Each distinct layer once, with the indices where it stands."""
    kinds: list[dict[str, Any]] = []
    for index, layer in enumerate(named.layout.to_json()["layers"]):
        same = next((kind for kind in kinds if kind["mixer"] == layer["mixer"] and kind["ffn"] == layer["ffn"]), None)
        if same is None:
            kinds.append({"at": [index], **layer})
        else:
            same["at"].append(index)
    return kinds

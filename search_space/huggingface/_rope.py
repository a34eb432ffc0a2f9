"""Rotary parameters of a config: the older spelling (`rope_theta`, `rope_scaling`) and the newer (`rope_parameters`).

Both lead to fields of an attention spec. Where one config has both, transformers 5 lets `rope_scaling` stand for
`rope_parameters`, and a base inside of them win over the one beside them; contradictions are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from search_space.blocks._attention import Attention
from search_space.huggingface._keys import Keys
from search_space.wording import shown

_ALWAYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
FULL, SLIDING = "full_attention", "sliding_attention"


def read_rope(
    keys: Keys, theta: float, *, fraction: float | None = None, ignored: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Fields of an attention spec from parameters that all layers share.

    Args:
        keys: The config.
        theta: Base where the config has none.
        fraction: Rotated share where the config has none; None for a family that rotates whole heads.
        ignored: Parameters without a meaning for text.
    """
    scaling, parameters = keys.raw("rope_scaling"), keys.raw("rope_parameters")
    if scaling and parameters and scaling != parameters:
        keys.wrong("rope_scaling", f"rope_parameters is {shown(parameters)}; leave one of them out")
    beside = keys.number("rope_theta", theta)
    share = keys.raw("partial_rotary_factor", fraction)
    name = "rope_scaling" if scaling else "rope_parameters"
    found = scaling or parameters or {}
    if isinstance(found, dict) and "rope_theta" in found:
        keys.same(found["rope_theta"], f"{name}.rope_theta", "rope_theta")
    share = found.get("partial_rotary_factor", share) if isinstance(found, dict) else share
    fields = _fields(keys, name, found, beside, ignored)
    if fraction is None:
        if share not in (None, 1):
            keys.problems.append(f"{keys.where}partial_rotary_factor is {shown(share)}; supported: 1")
        return fields
    if type(share) not in (int, float) or not 0 < share <= 1:
        keys.problems.append(f"{keys.where}partial_rotary_factor is {shown(share)}; it must be above 0 and at most 1")
        share = fraction
    return fields | {"rotary_fraction": float(share)}


def read_rope_by_type(keys: Keys, *, full: float, sliding: float) -> dict[str, dict[str, Any]]:
    """Fields of an attention spec for full and for sliding-window layers, as Gemma 3 has them.

    In the older spelling `rope_theta` and `rope_scaling` are those of the full layers, and `rope_local_base_freq` is
    the base of the sliding ones.
    """
    found = keys.raw("rope_parameters") or {}
    if not isinstance(found, dict) or not set(found) <= {FULL, SLIDING}:
        keys.wrong("rope_parameters", f"it must have an object for {FULL} and one for {SLIDING}")
        found = {}
    bases = {FULL: ("rope_theta", full), SLIDING: ("rope_local_base_freq", sliding)}
    scaling = keys.raw("rope_scaling") or {}
    if not isinstance(scaling, dict):
        keys.wrong("rope_scaling", "it must be an object")
        scaling = {}
    fields = {}
    for kind, (old, default) in bases.items():
        beside = keys.number(old, default)
        given = found.get(kind) or {}
        if isinstance(given, dict) and "rope_theta" in given:
            keys.same(given["rope_theta"], f"rope_parameters.{kind}.rope_theta", old)
        if kind == FULL and isinstance(given, dict):
            given = {**given, **scaling}
        fields[kind] = _fields(keys, f"rope_parameters.{kind}", given, beside, frozenset())
        if isinstance(given, dict) and given.get("partial_rotary_factor") not in (None, 1):
            keys.problems.append(f"{keys.where}rope_parameters.{kind}.partial_rotary_factor must be 1")
    return fields


def _fields(keys: Keys, name: str, found: Any, theta: float, ignored: frozenset[str]) -> dict[str, Any]:
    name = f"{keys.where}{name}"
    if not isinstance(found, dict) or any(isinstance(value, dict) for value in found.values()):
        keys.problems.append(f"{name} is {shown(found)}; supported is one object for all layers")
        return {}
    kind = found.get("rope_type", found.get("type", "default"))
    if kind not in _NEEDED:
        keys.problems.append(f"{name}.rope_type is {shown(kind)}; supported: {', '.join(_NEEDED)}")
        return {}
    needed = _NEEDED[kind]
    known = _ALWAYS | set(needed) | ignored | ({"original_max_position_embeddings"} if kind == "llama3" else set())
    for key in found:
        if key not in known:
            keys.problems.append(f"{name}.{key} ({shown(found[key])}) is not understood for rope_type {kind!r}")
    values = {"rope_theta": theta}
    for key in ("rope_theta", *needed):
        if key in found and type(found[key]) in (int, float) and isfinite(found[key]) and found[key] > 0:
            values[key] = float(found[key])
        elif key in found or key in needed:
            keys.problems.append(f"{name}.{key} is {shown(found.get(key))}; it must be a positive number")
            return {}
    if kind == "default" or values["factor"] == 1:
        return {"rope_theta": values["rope_theta"]}
    fields = {"rope_theta": values["rope_theta"], "rope_scaling": kind, "rope_factor": values["factor"]}
    if kind == "llama3":
        original = found.get("original_max_position_embeddings", keys.raw("max_position_embeddings"))
        if type(original) is not int or original < 1:
            keys.problems.append(f"{name}.original_max_position_embeddings is {shown(original)}; it must be positive")
            return {}
        fields |= {
            "rope_low_freq_factor": values["low_freq_factor"],
            "rope_high_freq_factor": values["high_freq_factor"],
            "rope_original_context": original,
        }
    return fields


def write_rope(spec: Attention | None, theta: float) -> dict[str, Any]:
    """The newer spelling of an attention spec's rotation; a base of `theta` for None."""
    if spec is None:
        return {"rope_type": "default", "rope_theta": theta}
    written: dict[str, Any] = {
        "rope_type": "default" if spec.rope_scaling == "none" else spec.rope_scaling,
        "rope_theta": float(spec.rope_theta),
    }
    if spec.rope_scaling != "none":
        written["factor"] = float(spec.rope_factor)
    if spec.rope_scaling == "llama3":
        written |= {
            "low_freq_factor": float(spec.rope_low_freq_factor),
            "high_freq_factor": float(spec.rope_high_freq_factor),
            "original_max_position_embeddings": spec.rope_original_context,
        }
    return written


def context_of(rope: Mapping[str, Any], context: int) -> int:
    """`max_position_embeddings`: what the caches hold, and what a scaled rotation was stretched to if that is more."""
    return max(context, int(rope.get("original_max_position_embeddings", 0) * rope.get("factor", 1)))

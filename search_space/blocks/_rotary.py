"""Rotary positions: which angles a head is turned by, as a recipe's fill and as numbers.

Dimension pair i of R rotated dimensions turns by p f_i at position p, with f_i = theta^(-2 i / R) (Su et al. 2021,
arXiv:2104.09864). Two ways to stretch a trained context slow the pairs down:

- ``linear``: every f_i is divided by a factor, which is position interpolation (Chen et al. 2023, arXiv:2306.15595);
- ``llama3``: only slow pairs are. A pair turns C f_i / (2 pi) times within the original context C. With as many turns
  as `high` or more it keeps f_i, with `low` or fewer it gets f_i / factor, and between it gets the mean of both,
  weighted by s = (turns - low) / (high - low): s f_i + (1 - s) f_i / factor (Llama 3.1; Grattafiori et al. 2024,
  arXiv:2407.21783).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

RopeScaling = Literal["none", "linear", "llama3"]

Fill = dict[str, Any]


def rope_fill(
    *, theta: float, rotary_dim: int, scaling: RopeScaling, factor: float, low: float, high: float, original: int
) -> Fill:
    """The frequencies as a recipe says them; `part` (cos or sin) makes it the fill of one table.

    Without scaling it has no entry `scaling`.
    """
    fill: Fill = {"kind": "rope", "theta": theta, "rotary_dim": rotary_dim}
    if scaling == "linear":
        fill["scaling"] = {"kind": "linear", "factor": factor}
    elif scaling == "llama3":
        fill["scaling"] = {
            "kind": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_context": original,
        }  # fmt: skip
    return fill


def rope_name(fill: Mapping[str, Any]) -> str:
    """A name that only equal frequencies share: ``rope.1e+06.64``, and what scales them behind it."""
    theta = fill["theta"]
    short = f"{theta:g}" if float(f"{theta:g}") == theta else repr(theta)
    scaling = fill.get("scaling", {})
    return ".".join(["rope", short, str(fill["rotary_dim"]), *(str(value) for value in scaling.values())])


def frequencies(fill: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Radians per position of each pair: float64 [rotary_dim / 2]."""
    import numpy as np

    rotary = int(fill["rotary_dim"])
    plain: np.ndarray[Any, np.dtype[np.float64]] = float(fill["theta"]) ** (
        -2.0 * np.arange(rotary // 2, dtype=np.float64) / max(1, rotary)
    )
    scaling = fill.get("scaling")
    if scaling is None:
        return plain
    slow = plain / float(scaling["factor"])
    if scaling["kind"] == "linear":
        return slow
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = float(scaling["original_context"]) * plain / (2 * np.pi)
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return share * plain + (1.0 - share) * slow


def table_values(fill: Mapping[str, Any], positions: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Cosines or sines [positions, rotary_dim / 2] as a fill with its `part` asks for them."""
    import numpy as np

    angles = np.outer(np.arange(positions, dtype=np.float64), frequencies(fill))
    table: np.ndarray[Any, np.dtype[np.float64]] = {"cos": np.cos, "sin": np.sin}[fill["part"]](angles)
    return table

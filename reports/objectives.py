"""The quantities that tables, budgets and rankings know by name: unit, direction, label and number format.

A caller with further ones defines them with `define`; they then work as columns, objectives and budgets like these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reports.errors import UnknownNameError

Direction = Literal["min", "max"]
Kind = Literal["number", "count", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A named number of a row.

    Attributes:
        name: The row's field; the interval, where there is one, is in ``{name}_low`` and ``{name}_high``.
        unit: Unit of the field, empty for a pure number.
        direction: Which way is better.
        label: Column heading.
        kind: How people read it: a plain number, a count (354.48M) or a share (18.93%).
        per_layout: The same on every device and at every point, so it is never made relative to a reference.
        resolution: Relative difference up to which two candidates are equal in it when fronts are made.
    """

    name: str
    unit: str
    direction: Direction
    label: str
    kind: Kind = "number"
    per_layout: bool = False
    resolution: float = 0.0


_known: dict[str, Quantity] = {}


def define(
    name: str,
    *,
    unit: str,
    direction: Direction,
    label: str | None = None,
    kind: Kind = "number",
    per_layout: bool = False,
    resolution: float = 0.0,
) -> Quantity:
    """Make a quantity known; one of that name that exists already is kept as it is.

    Raises:
        ValueError: One of that name exists with another unit or direction.
    """
    found = _known.get(name)
    if found is None:
        label = label or name.removesuffix(f"_{unit.lower()}").replace("_", " ")
        found = Quantity(
            name=name, unit=unit, direction=direction, label=label, kind=kind, per_layout=per_layout,
            resolution=resolution,
        )  # fmt: skip
        _known[name] = found
    elif (found.unit, found.direction) != (unit, direction):
        raise ValueError(f"{name} is known as {found.direction} in {found.unit!r}, not {direction} in {unit!r}")
    return found


def quantities() -> Mapping[str, Quantity]:
    """All known quantities by name, in table order."""
    return _known


def quantity(name: str) -> Quantity:
    """The quantity of that name.

    Raises:
        UnknownNameError: There is none; the message lists all and the hint names the most similar.
    """
    found = _known.get(name)
    if found is None:
        raise unknown("objective", name, _known)
    return found


def unknown(what: str, name: str, allowed: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not allowed."""
    names = list(allowed)
    folded = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    guess = f"; did you mean {folded[near[0]]!r}?" if near else ";"
    return UnknownNameError(f"there is no {what} {name!r}{guess} allowed: {', '.join(names)}")


PARAMETER_RESOLUTION = 0.02
"""Iso-parameter sampling brings layouts to one total by FFN widths that come in steps: of up to 1.7% of the total in
the 350M space (24 layers of width 1280, multiples of 64). What the rounding leaves is no merit of a layout."""

define("ttft_ms", unit="ms", direction="min", label="TTFT")
define("prefill_tokens_per_s", unit="tokens/s", direction="max", label="prefill")
define("decode_ms", unit="ms", direction="min", label="decode")
define("decode_ms_p95", unit="ms", direction="min", label="decode p95")
define("decode_tokens_per_s", unit="tokens/s", direction="max", label="decode")
define("peak_rss_mib", unit="MiB", direction="min", label="peak RSS")
define("weights_mib", unit="MiB", direction="min", label="weights", per_layout=True)
define("state_mib", unit="MiB", direction="min", label="state")
define("memory_mib", unit="MiB", direction="min", label="weights + state")
define("load_ms", unit="ms", direction="min", label="load")
define(
    "total_params", unit="", direction="min", label="params", kind="count", per_layout=True,
    resolution=PARAMETER_RESOLUTION,
)  # fmt: skip
define("embedding_params", unit="", direction="min", label="embedding params", kind="count", per_layout=True)
define(
    "effective_params", unit="", direction="max", label="effective params", kind="count", per_layout=True,
    resolution=PARAMETER_RESOLUTION,
)  # fmt: skip
define("embedding_share", unit="", direction="min", label="embedding share", kind="share", per_layout=True)
define("effective_params_per_mib", unit="params/MiB", direction="max", label="effective params", kind="count")

"""Counts and shares as people write them: 354M, 1.2B, 65k, 2%."""

from __future__ import annotations

import re
from fractions import Fraction

_COUNT = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?)\s*([kKmMbBgG]?)")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def parse_count(text: str) -> int:
    """A whole number, with k, M or B for thousands, millions and billions (powers of ten).

    Raises:
        ValueError: It is none.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None or len(text) > 40:
        raise ValueError(f"{text!r} is no count; write 354000000, 354M or 1.2B")
    exact = Fraction(match[1].replace("_", "")) * _UNITS[match[2].lower()]
    if exact.denominator != 1:
        raise ValueError(f"{text!r} is no whole number")
    return int(exact)


def parse_share(text: str) -> float:
    """A share such as ``2%``, as a fraction of 1.

    Raises:
        ValueError: It is none.
    """
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no share; write 0.02 or 2%")
    return float(match[1]) / 100


def short_count(number: int) -> str:
    """Four significant digits with k, M or B: 354.5M."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return str(number)

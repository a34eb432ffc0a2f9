"""What messages about mistakes have in common: a guess at what was meant, and values short enough for one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST_VALUE = 60


def guess(word: object, allowed: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The ending ``; did you mean 'width'?``, or nothing when no allowed word is near; upper and lower case are one.

    Args:
        word: What was found.
        allowed: What may stand there.
        cutoff: Similarity from which a word is near, 0 to 1 (`difflib.SequenceMatcher.ratio`).
    """
    folded = {name.casefold(): name for name in allowed}
    near = difflib.get_close_matches(str(word).casefold(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """The ending ``; did you mean 'width'? allowed: depth, width``, with the guess left out when nothing is near."""
    names = list(allowed)
    return f"{guess(word, names) or ';'} allowed: {', '.join(names)}"


def shown(value: object) -> str:
    """A value as a message shows it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."

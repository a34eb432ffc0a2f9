"""The pattern grammar: which sequences of mixers a space allows, one letter per layer.

    alternatives = sequence { "|" sequence }
    sequence     = item { item }
    item         = atom [ "x" number | "*" ]
    atom         = letter | "[" letter { letter } "]" | "." | "free" | "(" alternatives ")"

- A letter is a layer with that mixer. Blanks mean nothing.
- A sequence is a *motif*: it is repeated until the depth is reached, and cut off there. ``CCG`` at depth 7 is
  ``CCGCCGC``.
- ``(...)*`` marks the part that repeats; what stands before and after it is said once. ``CC(CWG)*G`` at depth 9 is
  ``CC CWGCWG G``. The repeated part is cut, never the ends; a depth below that of both ends has no such layout.
  At most one part of a sequence repeats.
- ``x3`` says an item three times: ``(CCG)x2 Cx3`` is ``CCGCCGCCC``.
- ``|`` separates alternatives: ``CCG | CCCG``. Inside parentheses too: ``(C|W)CG`` is ``CCG | WCG``. One alternative
  is chosen for the whole layout.
- ``[CW]`` is a layer whose mixer is chosen among these, and ``.`` among all mixers of the space: anew for every layer.
- ``free`` is another word for ``.``; alone it says that every layer may have any mixer of the space.

A space may list several patterns; a list means the same as ``|``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from search_space.wording import did_you_mean

MAX_ALTERNATIVES = 1000
MAX_LENGTH = 512
_TOKEN = re.compile(r"\s*(?:(x\s*\d+)|([A-Z])|([\[\]().|*]|free))\s*")


@dataclass(frozen=True, slots=True)
class _Star:
    slots: tuple[str, ...]


_Flat = tuple["str | _Star", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One alternative of a grammar, spread out.

    A *slot* is the text of the letters that a layer may have, sorted: ``G``, or ``CW`` for ``[CW]``.

    Attributes:
        prefix: Slots said once, before the motif.
        motif: Slots repeated and cut to fill the depth; never empty.
        suffix: Slots said once, after it.
        text: Canonical spelling, the option of the knob `pattern`.
    """

    prefix: tuple[str, ...]
    motif: tuple[str, ...]
    suffix: tuple[str, ...]
    text: str

    def slots(self, depth: int) -> tuple[str, ...] | None:
        """The slots of all layers, or None when the ends alone are deeper."""
        middle = depth - len(self.prefix) - len(self.suffix)
        if middle < 0:
            return None
        return (*self.prefix, *itertools.islice(itertools.cycle(self.motif), middle), *self.suffix)


def parse_patterns(text: str, letters: Collection[str]) -> tuple[Pattern, ...]:
    """Read a grammar for a space with these mixer letters; equal alternatives are kept once.

    Raises:
        ValueError: With the place of the mistake.
    """
    everything = "".join(sorted(letters))
    found: dict[str, Pattern] = {}
    for flat in _Parser(text, everything).alternatives_to_the_end():
        pattern = _pattern(flat, text, everything)
        found.setdefault(pattern.text, pattern)
    return tuple(found.values())


def parse_code(text: str, letters: Collection[str]) -> str:
    """Spread out a layout code such as ``(CCG)x4``: one letter per layer.

    Raises:
        ValueError: It is no code of one layout.
    """
    (flat, *more) = _Parser(text, "".join(sorted(letters))).alternatives_to_the_end()
    if more or any(isinstance(slot, _Star) or len(slot) != 1 for slot in flat):
        raise ValueError(f"{text!r} says more than one layout; a code has letters, parentheses and repeats such as x4")
    return "".join(slot for slot in flat if isinstance(slot, str))


def _pattern(flat: _Flat, text: str, everything: str) -> Pattern:
    stars = [index for index, slot in enumerate(flat) if isinstance(slot, _Star)]
    if len(stars) > 1:
        raise ValueError(f"{text!r}: two parts of one sequence repeat to the depth; only one can")
    if not stars:
        motif: tuple[str, ...] = tuple(slot for slot in flat if isinstance(slot, str))
        return Pattern(prefix=(), motif=motif, suffix=(), text=_spell(motif, everything))
    star = flat[stars[0]]
    assert isinstance(star, _Star)
    prefix = tuple(slot for slot in flat[: stars[0]] if isinstance(slot, str))
    suffix = tuple(slot for slot in flat[stars[0] + 1 :] if isinstance(slot, str))
    middle = _spell(star.slots, everything)
    spelled = f"{_spell(prefix, everything)}({middle})*{_spell(suffix, everything)}" if prefix or suffix else middle
    return Pattern(prefix=prefix, motif=star.slots, suffix=suffix, text=spelled)


def _spell(slots: Sequence[str], everything: str) -> str:
    if list(slots) == [everything]:
        return "free"
    return "".join(slot if len(slot) == 1 else "." if slot == everything else f"[{slot}]" for slot in slots)


class _Parser:
    """Recursive descent; every rule returns the flat sequences that it can stand for."""

    def __init__(self, text: str, letters: str) -> None:
        self.text = text
        self.letters = letters
        self.tokens: list[tuple[str, int]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self.fail(position, self.unknown(text[position:].strip()[:1] or "end"))
            token = match[1] or match[2] or match[3]
            self.tokens.append((token, match.start(match.lastindex or 0)))
            position = match.end()
        self.index = 0

    def fail(self, position: int, message: str) -> NoReturn:
        raise ValueError(f"{self.text!r}, character {position + 1}: {message}")

    def unknown(self, character: str) -> str:
        return f"{character!r} is no mixer letter here{did_you_mean(character, self.letters)}"

    @property
    def symbol(self) -> str:
        return self.tokens[self.index][0] if self.index < len(self.tokens) else ""

    def here(self) -> int:
        return self.tokens[self.index][1] if self.index < len(self.tokens) else len(self.text)

    def alternatives_to_the_end(self) -> list[_Flat]:
        found = self.alternatives(0)
        if self.symbol:
            self.fail(self.here(), f"{self.symbol!r} closes nothing")
        return found

    def alternatives(self, nesting: int) -> list[_Flat]:
        if nesting > 20:
            self.fail(self.here(), "nested too deeply")
        found = self.sequence(nesting)
        while self.symbol == "|":
            self.index += 1
            found += self.sequence(nesting)
        return self.bounded(found)

    def sequence(self, nesting: int) -> list[_Flat]:
        found: list[_Flat] = [()]
        start = self.here()
        while self.symbol and self.symbol not in "|)":
            item = self.item(nesting)
            if len(found) * len(item) > MAX_ALTERNATIVES:
                self.fail(start, f"more than {MAX_ALTERNATIVES} alternatives")
            found = [head + tail for head in found for tail in item]
        if found == [()]:
            self.fail(start, "a sequence is empty")
        return self.bounded(found)

    def bounded(self, found: list[_Flat]) -> list[_Flat]:
        if len(found) > MAX_ALTERNATIVES:
            self.fail(0, f"more than {MAX_ALTERNATIVES} alternatives")
        if any(len(flat) > MAX_LENGTH for flat in found):
            self.fail(0, f"longer than {MAX_LENGTH} layers")
        return found

    def item(self, nesting: int) -> list[_Flat]:
        start = self.here()
        found = self.atom(nesting)
        if self.symbol.startswith("x"):
            number = int(self.symbol[1:])
            self.index += 1
            starred = any(isinstance(slot, _Star) for flat in found for slot in flat)
            if not 1 <= number <= MAX_LENGTH or any(len(flat) * number > MAX_LENGTH for flat in found):
                self.fail(start, f"x{number}: repeats must be 1 or more and give at most {MAX_LENGTH} layers")
            if starred:
                self.fail(start, "what repeats to the depth cannot be repeated by number")
            found = [flat * number for flat in found]
        elif self.symbol == "*":
            self.index += 1
            starred_flats: list[_Flat] = []
            for flat in found:
                slots = tuple(slot for slot in flat if isinstance(slot, str))
                if len(slots) < len(flat):
                    self.fail(start, "a repeated part holds another one")
                starred_flats.append((_Star(slots),))
            found = starred_flats
        if self.symbol == "*" or self.symbol.startswith("x"):
            self.fail(self.here(), f"{self.symbol!r} follows another repeat; use parentheses")
        return found

    def atom(self, nesting: int) -> list[_Flat]:
        start, symbol = self.here(), self.symbol
        self.index += 1
        if symbol == "(":
            found = self.alternatives(nesting + 1)
            self.expect(")", start)
            return found
        if symbol in (".", "free"):
            return [(self.letters,)]
        if symbol == "[":
            chosen: set[str] = set()
            while self.symbol.isalpha() and self.symbol.isupper():
                chosen.add(self.letter())
            self.expect("]", start)
            if not chosen:
                self.fail(start, "[] holds no letter")
            return [("".join(sorted(chosen)),)]
        if symbol.isalpha() and symbol.isupper():
            self.index -= 1
            return [(self.letter(),)]
        why = "has nothing before it to repeat" if symbol[:1] in "x*" else "opens nothing"
        return self.fail(start, f"{symbol!r} {why}")

    def letter(self) -> str:
        symbol = self.symbol
        if symbol not in self.letters:
            self.fail(self.here(), self.unknown(symbol))
        self.index += 1
        return symbol

    def expect(self, symbol: str, start: int) -> None:
        if self.symbol != symbol:
            self.fail(start, f"{self.text[start]!r} is not closed")
        self.index += 1

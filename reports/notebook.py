"""What a notebook shows: figures, words and tables as values that Jupyter displays when a cell ends with them.

A figure goes into the notebook twice: as plotly's own data, which JupyterLab and editors draw to be hovered and zoomed,
and as a still picture for sites that only show what lies there. No script is put into the notebook, and nothing is
fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from reports.figures.static import svg
from reports.formatting import markdown_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PLOTLY = "application/vnd.plotly.v1+json"
_UNSEEN = "a figure: install plotly beside JupyterLab, or trust this notebook, to see it"


@dataclass(frozen=True, slots=True)
class Shown:
    """Something with the forms in which Jupyter may show it."""

    forms: Mapping[str, Any]

    def _repr_mimebundle_(self, **_asked: Any) -> dict[str, Any]:
        return dict(self.forms)


def show(figure: Figure) -> Shown:
    """A figure that can be hovered where the viewer allows it, and a still picture elsewhere.

    Raises:
        ValueError: No still picture can be drawn of it (`reports.figures.svg`).
    """
    import json

    data = json.loads(figure.to_json())
    return Shown({PLOTLY: {"data": data["data"], "layout": data["layout"]}, "image/svg+xml": svg(figure),
                  "text/plain": _UNSEEN})  # fmt: skip


def say(text: str) -> Shown:
    """Words in Markdown, for sentences whose numbers are computed."""
    words = dedent(text).strip()
    return Shown({"text/markdown": words, "text/plain": words})


def table(rows: Sequence[Mapping[str, Any]]) -> Shown:
    """Rows as a Markdown table; columns are the keys of the first row, values are shown as they are written."""
    heads = list(rows[0]) if rows else []
    lines = [
        [markdown_text(head) for head in heads],
        ["---:" if heads and _right(rows, head) else "---" for head in heads],
    ]
    lines += [[markdown_text(str(row[head])) for head in heads] for row in rows]
    return say("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def _right(rows: Sequence[Mapping[str, Any]], head: str) -> bool:
    """Whether a column holds numbers: cells that begin with a digit, a sign or a dash."""
    return all(str(row[head])[:1] in "0123456789+-−—±" for row in rows)

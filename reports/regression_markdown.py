"""A night as Markdown: for a summary of a CI job, a pull request or a mail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reports.formatting import markdown_text
from reports.front_sections import fronts_markdown
from reports.front_verdicts import FrontVerdict
from reports.histories import History
from reports.lost_devices import LostDevices
from reports.regression_words import NOTES, facts, page_title, point_words
from reports.verdict import Verdict
from reports.verdict_rows import KINDS, LEVELS, worst_first
from reports.verdict_summary import by_device, title_of
from reports.verdict_text import NUMBER_COLUMNS, VERDICT_COLUMNS, verdict_cells


def regression_markdown(
    verdicts: Sequence[Verdict],
    histories: Sequence[History],
    fronts: Sequence[FrontVerdict] = (),
    lost: LostDevices | None = None,
) -> str:
    """The whole text, which ends with a newline."""
    return "\n".join(_lines(verdicts, histories, fronts, lost)) + "\n"


def _lines(
    verdicts: Sequence[Verdict], histories: Sequence[History], fronts: Sequence[FrontVerdict], lost: LostDevices | None
) -> Iterator[str]:
    yield f"# {markdown_text(page_title(verdicts, lost))}"
    yield ""
    yield from (f"- {name}: {markdown_text(text)}" for name, text in facts(verdicts, lost).items())
    yield from ("", "## Devices", "")
    heads = ["device", "worst", *map(str, LEVELS), *map(str, KINDS)]
    rows = ([one.device, one.level, *one.levels.values(), *one.kinds.values()] for one in by_device(verdicts))
    yield from _table(heads, rows, right=range(2, len(heads)))
    yield from ("", "## Verdicts", "")
    cells = (list(verdict_cells(verdict).values()) for verdict in worst_first(verdicts))
    right = [at for at, name in enumerate(VERDICT_COLUMNS) if name in NUMBER_COLUMNS]
    yield from _table(VERDICT_COLUMNS, cells, right=right)
    yield from fronts_markdown(fronts)
    keys = {verdict.series.key for verdict in verdicts}
    changed = [one for one in histories if one.points and one.series.key in keys]
    if changed:
        yield from ("", "## Change points", "")
        for one in changed:
            name = f"{one.series.device}: {title_of(one.latest)}"
            yield f"- {markdown_text(name)}: {markdown_text(point_words(one.points))}"
    yield from ("", "## How to read the numbers", "")
    yield from (f"- {markdown_text(note)}" for note in NOTES)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int]) -> Iterator[str]:
    aligned = set(right)
    rule = ["---:" if at in aligned else "---" for at in range(len(heads))]
    for line in (heads, rule, *([markdown_text(str(cell)) for cell in row] for row in rows)):
        yield f"| {' | '.join(map(str, line))} |"

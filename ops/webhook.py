"""Post a night's summary to a chat: `archsearch regress run --notify "python ops/webhook.py"`.

Reads the summary (JSON) from standard input and posts ``{"text": ...}``, which Slack, Mattermost and their kind read,
to the address in the environment variable WEBHOOK_URL. It is a secret and is never printed. A fine night is silent.
"""

from __future__ import annotations

import html
import http.client
import json
import os
import sys
import urllib.request
from typing import Any
from urllib.parse import urlsplit

_NAMED = 5
_HERE = ("127.0.0.1", "::1", "localhost")
_TIMEOUT_S = 30


def text_of(summary: dict[str, Any]) -> str:
    """A few lines for people, escaped: chats obey ``<!channel>`` and ``<address|words>``."""
    lines = [f"archsearch, the night of {summary['night']}: {summary['text']}"]
    for row in summary["not_fine"][:_NAMED]:
        change = "" if row["change"] is None else f" {row['change']:+.1%}"
        since = "" if row["since"] is None else f" since {row['since']}"
        lines.append(f"{row['level']} {row['device']}: {row['label']} {row['quantity']} {row['kind']}{change}{since}")
    if len(summary["not_fine"]) > _NAMED:
        lines.append(f"and {len(summary['not_fine']) - _NAMED} more")
    for row in summary.get("lost", ())[:_NAMED]:
        lines.append(f"WARN {row['device']}: no verdict: {row['reason']}")
    for row in _other_fronts(summary)[:_NAMED]:
        lines.append(f"front of {row['study']} on {row['device']} {row['kind']}: {row['why']}")
    return html.escape("\n".join(lines), quote=False)


def _other_fronts(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Fronts of studies that moved, then those that differ; a summary of an older version tells of none."""
    fronts = summary.get("fronts", ())
    return [row for kind in ("MOVED", "DIFFERS") for row in fronts if row["kind"] == kind]


def _allowed(address: str) -> bool:
    """Whether nobody on the way can read what is sent there.

    Raises:
        ValueError: It is no address.
    """
    parts = urlsplit(address)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _HERE))


def main() -> int:
    """Post; the exit code."""
    summary = json.load(sys.stdin)
    if summary["level"] == "fine" and not any(row["kind"] == "MOVED" for row in _other_fronts(summary)):
        return 0
    address = os.environ.get("WEBHOOK_URL", "")
    try:
        if not _allowed(address):
            print("webhook.py: set WEBHOOK_URL in the environment to an https:// address", file=sys.stderr)
            return 2
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            address, json.dumps({"text": text_of(summary)}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
            return 0
    except (OSError, ValueError, http.client.HTTPException) as error:  # its text could hold the address
        print(f"webhook.py: the summary was not posted: {type(error).__name__}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

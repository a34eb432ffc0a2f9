"""What `archsearch show` says to people about violated budgets."""

from __future__ import annotations

import pytest

from archsearch.cli.show import excess_text
from reports.budgets import parse_budget


@pytest.mark.parametrize(
    ("budget", "value", "said"),
    [
        ("ttft_ms<=100", 107, "7.0% above"),
        ("ttft_ms<=100", 199, "99.0% above"),
        ("ttft_ms<=100", 200, "2.0x the limit"),
        ("ttft_ms<=100", 858, "8.6x the limit"),
        ("ttft_ms<=100", 1.234567e6, "12,345.7x the limit"),
        ("ttft_ms<100", 100, "at the limit"),
        ("ttft_ms<=100", 100.01, "under 0.1% above"),
        ("decode_tokens_per_s>=100", 65, "35.0% below"),
        ("decode_tokens_per_s>=100", 0, "100.0% below"),
        ("embedding_share<=0", 0.25, "0.25 above it"),
    ],
)
def test_an_excess_is_readable(budget: str, value: float, said: str):
    limit = parse_budget(budget)
    assert excess_text(limit, limit.excess(value)) == said

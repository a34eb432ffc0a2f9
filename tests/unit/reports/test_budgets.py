"""Budgets: what can be written, what it means, what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.budgets import Budget, parse_budget, parse_budgets
from reports.errors import BudgetError, UnknownNameError
from reports.objectives import define, quantities


@pytest.mark.parametrize(
    ("text", "objective", "operator", "limit"),
    [
        ("peak_rss_mib<=1024", "peak_rss_mib", "<=", 1024),
        (" peak_rss_mib <= 1 GiB ", "peak_rss_mib", "<=", 1024),
        ("peak_rss_mib<=1.5GB", "peak_rss_mib", "<=", 1.5e9 / 2**20),
        ("ttft_ms<0.5s", "ttft_ms", "<", 500),
        ("ttft_ms≤300ms", "ttft_ms", "<=", 300),
        ("decode_tokens_per_s>=30 tok/s", "decode_tokens_per_s", ">=", 30),
        ("total_params<=350M", "total_params", "<=", 350e6),
        ("total_params<=0.35B", "total_params", "<=", 350e6),
        ("total_params<=350_000_000", "total_params", "<=", 350e6),
        ("embedding_share<=20%", "embedding_share", "<=", 0.2),
        ("decode_ms<=1e1", "decode_ms", "<=", 10),
    ],
)
def test_what_can_be_written(text, objective, operator, limit):
    budget = parse_budget(text)
    assert (budget.objective, budget.operator) == (objective, operator)
    assert budget.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    "text",
    ["", "peak_rss_mib", "peak_rss_mib=1024", "peak_rss_mib==1", "<=3", "ttft_ms<=", "ttft_ms<=fast", "ttft_ms<=1,024",
     "ttft_ms<=-1", "ttft_ms<=1e999", "ttft_ms<=5 MiB", "peak_rss_mib<=5 ms", "total_params<=3 ms", "ttft_ms<=1<=2"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(BudgetError, match="budget"):
        parse_budget(text)


def test_an_unknown_name_lists_the_known_ones_and_the_most_similar():
    with pytest.raises(UnknownNameError) as caught:
        parse_budget("peak_rss<=1024")
    assert all(name in str(caught.value) for name in quantities())
    assert "; did you mean 'peak_rss_mib'? allowed: " in str(caught.value)


def test_contradicting_budgets_are_refused():
    with pytest.raises(BudgetError, match="contradict"):
        parse_budgets(["ttft_ms<=100", "ttft_ms>=200"])
    assert len(parse_budgets(["ttft_ms>=100", "ttft_ms<=200"])) == 2


operators = st.sampled_from(["<=", "<", ">=", ">"])
sizes = st.floats(0, 1e9)


@given(st.sampled_from(sorted(quantities())), operators, sizes)
def test_a_budget_reads_back_from_its_text(name, operator, limit):
    limit = limit / 1e9 if quantities()[name].kind == "share" else limit
    budget = Budget(objective=name, operator=operator, limit=limit)
    assert parse_budget(str(budget)) == budget


def test_a_share_above_one_is_a_percentage_without_its_sign():
    with pytest.raises(BudgetError, match="above 100%") as caught:
        parse_budget("embedding_share<=20")
    assert "20%" in str(caught.value.hint)


@given(operators, sizes, sizes)
def test_excess_is_positive_exactly_when_the_budget_is_missed(operator, limit, value):
    budget = Budget(objective="ttft_ms", operator=operator, limit=limit)
    met = {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[operator]
    assert (budget.excess(value) <= 0) == met


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "12", True])
def test_a_row_without_a_number_has_no_violation(value):
    assert parse_budget("ttft_ms<=1").violation({"ttft_ms": value}) is None


def test_a_new_quantity_works_as_a_budget_and_a_contradicting_one_is_a_bug():
    define("energy_mj", unit="mJ", direction="min")
    assert parse_budget("energy_mj<=3").limit == 3
    with pytest.raises(ValueError, match="known as min"):
        define("energy_mj", unit="mJ", direction="max")

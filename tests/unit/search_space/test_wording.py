"""Messages about mistakes guess what was meant, in one form of words everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import yaml_errors
from reports.objectives import unknown
from search_space.wording import did_you_mean, guess, shown

WORDS = st.text("abcdeXY_", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("word", "allowed", "said"),
    [
        ("widht", ["depth", "width"], "; did you mean 'width'? allowed: depth, width"),
        ("WIDTH", ["depth", "width"], "; did you mean 'width'? allowed: depth, width"),
        ("cpuprovider", ["AzureProvider", "CPUProvider"], "; did you mean 'CPUProvider'? allowed: AzureProvider, CPU"),
        ("zzz", ["depth", "width"], "; allowed: depth, width"),
        (3, ["depth"], "; allowed: depth"),
    ],
)
def test_the_nearest_word_is_guessed_whatever_its_case(word, allowed, said):
    assert did_you_mean(word, allowed).startswith(said)


def test_without_a_near_word_there_is_no_guess():
    assert guess("zzz", ["width"]) == ""
    assert guess("lfm2", ["lfm2.5-350m"]) == ""
    assert guess("lfm2", ["lfm2.5-350m"], cutoff=0.5) == "; did you mean 'lfm2.5-350m'?"


@given(word=WORDS, allowed=st.lists(WORDS, min_size=1, max_size=6, unique=True))
def test_device_files_space_files_and_rankings_say_it_in_the_same_words(word, allowed):
    assert did_you_mean(word, allowed) == yaml_errors.did_you_mean(word, allowed)
    assert str(unknown("knob", word, allowed)) == f"there is no knob {word!r}{did_you_mean(word, allowed)}"


@given(st.text() | st.lists(st.integers()))
def test_a_shown_value_fits_a_line(value):
    text = shown(value)
    assert len(text) <= 60
    assert text == repr(value) or (text.endswith("...") and repr(value).startswith(text[:-3]))

"""What the nightly gate says, night by night."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.nights import Acceptance, Night, Run
from reports.values import Value
from reports.verdict_rows import verdict_row
from reports.verdicts import Kind, Level, judge, replay
from tests.unit.reports.nightly import DAY, QUIET, close, night, nights, run, series, tonight


def said(verdict):
    return verdict.kind, verdict.level


def each_night(*given, **options):
    return [said(verdict) for _, (verdict,) in replay([series(*given, **options)])]


class TestASeries:
    def test_a_quiet_night_is_the_same_and_says_what_would_be_seen(self):
        verdict = tonight(10.1)
        assert said(verdict) == (Kind.SAME, Level.FINE)
        assert verdict.baseline == pytest.approx(10.0)
        assert verdict.good_nights == 14
        assert verdict.effect.low < 0.0 < verdict.effect.value < verdict.effect.high
        assert verdict.effect.value == pytest.approx(0.01)
        assert verdict.threshold == pytest.approx(0.04)
        assert 0.04 < verdict.detectable < 0.08
        assert verdict.why.startswith("+1.0%, within -3.8% and +4.0% of 10.00, the median of 14 good nights")
        assert verdict.since is None

    def test_what_a_minimum_effect_lets_pass_is_no_noise(self):
        verdict = tonight(11.0, minimum_effect=0.5)
        assert said(verdict) == (Kind.SAME, Level.FINE)
        assert 0.5 < verdict.detectable < 1.0
        scattered = series(*nights([10.0, 16.0] * 10), minimum_effect=0.26)
        assert judge([scattered])[0].kind is Kind.AMBIGUOUS

    def test_a_step_warns_and_fails_on_the_second_night(self):
        first, second = tonight(11.0), tonight(11.0, 11.05)
        assert said(first) == (Kind.SLOWER, Level.WARN)
        assert said(second) == (Kind.SLOWER, Level.FAIL)
        assert first.since == second.since == 20 * DAY
        assert (first.nights_in_row, second.nights_in_row) == (1, 2)
        assert (first.established, second.established) == (False, True)
        assert second.effect.value == pytest.approx(0.105)
        assert second.baseline == pytest.approx(10.0)

    def test_an_improvement_is_told_in_the_same_way_and_is_fine(self):
        assert said(tonight(9.0)) == (Kind.FASTER, Level.FINE)
        verdict = tonight(9.0, 9.05, 9.0)
        assert said(verdict) == (Kind.FASTER, Level.FINE)
        assert verdict.established
        assert verdict.effect.value == pytest.approx(-0.1)

    def test_of_tokens_per_second_less_is_worse(self):
        assert said(tonight(9.0, 9.0, direction="max")) == (Kind.SLOWER, Level.FAIL)
        assert said(tonight(11.0, direction="max")) == (Kind.FASTER, Level.FINE)

    def test_what_failed_stays_slower_until_it_goes_back(self):
        verdict = tonight(*[11.0] * 40)
        assert said(verdict) == (Kind.SLOWER, Level.FAIL)
        assert verdict.baseline == pytest.approx(10.0)
        assert verdict.since == 20 * DAY
        back = tonight(*[11.0] * 40, 10.0)
        assert said(back) == (Kind.SAME, Level.FINE)
        assert "it went back" in back.why

    def test_what_is_almost_back_is_not_back_for_one_night(self):
        assert said(tonight(11.0, 11.0, 10.35)) == (Kind.SLOWER, Level.FAIL)
        assert said(tonight(11.0, 11.0, 10.35, 10.35)) == (Kind.SAME, Level.FINE)
        assert said(tonight(11.0, 11.0, 10.35, 11.0, 10.35)) == (Kind.SLOWER, Level.FAIL)

    def test_a_level_that_somebody_accepted_is_the_new_one(self):
        accepted = Acceptance(time=20 * DAY, reason="safer kernels", by="ann")
        verdict = tonight(*[11.0] * 6, acceptances=(accepted,))
        assert said(verdict) == (Kind.SAME, Level.FINE)
        assert verdict.baseline == pytest.approx(11.0)
        assert verdict.accepted == accepted
        assert said(tonight(*[11.0] * 6, 10.0, 10.0, acceptances=(accepted,))) == (Kind.FASTER, Level.FINE)
        early = tonight(11.0, 11.0, acceptances=(accepted,))
        assert said(early) == (Kind.AMBIGUOUS, Level.FINE)
        assert "3 more good nights (this one included) are needed since ann accepted a new level" in early.why

    def test_the_word_that_was_given_last_counts(self):
        step = [*QUIET, 12.0, 12.0, 12.0]
        pin = Acceptance(time=17 * DAY, reason="pinned", by="a", pinned=12.0)
        back = Acceptance(time=15 * DAY, reason="no, the old level", by="b", pinned=10.0)
        assert said(judge([series(*nights(step), acceptances=(pin,))])[0])[0] is Kind.SAME
        found = judge([series(*nights(step), acceptances=(pin, back))])[0]
        assert said(found)[0] is Kind.SLOWER
        assert found.accepted == back

    def test_a_pinned_baseline_does_not_follow(self):
        creeping = [10.0 * 1.004**index for index in range(40)]
        assert said(tonight(*creeping)) == (Kind.SAME, Level.FINE)
        pinned = Acceptance(time=0.0, reason="release 1", by="ann", pinned=10.0)
        verdict = tonight(*creeping, acceptances=(pinned,))
        assert said(verdict) == (Kind.SLOWER, Level.FAIL)
        assert verdict.baseline == pytest.approx(10.0)
        assert "the pinned 10.00" in verdict.why

    def test_a_baseline_is_accepted_for_a_reason(self):
        with pytest.raises(ValueError, match="with a reason"):
            Acceptance(time=0.0, reason=" ", by="ann")
        with pytest.raises(ValueError, match="above zero"):
            Acceptance(time=0.0, reason="x", by="ann", pinned=math.nan)

    def test_a_new_series_is_learned_for_fourteen_nights(self):
        found = each_night(*nights(QUIET))
        assert found == [(Kind.AMBIGUOUS, Level.FINE)] * 14 + [(Kind.SAME, Level.FINE)] * 6

    def test_the_second_night_is_a_fail_however_large_the_change_is(self):
        assert said(tonight(11.0, 13.0)) == (Kind.SLOWER, Level.FAIL)

    def test_neither_outliers_nor_a_second_mode_make_the_limits_wider_than_they_must_be(self):
        spread = {"quiet": tonight(10.0).threshold}
        outliers, modes = [10.0, 10.1, 9.9, 10.05, 9.95, 10.0, 10.1, 9.9, 10.05, 13.0] * 5, [10.0, 10.5, 10.0] * 15
        for name, values in (("outliers", outliers), ("modes", modes)):
            spread[name] = judge([series(*nights(values))])[0].threshold
        assert spread["outliers"] < 2 * spread["quiet"] < 0.13
        assert 0.05 < spread["modes"] < 1.5 * 0.05

    def test_a_series_that_is_too_noisy_is_never_called_the_same(self):
        rng = random.Random(0)
        verdict = judge([series(*nights([10 * math.exp(rng.gauss(0, 0.15)) for _ in range(40)] + [10.0]))])[0]
        assert said(verdict) == (Kind.AMBIGUOUS, Level.FINE)
        assert "would be seen" in verdict.why
        assert verdict.detectable > 0.25

    def test_noise_that_comes_back_widens_the_threshold(self):
        quiet = tonight(10.0).threshold
        modes = [10.0, 10.6, 10.0, 10.0, 10.6, 10.0, 10.0] * 5
        assert judge([series(*nights(modes))])[0].threshold > 0.06 > quiet
        assert all(kind is not Kind.SLOWER for kind, _ in each_night(*nights(modes)))


class TestFreshRuns:
    def test_an_alarm_wants_two_one_after_the_other(self):
        verdict = judge([series(*nights(QUIET), night(20, 11.0))])[0]
        assert said(verdict) == (Kind.AMBIGUOUS, Level.WARN)
        assert verdict.wants_confirmation
        assert verdict.alarm
        assert verdict.why.endswith("; a fresh run is wanted")
        half = judge([series(*nights(QUIET), night(20, 11.0, [11.0]))])[0]
        assert said(half) == (Kind.AMBIGUOUS, Level.WARN)
        assert half.wants_confirmation
        assert half.why.endswith("; another fresh run is wanted")
        assert not judge([series(*nights(QUIET), night(20, 10.1))])[0].wants_confirmation

    @pytest.mark.parametrize(
        ("fresh", "says"), [([10.1], "a fresh run says +1.0%"), ([11.0, 10.1], "fresh runs say +10.0%, +1.0%")]
    )
    def test_each_of_them_can_deny_it(self, fresh: list[float], says: str):
        denied = judge([series(*nights(QUIET), night(20, 11.0, fresh))])[0]
        assert said(denied) == (Kind.AMBIGUOUS, Level.FINE)
        assert not denied.wants_confirmation
        assert f"{says}: not confirmed" in denied.why

    def test_together_they_confirm_it(self):
        confirmed = judge([series(*nights(QUIET), night(20, 11.0, [10.8, 10.9]))])[0]
        assert said(confirmed) == (Kind.SLOWER, Level.WARN)
        assert confirmed.why.startswith("+10.0% against")
        assert "; fresh runs say +8.0%, +9.0% (+9.0% together); the first night" in confirmed.why
        assert confirmed.effect.value == pytest.approx((1.1 * 1.08 * 1.09) ** (1 / 3) - 1)

    def test_a_night_that_asked_for_one_is_decided_by_one(self):
        asked = [replace(one, fresh_runs=1) for one in (night(20, 11.0, [11.0]), night(21, 11.0, [11.0]))]
        assert each_night(*nights(QUIET), *asked)[-2:] == [(Kind.SLOWER, Level.WARN), (Kind.SLOWER, Level.FAIL)]

    def test_of_more_runs_the_first_decide(self):
        more = night(20, 11.0, [11.0, 11.0, 9.0])
        found = each_night(*nights(QUIET), more, night(21, 11.0, 11.0))
        assert found[-2:] == [(Kind.SLOWER, Level.WARN), (Kind.SLOWER, Level.FAIL)]

    def test_what_was_taken_beside_another_s_alarm_is_told_apart(self):
        quiet = judge([series(*nights(QUIET), night(20, 10.1, [10.9, 10.9]))])[0]
        assert said(quiet) == (Kind.SAME, Level.FINE)
        assert quiet.why.startswith("+1.0%, within -")
        assert "; fresh runs say +9.0%, +9.0% (+6.3% together); a change of" in quiet.why

    @pytest.mark.parametrize("before", [(), (run(11.0),)])
    def test_one_that_failed_leaves_it_open_and_is_not_asked_for_again(self, before: tuple[Run, ...]):
        failed = run(None, status="timeout", reason="600 s")
        verdict = judge(
            [series(*nights(QUIET), Night(time=20 * DAY, first=run(11.0), confirmations=(*before, failed)))]
        )[0]
        assert said(verdict) == (Kind.AMBIGUOUS, Level.WARN)
        assert not verdict.wants_confirmation
        assert "no number (600 s)" in verdict.why

    def test_an_alarm_that_came_to_nothing_widens_no_limits(self):
        disturbed = [night(20 + index, 13.0, [10.0]) for index in range(5)]
        after = judge([series(*nights(QUIET), *disturbed, night(25, 10.0))])[0]
        assert after.threshold == pytest.approx(tonight(10.0).threshold, rel=0.2)

    def test_an_established_change_needs_none(self):
        verdict = judge([series(*nights([*QUIET, 11.0, 11.0]), night(22, 11.0))])[0]
        assert said(verdict) == (Kind.SLOWER, Level.FAIL)
        assert not verdict.wants_confirmation

    def test_a_spike_between_two_nights_is_no_change(self):
        spikes = (*nights([*QUIET, 12.0, 10.0]), night(22, 12.0, [10.0]), *nights([10.0, 12.0], 23))
        assert each_night(*spikes)[-5:] == [
            (Kind.SLOWER, Level.WARN), (Kind.SAME, Level.FINE), (Kind.AMBIGUOUS, Level.FINE), (Kind.SAME, Level.FINE),
            (Kind.SLOWER, Level.WARN),
        ]  # fmt: skip


class TestNightsThatSayNothing:
    def test_nothing_measured_warns(self):
        assert said(tonight(None)) == (Kind.NO_DATA, Level.WARN)
        assert said(judge([series(*nights(QUIET))], at=30 * DAY)[0]) == (Kind.NO_DATA, Level.WARN)
        assert said(judge([series()])[0]) == (Kind.NO_DATA, Level.WARN)
        assert judge([]) == ()

    @pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
    def test_a_number_that_no_measurement_can_have_is_invalid(self, value):
        odd = Night(time=20 * DAY, first=Run(value=Value(value=value, low=value, high=value)))
        verdict = judge([series(*nights(QUIET), odd)])[0]
        assert said(verdict) == (Kind.INVALID, Level.FAIL)
        after = judge([series(*nights(QUIET), odd, night(21, 10.0))])[0]
        assert (after.kind, after.baseline) == (Kind.SAME, pytest.approx(10.0))

    def test_wrong_output_fails_whatever_its_speed(self):
        wrong = night(20, 10.0, status="invalid", reason="logits differ by 40%")
        verdict = judge([series(*nights(QUIET), wrong)])[0]
        assert said(verdict) == (Kind.INVALID, Level.FAIL)
        assert verdict.why == "wrong output (logits differ by 40%)"

    def test_what_no_longer_fits_fails_on_the_second_night(self):
        gone = [night(20 + index, None, status="out_of_memory", reason="peak 900 MiB") for index in range(2)]
        assert each_night(*nights(QUIET), *gone)[-2:] == [(Kind.NO_DATA, Level.WARN), (Kind.NO_DATA, Level.FAIL)]
        assert judge([series(*nights(QUIET), *gone)])[0].since == 20 * DAY
        assert each_night(*gone)[-1] == (Kind.NO_DATA, Level.WARN)  # it never ran

    def test_they_neither_count_nor_end_an_alarm(self):
        verdict = tonight(11.0, None, 11.0)
        assert said(verdict) == (Kind.SLOWER, Level.FAIL)
        assert verdict.since == 20 * DAY

    def test_of_a_series_that_failed_they_are_failures(self):
        verdict = tonight(11.0, 11.0, None)
        assert said(verdict) == (Kind.NO_DATA, Level.FAIL)
        assert "what failed before stands" in verdict.why
        assert said(tonight(9.0, 9.0, None)) == (Kind.NO_DATA, Level.WARN)

    def test_a_night_with_a_wide_interval_says_nothing(self):
        wide = night(20, 11.0, half=0.2)
        assert said(judge([series(*nights(QUIET), wide)])[0]) == (Kind.AMBIGUOUS, Level.FINE)

    def test_interval_ends_that_are_no_numbers_do_no_harm(self):
        odd = Night(time=20 * DAY, first=Run(value=Value(value=10.0, low=math.nan, high=math.nan)))
        assert said(judge([series(*nights(QUIET), odd)])[0]) == (Kind.SAME, Level.FINE)
        open_ = Night(time=20 * DAY, first=Run(value=Value(value=10.0, low=9.0, high=math.inf)))
        assert said(judge([series(*nights(QUIET), open_)])[0]) == (Kind.AMBIGUOUS, Level.FINE)


class TestTheAnchor:
    def judged(self, model, anchor, **options):
        verdicts = judge([
            series(*nights([*QUIET, *model]), key="model"),
            series(*nights([*QUIET, *anchor]), key="anchor", anchor=True, **options),
        ])  # fmt: skip
        return [said(verdict) for verdict in verdicts]

    def test_what_moves_with_it_is_the_device(self):
        assert self.judged([11.0, 11.0], [11.0, 11.0]) == [(Kind.DEVICE_WIDE, Level.WARN)] * 2

    def test_half_the_threads_are_no_excuse_for_what_moves_with_it(self):
        def known(values, threads):
            return [
                replace(night, environment={"threads": "1" if index >= len(QUIET) else threads, "os": f"v{index}"})
                for index, night in enumerate(nights([*QUIET, *values]))
            ]

        for threads, kind in (("2", Kind.SLOWER), ("1", Kind.DEVICE_WIDE)):
            model = series(*known([11.0, 11.0], threads), key="model")
            anchor = series(*known([11.0, 11.0], threads), key="anchor", anchor=True)
            found = judge([model, anchor])
            assert {verdict.kind for verdict in found} == {kind}
            assert {verdict.level for verdict in found} == {Level.FAIL if kind == Kind.SLOWER else Level.WARN}
            assert ("threads 2 -> 1" in found[0].why) == (kind == Kind.SLOWER)

    def test_a_level_is_not_learned_from_nights_of_two_settings(self):
        learned = nights([10.0] * 13 + [20.0] * 3)
        two = [
            replace(night, environment={"threads": "1" if index > 12 else "2"}) for index, night in enumerate(learned)
        ]
        found = [verdict for _, (verdict,) in replay([series(*two)])]
        assert "other settings (threads 2 -> 1), so the level is learned anew" in found[13].why
        assert "5 more good nights (this one included)" in found[13].why
        assert [verdict.good_nights for verdict in found[12:]] == [13, 1, 2, 3]
        assert {verdict.kind for verdict in found} == {Kind.AMBIGUOUS}
        assert [said(verdict)[1] for verdict in found[12:]] == [Level.FINE, Level.WARN, Level.FINE, Level.FINE]

    def test_with_other_settings_a_pinned_level_stays(self):
        two = [
            replace(one, environment={"threads": "1" if at > 5 else "2"}) for at, one in enumerate(nights([10.0] * 8))
        ]
        pinned = Acceptance(time=0.0, reason="goal", by="ann", pinned=10.0)
        found = [verdict for _, (verdict,) in replay([series(*two, acceptances=(pinned,))])]
        assert "so the scatter is learned anew" in found[6].why

    def test_half_the_threads_after_an_acceptance_are_slower(self):
        values = [*QUIET, 12.0, 12.0, 12.0, *[20.0] * 6]
        given = [
            replace(one, environment={"threads": "1" if one.first.value.value > 15 else "2"}) for one in nights(values)
        ]
        accepted = Acceptance(time=given[len(QUIET)].time, reason="wider", by="ann")
        verdict = judge([series(*given, acceptances=(accepted,))])[0]
        assert said(verdict) == (Kind.SLOWER, Level.FAIL)

    def test_what_moves_by_much_more_is_not(self):
        found = self.judged([13.0, 13.0], [11.0, 11.0])
        assert found == [(Kind.SLOWER, Level.FAIL), (Kind.DEVICE_WIDE, Level.WARN)]

    def test_one_that_moves_the_other_way_excuses_nothing(self):
        assert self.judged([11.0, 11.0], [9.0, 9.0])[0] == (Kind.SLOWER, Level.FAIL)

    def test_one_that_moves_alone_is_judged_as_any_series(self):
        assert self.judged([10.0, 10.0], [11.0, 11.0]) == [(Kind.SAME, Level.FINE), (Kind.SLOWER, Level.FAIL)]

    def test_while_it_says_nothing_nothing_fails(self):
        assert self.judged([11.0, 11.0], [10.0, None])[0] == (Kind.SLOWER, Level.WARN)
        assert self.judged([11.0, 11.0, 11.0], [10.0, None, 10.0])[0] == (Kind.SLOWER, Level.FAIL)
        assert self.judged([11.0, 11.0, 11.0], [10.0, 10.0, None])[0] == (Kind.SLOWER, Level.FAIL)

    @pytest.mark.parametrize("other", [{"device": "phone"}, {"quantity": "ttft_ms"}])
    def test_it_speaks_for_its_device_and_quantity(self, other):
        assert self.judged([11.0, 11.0], [11.0, 11.0], **other)[0] == (Kind.SLOWER, Level.FAIL)

    def test_a_device_that_moved_is_no_new_baseline(self):
        assert self.judged([11.0] * 30, [11.0] * 30) == [(Kind.DEVICE_WIDE, Level.WARN)] * 2

    def test_of_two_the_middle_counts(self):
        model = series(*nights([*QUIET, 12.8]), key="model")
        anchors = [
            series(*nights([*QUIET, value]), key=f"anchor {value}", anchor=True) for value in (10.5, 13.0)
        ]  # fmt: skip
        found = judge([model, *anchors])[0]
        assert "the device's anchor moved by +16.8%" in found.why
        assert found.kind is Kind.SLOWER

    def test_of_several_most_must_move(self):
        model = series(*nights([*QUIET, 11.0]), key="model")
        anchors = [
            series(*nights([*QUIET, value]), key=f"anchor {index}", anchor=True)
            for index, value in enumerate([11.0, 10.0, 11.0])
        ]
        assert judge([model, *anchors])[0].kind is Kind.DEVICE_WIDE
        assert judge([model, *anchors[:2]])[0].kind is Kind.SLOWER


class TestTime:
    def test_nights_are_ordered_by_time(self):
        given = list(nights([*QUIET, 11.0, 11.0]))
        random.Random(1).shuffle(given)
        assert said(judge([series(*given)])[0]) == (Kind.SLOWER, Level.FAIL)

    def test_of_two_nights_of_one_time_the_last_given_counts(self):
        assert judge([series(*nights(QUIET), night(20, 12.0), night(20, 10.0))])[0].kind is Kind.SAME

    def test_a_clock_that_jumped_back_never_raises_an_alarm(self):
        verdict = judge([series(*nights(QUIET, 100), night(1, 20.0))], at=DAY)[0]
        assert said(verdict) == (Kind.AMBIGUOUS, Level.WARN)
        assert "20 nights are dated after this one and left out: did a clock jump?" in verdict.why

    def test_a_night_from_the_future_spoils_nothing(self):
        verdict = judge([series(*nights([*QUIET, 11.0, 11.0]), night(9999, 50.0))], at=21 * DAY)[0]
        assert said(verdict) == (Kind.SLOWER, Level.FAIL)
        assert "one night is dated after this one" in verdict.why

    def test_each_night_is_judged_by_the_smallest_effect_of_then(self):
        made = [replace(one, minimum_effect=0.04) for one in nights([*QUIET, 10.8, 10.8])]
        later = Night(time=len(made) * DAY, first=run(10.8), minimum_effect=0.2)
        verdicts = {time: found[0] for time, found in replay([series(*made, later, minimum_effect=0.2)])}
        assert said(verdicts[made[-1].time]) == (Kind.SLOWER, Level.FAIL)
        assert verdicts[later.time].threshold == pytest.approx(0.2)

    def test_a_night_that_was_not_measured_names_no_changes(self):
        known = [replace(one, environment={"os": "1"}) for one in nights(QUIET)]
        gone = Night(time=len(known) * DAY, first=Run(status="lost", reason="no answer"))
        assert "unknown" not in judge([series(*known, gone)])[0].why

    def test_a_limit_downwards_is_told_as_it_is(self):
        found = judge([series(*nights([*QUIET, 8.0]), minimum_effect=0.2)])[0]
        assert "beyond -16.7%" in found.why

    def test_what_changed_on_the_device_is_told(self):
        before = [replace(one, environment={"os": "14", "governor": "performance"}) for one in nights(QUIET)]
        now = night(20, 11.0, 11.0, environment={"os": "15\x1b[0m", "governor": "performance"})
        assert judge([series(*before, now)])[0].why.endswith("; since the last good night: os 14 -> 15[0m")

    def test_a_night_has_a_time(self):
        with pytest.raises(ValueError, match="no time"):
            series(night(math.nan, 1.0))

    def test_keys_are_unique(self):
        with pytest.raises(ValueError, match="one key: 'a'"):
            judge([series(key="a"), series(key="a")])


values = st.floats(0.9, 1.1)
histories = st.lists(st.tuples(values, st.lists(values, max_size=3)), min_size=1, max_size=45)


def made(pairs, scale=1.0, **options):
    given = [night(at, scale * first, [scale * each for each in fresh]) for at, (first, fresh) in enumerate(pairs)]
    return series(*given, **options)


@given(value=st.floats(1e-9, 1e9), count=st.integers(0, 40))
def test_a_constant_series_never_fails_nor_warns_once_it_is_known(value, count):
    given = nights([value] * count)
    kinds = {verdict.kind for _, (verdict,) in replay([series(*given)]) if given}
    assert kinds <= {Kind.SAME, Kind.AMBIGUOUS}


@given(pairs=histories, exponent=st.integers(-20, 20))
def test_units_do_not_matter(pairs, exponent):
    ours, theirs = (list(replay([made(pairs, scale)])) for scale in (1.0, 2.0**exponent))
    for (_, (one,)), (_, (other,)) in zip(ours, theirs, strict=True):
        assert said(one) == said(other)
        assert close(one.threshold, other.threshold)
        assert close(one.detectable, other.detectable)


@given(pairs=histories, seed=st.integers(0, 9))
def test_the_order_of_insertion_does_not_matter(pairs, seed):
    whole = made(pairs)
    shuffled = random.Random(seed).sample(whole.nights, len(pairs))
    one, other = judge([whole])[0], judge([replace(whole, nights=tuple(shuffled))])[0]
    assert replace(one, series=whole) == replace(other, series=whole)


@given(pairs=histories)
def test_a_quantity_and_its_inverse_are_judged_alike(pairs):
    cost, speed = (
        made(pairs),
        made([(1 / first, [1 / each for each in fresh]) for first, fresh in pairs], direction="max"),
    )
    kinds = [[said(verdict) for _, (verdict,) in replay([one])] for one in (cost, speed)]
    assert kinds[0] == kinds[1]


@given(pairs=histories)
def test_what_is_seen_is_beyond_the_threshold_and_its_since_is_a_night_of_it(pairs):
    times = {index * DAY for index in range(len(pairs))}
    for _, (verdict,) in replay([made(pairs)]):
        if verdict.threshold is not None:
            assert 0.04 <= verdict.threshold + 1e-12 <= verdict.detectable + 2e-12
        if verdict.kind in (Kind.SLOWER, Kind.FASTER):
            assert verdict.since in times
            assert verdict.effect.low <= verdict.effect.value <= verdict.effect.high
        if verdict.level is Level.FAIL:
            assert verdict.established


wild = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(given=st.lists(st.tuples(wild, wild, wild, st.sampled_from(["ok", "invalid", "busy"])), max_size=30))
def test_no_number_breaks_it(given):
    def any_run(value, end, status="ok"):
        found = None if value is None else Value(value=value, low=value, high=value if end is None else end)
        return Run(value=found, status=status)

    found = [
        Night(time=index * DAY, first=any_run(value, end, status), confirmations=(any_run(fresh, None),) * (index % 4))
        for index, (value, fresh, end, status) in enumerate(given)
    ]
    verdicts = [verdict for _, (verdict,) in replay([series(*nights(QUIET, -20), *found)])]
    assert len(verdicts) == 20 + len(given)
    assert all(verdict.why and verdict_row(verdict) for verdict in verdicts)

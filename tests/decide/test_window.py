"""What is counted lies within the window, nothing younger is forgotten, and no thread's success is lost."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from resilience.decide.window import SLICES, Window

SPAN = 30.0
SLICE = SPAN / SLICES
ROUNDING = 1e-6

moments = st.lists(st.tuples(st.floats(0.0, 1.5 * SPAN), st.booleans()), max_size=120)


def test_an_empty_window_counts_nothing() -> None:
    assert (0, 0) == Window(SPAN).counts()


def test_the_first_reading_of_the_clock_begins_a_slice() -> None:
    window = Window(SPAN)

    assert 100.0 >= window.ends
    window.roll(100.0)
    assert 100.0 + SLICE == window.ends


def test_failures_are_counted_among_the_attempts() -> None:
    window = Window(SPAN)
    window.roll(0.0)
    next(window.successes)
    next(window.successes)
    window.fail()

    assert (1, 3) == window.counts()


def test_looking_changes_nothing() -> None:
    window = Window(SPAN)
    window.roll(0.0)
    next(window.successes)

    assert [(0, 1)] * 5 == [window.counts() for _ in range(5)]
    next(window.successes)
    assert (0, 2) == window.counts()


def test_within_a_slice_the_clock_may_be_read_again_and_again() -> None:
    window = Window(SPAN)
    for step in range(10):
        window.roll(step * SLICE / 10)
        window.fail()

    assert SLICE == window.ends
    assert (10, 10) == window.counts()


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = Window(SPAN)
    window.roll(0.0)
    window.fail()
    next(window.successes)
    window.roll(SPAN)

    assert (0, 0) == window.counts()


def test_a_slice_is_forgotten_before_the_next_one_can_carry_it_out_of_the_window() -> None:
    """Between two readings of the clock nothing is forgotten, so that it must be done in time."""
    window = Window(SPAN)
    window.roll(0.0)
    window.fail()
    window.roll(28.4)
    assert (1, 1) == window.counts()

    other = Window(SPAN)
    other.roll(0.0)
    other.fail()
    other.roll(28.5)
    assert (0, 0) == other.counts()

    window.roll(29.9)
    assert 31.4 == window.ends
    assert (0, 0) == window.counts()


def test_what_is_younger_than_nine_tenths_of_the_window_is_not_forgotten() -> None:
    window = Window(SPAN)
    window.roll(0.0)
    window.fail()
    window.roll(0.9 * SPAN)

    assert (1, 1) == window.counts()


def test_a_success_that_ends_before_the_clock_is_read_again_counts_at_the_last_reading() -> None:
    window = Window(SPAN)
    window.roll(0.0)
    # Here 100 seconds pass without another attempt.
    next(window.successes)
    window.roll(100.0)

    assert (0, 0) == window.counts()


def test_an_attempt_that_took_longer_than_the_window_counts_when_it_ends_whether_it_succeeded_or_failed() -> None:
    """A window that dated successes by their start would see nothing but failures here."""
    window = Window(SPAN)
    for second in range(200):
        window.roll(float(second))
        if second >= 2 * SPAN:  # attempts of twice the window's length end, one good and one bad each second
            next(window.successes)
            window.fail()
    failures, attempts = window.counts()

    assert 0.9 * SPAN <= failures <= SPAN
    assert 2 * failures == attempts


@given(moments)
def test_everything_from_nine_tenths_of_the_window_is_counted_and_nothing_from_outside(events: list[tuple[float, bool]]) -> None:
    window, now = Window(SPAN), 0.0
    seen: list[tuple[float, bool]] = []
    for gap, healthy in events:
        now += gap
        window.roll(now)
        if healthy:
            next(window.successes)
        else:
            window.fail()
        seen.append((now, healthy))
        failures, attempts = window.counts()

        surely = [good for at, good in seen if now - at < SPAN - 2 * SLICE - ROUNDING]
        perhaps = [good for at, good in seen if now - at <= SPAN + ROUNDING]
        assert surely.count(False) <= failures <= perhaps.count(False)
        assert len(surely) <= attempts <= len(perhaps)


@given(moments)
def test_what_a_window_holds_does_not_grow_with_what_it_counts(events: list[tuple[float, bool]]) -> None:
    window, now = Window(SPAN), 0.0
    for gap, _ in events:
        now += gap / 10
        window.roll(now)
        window.fail()

    assert SLICES >= len(window._marks)


def test_eight_threads_lose_no_success() -> None:
    """D26: while one of them keeps looking."""
    window = Window(SPAN)
    window.roll(0.0)

    def work() -> None:
        for _ in range(20_000):
            next(window.successes)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        window.counts()
    for thread in threads:
        thread.join()

    assert (0, 160_000) == window.counts()

import time

import pytest

from kdas_tf.client import retry
from kdas_tf.client.answers import Refused, ServerError, Unavailable


def until(attempt, *, seconds=60.0, timeout=10.0, retries=4, draw=lambda low, high: 0.001 * high):
    return retry.until(attempt, end=time.monotonic() + seconds, timeout=timeout, retries=retries, draw=draw)


class Failing:
    def __init__(self, *errors):
        self.errors, self.timeouts = list(errors), []

    def __call__(self, timeout):
        self.timeouts.append(timeout)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_waits_double_up_to_five_seconds_and_half_of_each_is_left_to_chance():
    drawn = []

    def draw(low, high):
        drawn.append((low, high))
        return 0.0

    assert until(Failing(*[Unavailable("busy")] * 8), retries=8, draw=draw) == "answer"
    assert [high for _, high in drawn] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert all(low == high / 2 for low, high in drawn)


def test_a_try_has_its_own_time_but_never_more_than_is_left():
    attempt = Failing(Unavailable("busy"))
    until(attempt, seconds=60, timeout=3)
    assert attempt.timeouts == [3, 3]
    attempt = Failing()
    until(attempt, seconds=2, timeout=3)
    assert 1.9 < attempt.timeouts[0] <= 2


@pytest.mark.parametrize("error", [ServerError("slow"), Refused("wrong"), KeyboardInterrupt()])
def test_other_errors_are_passed_on_at_once(error):
    attempt = Failing(error)
    with pytest.raises(type(error)):
        until(attempt)
    assert len(attempt.timeouts) == 1


def test_it_gives_up_after_the_retries_and_says_how_often_it_tried():
    attempt = Failing(*[Unavailable("busy")] * 9)
    with pytest.raises(Unavailable, match=r"^busy \(tried 3 times\)$"):
        until(attempt, retries=2)
    with pytest.raises(Unavailable, match=r"^busy$"):
        until(attempt, retries=0)
    assert len(attempt.timeouts) == 4


def test_it_does_not_wait_past_the_deadline():
    since = time.monotonic()
    with pytest.raises(Unavailable, match=r"^busy \(tried 1 times, until the deadline\)$"):
        until(Failing(Unavailable("busy")), seconds=30, draw=lambda low, high: 31)
    assert time.monotonic() - since < 5


def test_what_made_it_wait_is_told_when_the_deadline_cuts_the_last_try_short():
    class Slow(Failing):
        def __call__(self, timeout):
            if self.timeouts:
                time.sleep(timeout)
            return super().__call__(timeout)

    with pytest.raises(Unavailable, match=r"^busy \(tried 2 times, until the deadline\)$"):
        until(Slow(Unavailable("busy"), ServerError("no answer within 0.2 s")), seconds=0.2)


def test_without_time_nothing_is_sent():
    attempt = Failing()
    with pytest.raises(ServerError, match="no time is left"):
        until(attempt, seconds=-1)
    assert not attempt.timeouts

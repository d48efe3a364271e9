import time

import pytest

from kdas_tf.client import retry
from kdas_tf.client.answers import ServerError, Unavailable


@pytest.fixture
def waits(monkeypatch):
    """The seconds of all waits, which are not waited."""
    waits = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    return waits


class Failing:
    def __init__(self, *errors):
        self.errors, self.timeouts = list(errors), []

    def __call__(self, timeout):
        self.timeouts.append(timeout)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def until(attempt, *, seconds=60.0, timeout=10.0, retries=4):
    return retry.until(attempt, end=time.monotonic() + seconds, timeout=timeout, retries=retries)


def test_waits_double_up_to_five_seconds_and_half_of_each_is_left_to_chance(waits):
    assert until(Failing(*[Unavailable("busy")] * 80), retries=80, seconds=1000) == "answer"
    doubled = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * 74]
    assert all(wait / 2 <= waited <= wait for wait, waited in zip(doubled, waits, strict=True))
    assert max(waits) - min(waits[6:]) > 1  # less has a chance of 1e-14: 74 draws from 2.5 to 5


def test_a_try_has_its_own_time_but_never_more_than_is_left(waits):
    attempt = Failing(Unavailable("busy"))
    until(attempt, seconds=60, timeout=3)
    assert attempt.timeouts == [3, 3]
    attempt = Failing()
    until(attempt, seconds=2, timeout=3)
    assert 1.9 < attempt.timeouts[0] <= 2


def test_it_does_not_wait_past_the_deadline(waits):
    with pytest.raises(Unavailable, match=r"^busy \(tried 1 times, until the deadline\)$"):
        until(Failing(Unavailable("busy")), seconds=0.04)
    assert not waits
    attempt = Failing()
    with pytest.raises(ServerError, match="no time is left"):
        until(attempt, seconds=-1)
    assert not attempt.timeouts

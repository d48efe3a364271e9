import math

import pytest

from kdas_tf.errors import UserError
from kdas_tf.schedules import LinearTemperature, cosine, over


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {0: 2.0, 47.5: 1.5, 95: 1.0, 190: 0.0, 195: 0.0, 200: 0.0}),  # section 4.2.1
        ({"end": 1.0}, {0: 2.0, 95: 1.5, 190: 1.0, 200: 1.0}),  # as in the abstract
        ({"start": 1.5, "end": 1.5}, {0: 1.5, 1: 1.5, 190: 1.5, 500: 1.5}),
        ({"start_epoch": 10, "end_epoch": 30}, {0: 2.0, 10: 2.0, 15: 1.5, 30: 0.0, 31: 0.0}),
        ({"end_epoch": 0}, {0: 0.0, 1: 0.0}),
    ],
)
def test_temperature_falls_linearly_from_start_to_end_and_stays(settings, expected):
    temperature = LinearTemperature(**settings)
    assert {epoch: temperature(epoch) for epoch in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epochs", "settings", "expected"),
    [
        (16, {}, {0: 2.0, 7.5: 1.0, 15: 0.0}),  # 15.2 in whole epochs: the last one, 15, is the labels' own
        (50, {}, {0: 2.0, 23.5: 1.0, 46: 2 / 47, 47: 0.0}),
        (1, {}, {0: 2.0, 1: 0.0}),
        (50, {"end_epoch": 10}, {5: 1.0, 10: 0.0}),
    ],
)
def test_temperature_ends_at_the_same_share_of_any_number_of_epochs(epochs, settings, expected):
    temperature = over(LinearTemperature(**settings), epochs)
    assert {epoch: temperature(epoch) for epoch in expected} == pytest.approx(expected)
    assert over(abs, epochs) is abs  # any function of the epoch does as well


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": -1.0}, "LinearTemperature.start to be at least 0, got -1.0"),
        ({"end": math.nan}, "LinearTemperature.end to be at least 0, got nan"),
        ({"end_epoch": math.inf}, "LinearTemperature.end_epoch to be at least 0, got inf"),
    ],
)
def test_a_temperature_that_cannot_be_is_refused_when_it_is_made(settings, message):
    with pytest.raises(UserError, match=message):
        LinearTemperature(**settings)


@pytest.mark.parametrize(
    # cos(pi / 3) = 1/2: three quarters of the way down remain at a third of the epochs.
    ("epoch", "epochs", "rate"),
    [(0, 60, 0.1), (20, 60, 0.07525), (30, 60, 0.0505), (60, 60, 0.001), (90, 60, 0.001), (0, 0, 0.001)],
)
def test_cosine_falls_slowly_at_both_ends_and_stays(epoch, epochs, rate):
    assert cosine(epoch, start=0.1, end=0.001, epochs=epochs) == pytest.approx(rate, rel=1e-12)

import pytest

from kdas_tf.schedules import cosine, linear_temperature


@pytest.mark.parametrize(
    ("epoch", "temperature"), [(0, 2.0), (47.5, 1.5), (95, 1.0), (190, 0.0), (195, 0.0), (200, 0.0)]
)
def test_temperature_falls_from_two_to_zero_at_epoch_190_and_stays(epoch, temperature):
    assert linear_temperature(epoch) == temperature


@pytest.mark.parametrize(("epoch", "temperature"), [(0, 2.0), (95, 1.5), (190, 1.0), (200, 1.0)])
def test_temperature_can_end_at_one_as_in_the_abstract(epoch, temperature):
    assert linear_temperature(epoch, end=1.0) == temperature


@pytest.mark.parametrize("epoch", [0, 1, 100, 190, 500])
def test_a_constant_temperature_starts_where_it_ends(epoch):
    assert linear_temperature(epoch, start=1.5, end=1.5) == 1.5


@pytest.mark.parametrize(("epoch", "temperature"), [(0, 2.0), (10, 2.0), (15, 1.5), (30, 0.0), (31, 0.0)])
def test_temperature_can_wait_before_it_falls(epoch, temperature):
    assert linear_temperature(epoch, start_epoch=10, end_epoch=30) == temperature


@pytest.mark.parametrize("epoch", [0, 1])
def test_without_epochs_to_fall_in_temperature_is_at_its_end(epoch):
    assert linear_temperature(epoch, end_epoch=0) == 0.0


def test_temperature_is_positive_just_before_its_end():
    assert 0 < linear_temperature(189.99999) < 1e-6


@pytest.mark.parametrize(
    # cos(pi / 3) = 1/2: three quarters of the way down remain at a third of the epochs.
    ("epoch", "rate"),
    [(0, 0.1), (20, 0.001 + 0.75 * 0.099), (30, 0.0505), (60, 0.001), (90, 0.001)],
)
def test_cosine_falls_slowly_at_both_ends_and_stays(epoch, rate):
    assert cosine(epoch, start=0.1, end=0.001, epochs=60) == pytest.approx(rate, rel=1e-12)


def test_cosine_without_epochs_is_at_its_end():
    assert cosine(0, start=0.1, end=0.001, epochs=0) == pytest.approx(0.001)

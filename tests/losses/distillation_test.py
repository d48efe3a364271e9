"""Values by hand. The teacher sees (ln 4, 0) where the student sees (0, ln 4); in a second row both are undecided.

Teacher at T = 2: softmax(ln 2, 0) = (2/3, 1/3);  at 1: (4/5, 1/5);  at 1/2: softmax(ln 16, 0) = (16/17, 1/17).
Student at T = 2: (1/3, 2/3);  at 1: (1/5, 4/5);  at 1/2: (1/17, 16/17).
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.losses.distillation import distillation_loss, soft_targets

LN2, LN3, LN5, LN17 = np.log([2.0, 3.0, 5.0, 17.0])
TEACHER = np.array([[2 * LN2, 0.0], [0.0, 0.0]], np.float32)
STUDENT = np.array([[0.0, 2 * LN2], [0.0, 0.0]], np.float32)
LABELS = np.array([1, 0])  # the first is not what the teacher believes


def loss_at(temperature, *, teacher=TEACHER, student=STUDENT, labels=LABELS, **kwargs):
    targets = soft_targets(lambda: tf.constant(teacher), labels, teacher.shape[-1], temperature)
    return float(distillation_loss(targets, student, temperature, **kwargs))


@pytest.mark.parametrize(
    ("temperature", "first_row"),
    [(2.0, [2 / 3, 1 / 3]), (1.0, [4 / 5, 1 / 5]), (0.5, [16 / 17, 1 / 17]), (0.0, [0, 1])],
)
def test_targets_are_the_teachers_at_a_temperature_and_the_labels_at_zero(temperature, first_row):
    targets = soft_targets(lambda: tf.constant(TEACHER), LABELS, 2, temperature)
    second_row = [0.5, 0.5] if temperature else [1, 0]
    np.testing.assert_allclose(targets, [first_row, second_row], rtol=1e-6)


@pytest.mark.parametrize(
    ("temperature", "first_row"),
    [
        (2.0, LN3 - LN2 / 3),  # 2/3 ln 3 + 1/3 ln(3/2)
        (1.0, LN5 - 2 * LN2 / 5),  # 4/5 ln 5 + 1/5 ln(5/4)
        (0.5, LN5 - 2 * LN2 / 17),  # 16/17 ln 5 + 1/17 ln(5/4): the student stays at 1
        (0.0, LN5 - 2 * LN2),  # ln(5/4), the label's
    ],
)
def test_loss_is_the_cross_entropy_of_two_softmaxes(temperature, first_row):
    assert loss_at(temperature) == pytest.approx((first_row + LN2) / 2, rel=1e-6)


def test_limit_at_zero_is_the_cross_entropy_with_the_teachers_first_choice():
    teacher = np.array([[1.0, 3.0, 2.0], [0.5, 0.4, 0.3]], np.float32)
    student = np.array([[0.0, LN2, 0.0], [LN2, 0.0, 0.0]], np.float32)  # softmax (1/4, 1/2, 1/4) and (1/2, 1/4, 1/4)
    for temperature in (1e-2, 1e-4, 1e-6):
        actual = loss_at(temperature, teacher=teacher, student=student, labels=np.array([0, 2]))
        assert actual == pytest.approx(LN2, rel=1e-3 if temperature == 1e-2 else 1e-6)
    # At zero itself the labels count, which both rows of the student give 1/4.
    assert loss_at(0.0, teacher=teacher, student=student, labels=np.array([0, 2])) == pytest.approx(2 * LN2, rel=1e-6)


@pytest.mark.parametrize(
    ("floor", "temperature", "first_row"),
    [
        (2.0, 1.0, LN3 - LN2 / 5),  # 4/5 ln 3 + 1/5 ln(3/2)
        (0.5, 0.5, LN17 - 4 * LN2 / 17),  # 16/17 ln 17 + 1/17 ln(17/16)
        (0.5, 1.0, LN5 - 2 * LN2 / 5),
    ],
)
def test_the_students_floor_can_be_another_one(floor, temperature, first_row):
    assert loss_at(temperature, student_floor=floor) == pytest.approx((first_row + LN2) / 2, rel=1e-6)


@pytest.mark.parametrize(("temperature", "factor"), [(2.0, 4.0), (1.5, 2.25), (0.5, 1.0), (0.0, 1.0)])
def test_hintons_factor_is_the_square_of_the_students_temperature(temperature, factor):
    assert loss_at(temperature, temperature_squared=True) == pytest.approx(factor * loss_at(temperature), rel=1e-6)


@pytest.mark.parametrize("temperature", [3.0, 1.0, 0.25, 0.0])
def test_gradient_is_the_difference_of_the_softmaxes(temperature):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 5, 7)).astype("float32") * 3
    labels = rng.integers(0, 7, 5)
    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = distillation_loss(
            soft_targets(lambda: tf.constant(teacher), labels, 7, temperature), logits, temperature
        )

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(-1, keepdims=True)

    target = softmax(teacher / temperature) if temperature else np.eye(7)[labels]
    at = max(temperature, 1.0)
    np.testing.assert_allclose(tape.gradient(loss, logits), (softmax(student / at) - target) / (5 * at), atol=1e-6)


def test_the_teacher_is_not_run_at_temperature_zero():
    temperature, runs = keras.Variable(1.0, trainable=False), tf.Variable(0)

    def teacher_logits():
        runs.assign_add(1)
        return tf.constant(TEACHER)

    @tf.function
    def step(labels):
        return distillation_loss(soft_targets(teacher_logits, labels, 2, temperature), STUDENT, temperature)

    labels = tf.constant(LABELS)
    for value, expected_runs in ((2.0, 1), (0.5, 2), (0.0, 2), (0.0, 2), (1.0, 3)):
        temperature.assign(value)
        assert float(step(labels)) == pytest.approx(loss_at(value), rel=1e-6)
        assert int(runs) == expected_runs
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("temperature", [2.0, 0.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_logits_give_a_finite_loss_in_float32(dtype, temperature):
    # 5e4 / 0.01 has no float16.
    teacher = tf.cast([[5e4, -5e4, 0.0]], dtype)
    student = tf.cast([[-300.0, 300.0, 0.0]], dtype)
    targets = soft_targets(lambda: teacher, [0], 3, temperature)
    loss = distillation_loss(targets, student, temperature)
    assert targets.dtype == loss.dtype == tf.float32
    # Both put all on the first; the student is behind by 600, exact up to the formats' rounding of 300.
    assert float(loss) == pytest.approx(600 / max(temperature, 1.0), rel=1e-2)

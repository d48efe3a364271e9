"""Distillation at a temperature that falls to zero (Eq. 5-7, section 3.3.3)."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def soft_targets(
    teacher_logits: Callable[[], Any], labels, num_identities: int, temperature, *, label_smoothing: float = 0.0
):
    """Targets of the distillation loss: the teacher's view at temperature T, the labels at T = 0.

    q_t = softmax(l_teacher / T) for T > 0 (Eq. 5). At T = 0 the target is the label (L_c, Eq. 6, with its doubled exp
    removed) and the teacher is not run: the paper wants L_d to equal L_c there.

    Args:
        teacher_logits: gives the logits `[batch, identities]`; called only where T > 0.
        labels: `[batch]`, integers.
        num_identities: number of training identities.
        temperature: scalar tensor, or a Python number.
        label_smoothing: at T = 0, give this much of the label's weight to all identities alike (Szegedy et al.,
            2016); the paper does not.

    Returns:
        `[batch, identities]`, rows sum to 1.
    """
    smooth = label_smoothing / num_identities
    temperature = ops.convert_to_tensor(temperature, keras.config.floatx())
    return ops.cond(
        temperature > 0.0,
        lambda: ops.softmax(ops.cast(teacher_logits(), keras.config.floatx()) / temperature, -1),
        lambda: ops.one_hot(labels, num_identities, dtype=keras.config.floatx()) * (1.0 - label_smoothing) + smooth,
    )


def distillation_loss(
    targets, student_logits, temperature, *, student_floor: float = 1.0, temperature_squared: bool = False
):
    """L_d: cross-entropy of the student at temperature max(T, floor) to the targets (Eq. 7), a mean over the batch.

    The student is never sharpened beyond its prediction temperature 1: so the loss, in nats, stays finite as T goes to
    0, and its limit is exactly a cross-entropy at temperature 1.

    Args:
        targets: `[batch, identities]`, from `soft_targets`.
        student_logits: `[batch, identities]`.
        temperature: T, scalar.
        student_floor: lowest temperature of the student.
        temperature_squared: multiply by max(T, floor)^2, which keeps gradients of the same size (Hinton et al.,
            2015); the paper has no such factor.
    """
    student_temperature = ops.maximum(ops.convert_to_tensor(temperature, keras.config.floatx()), student_floor)
    log_q_s = ops.log_softmax(ops.cast(student_logits, keras.config.floatx()) / student_temperature, -1)
    loss = -ops.mean(ops.sum(targets * log_q_s, -1))
    return loss * student_temperature**2 if temperature_squared else loss

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.losses.objective import Objective

# One row of L_d: the target is the first of two, which the student gives 1/4: ln 4.
# L_t by hand: places 0, 2 | 1, 3 on a line, margin 0.3: every anchor has its positive at 2, a negative at 1: 1.3.
BATCH = {
    "targets": tf.constant([[1.0, 0.0]] * 4),
    "logits": tf.constant([[0.0, np.log(3.0)]] * 4, tf.float32),
    "temperature": 0.0,
    "features": tf.constant([[0.0], [2.0], [1.0], [3.0]]),
    "labels": tf.constant([0, 0, 1, 1]),
}
DISTILLATION, TRIPLET = np.log(4.0), 1.3


def test_the_objective_is_the_sum_of_both_terms():
    terms = Objective()(**BATCH)
    np.testing.assert_allclose(terms, (DISTILLATION + TRIPLET, DISTILLATION, TRIPLET), rtol=1e-6)


def test_weights_scale_the_terms_in_the_total_only():
    terms = Objective(distillation_weight=0.5, triplet_weight=3.0)(**BATCH)
    np.testing.assert_allclose(terms, (0.5 * DISTILLATION + 3 * TRIPLET, DISTILLATION, TRIPLET), rtol=1e-6)


def test_margin_floor_and_factor_reach_their_losses():
    # The student at temperature 2: softmax(0, ln sqrt 3); times 2^2.
    terms = Objective(margin=1.0, student_floor=2.0, temperature_squared=True)(**BATCH)
    np.testing.assert_allclose(terms.distillation, 4 * np.log(1 + np.sqrt(3)), rtol=1e-6)
    np.testing.assert_allclose(terms.triplet, 2.0, rtol=1e-6)


def test_replicas_add_up_to_the_global_batch():
    logits = tf.random.stateless_normal([4, 2], [0, 1])
    whole = Objective()(**{**BATCH, "logits": logits, "temperature": 1.0})
    halves = [
        Objective()(**{**BATCH, "logits": logits[s], "targets": BATCH["targets"][s], "temperature": 1.0}, replicas=2)
        for s in (slice(0, 2), slice(2, 4))
    ]
    np.testing.assert_allclose(np.sum(halves, 0), whole, rtol=1e-6)


@pytest.mark.parametrize(
    "bad", [{"distillation_weight": -1.0}, {"triplet_weight": -0.1}, {"margin": -0.3}, {"student_floor": 0.0}]
)
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(UserError, match=rf"Objective.{next(iter(bad))} to be (at least|above) 0, got"):
        Objective(**bad)

"""Batch-hard triplet loss (Eq. 8; Hermans et al., 2017)."""

import keras
from keras import ops


def pairwise_distances(features):
    """Euclidean distances `[n, n]` between the rows of `[n, D]`; the gradient is finite where two rows coincide.

    Distances come from ||a||^2 - 2 a.b + ||b||^2: the square root's gradient at 0 is avoided, not merely bounded.
    """
    squared_norms = ops.sum(features * features, -1)
    squared = squared_norms[:, None] - 2.0 * ops.matmul(features, ops.transpose(features)) + squared_norms[None, :]
    # Cancellation can leave a negative number, which counts as 0, and so does a row's distance to itself.
    coincide = ops.logical_or(squared <= 0.0, ops.cast(ops.eye(ops.shape(squared)[0]), "bool"))
    return ops.where(coincide, 0.0, ops.sqrt(ops.where(coincide, 1.0, squared)))


def batch_hard_triplet_loss(features, labels, *, margin: float = 0.3):
    """L_t = mean over anchors a of max(0, margin + max_p d(a, p) - min_n d(a, n)) (Eq. 8, with the hinge it lacks).

    The hardest positive p is the farthest image of the anchor's identity, the hardest negative n the nearest image of
    another identity. An anchor without positive has distance 0 to it; an anchor without negative uses the largest
    distance in its row. Both are as in TensorFlow Addons 0.23 (`triplet_hard_loss`), the reference of the test.

    Args:
        features: `[batch, D]`, before the BN neck.
        labels: `[batch]`, integers.
        margin: in units of the features' distance (section 4.2.1: 0.3).
    """
    distances = pairwise_distances(ops.cast(features, keras.config.floatx()))
    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), keras.config.floatx())
    hardest_positive = ops.max(distances * same, -1)
    row_maximum = ops.max(distances, -1, keepdims=True)
    hardest_negative = ops.min(distances + same * (row_maximum - distances), -1)
    return ops.mean(ops.maximum(margin + hardest_positive - hardest_negative, 0.0))

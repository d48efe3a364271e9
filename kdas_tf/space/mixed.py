"""The mixed operation (Eq. 2), for all edges that leave one node at once."""

from typing import Any

import keras
from keras import ops

from kdas_tf.genotype import PRIMITIVES
from kdas_tf.space.operations import DepthwiseSeparableConv, Operation, Pooling, SkipConnect
from kdas_tf.space.part_aware import PartAware


def make_operation(name: str, channels: int, *, in_supernet: bool = False, **kwargs: Any) -> Operation:
    """Builds a candidate operation by its name in a genotype.

    Args:
        name: one of `kdas_tf.genotype.OPERATIONS`.
        channels: channels of the output.
        in_supernet: pools are followed by batch normalisation in the supernet only, as in DARTS.
        **kwargs: `edges`, `stride`, `affine` and `dtype`.

    Raises:
        KeyError: there is no such operation.
    """
    builders = {
        "max_pool_3x3": (Pooling, {"mode": "max", "normalize": in_supernet}),
        "avg_pool_3x3": (Pooling, {"mode": "average", "normalize": in_supernet}),
        "skip_connect": (SkipConnect, {}),
        "sep_conv_3x3": (DepthwiseSeparableConv, {"kernel_size": 3, "repeats": 2}),
        "sep_conv_5x5": (DepthwiseSeparableConv, {"kernel_size": 5, "repeats": 2}),
        "dil_conv_3x3": (DepthwiseSeparableConv, {"kernel_size": 3, "dilation": 2}),
        "dil_conv_5x5": (DepthwiseSeparableConv, {"kernel_size": 5, "dilation": 2}),
        "part_aware": (PartAware, {}),
    }
    kind, config = builders[name]
    return kind(channels, name=name, **config, **kwargs)


@keras.saving.register_keras_serializable("kdas_tf")
class MixedFanOut(Operation):
    """Softmax-weighted mixture of all candidates on every edge that leaves one node.

    output[e] = sum over o of weights[e, o] * o(x), with weights of its own for every edge (Eq. 2). `none` adds
    nothing; pools and the identity are computed once for all edges.

    Call arguments:
        x: `[batch, height, width, channels]`, the node's output.
        weights: `[edges, 7]`, the softmax of alpha's rows, in the order of `PRIMITIVES`.
    """

    def build(self, input_shape):
        self.candidates = {}
        for name in PRIMITIVES[1:]:
            operation = make_operation(
                name,
                self.channels,
                in_supernet=True,
                edges=self.edges,
                stride=self.stride,
                affine=self.affine,
                dtype=self.dtype_policy,
            )
            operation.build(input_shape)
            self.candidates[name] = operation

    def call(self, x, weights, training: bool = False):
        columns = ops.reshape(ops.transpose(ops.cast(weights, x.dtype)), (len(PRIMITIVES), self.edges, 1, 1, 1, 1))
        weight_of = dict(zip(PRIMITIVES, ops.unstack(columns, len(PRIMITIVES), axis=0), strict=True))
        return sum(
            weight_of[name] * operation(x, training=training) for name, operation in self.candidates.items()
        )

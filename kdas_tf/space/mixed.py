"""The mixed operation (Eq. 2), for all edges that leave one node at once."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.genotype import PRIMITIVES
from kdas_tf.space.edges import shape_of
from kdas_tf.space.operations import DepthwiseSeparableConv, Operation, Pooling, SkipConnect
from kdas_tf.space.part_aware import PartAware


def make_operation(name: str, channels: int, **kwargs: Any) -> Operation:
    """Builds a candidate operation by its name in a genotype.

    Args:
        name: one of `kdas_tf.genotype.OPERATIONS`.
        channels: channels of the output.
        **kwargs: as in `Operation`.

    Raises:
        KeyError: there is no such operation.
    """
    builders: dict[str, tuple[type[Operation], dict[str, Any]]] = {
        "max_pool_3x3": (Pooling, {"mode": "max"}),
        "avg_pool_3x3": (Pooling, {"mode": "average"}),
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

    The candidates' maps are stacked: one batch normalisation ends them all (DARTS' supernet has one of its own after
    each, without affine: the same numbers), and the mixture is one product of a sparse `[edges, maps]` matrix with
    the stack.

    Call arguments:
        x: `[batch, height, width, channels]`, the node's output.
        weights: `[edges, 7]`, the softmax of alpha's rows, in the order of `PRIMITIVES`.
    """

    def __init__(self, channels: int, *, affine: bool = False, **kwargs: Any):
        super().__init__(channels, affine=affine, normalize=False, **kwargs)
        config = {"edges": self.edges, "stride": self.stride, "affine": affine, "dtype": self.dtype_policy}
        self.candidates = {
            name: make_operation(name, channels, normalize=False, **config) for name in PRIMITIVES if name != "none"
        }
        self.stacked_norm = self.new_norm("norm")

    def build_weights(self, input_shape):
        self.stacked = [name for name in self.candidates if name != "skip_connect" or self.stride == 2]
        columns, mask = [], []
        for name, operation in self.candidates.items():
            operation.build(input_shape)
            if name in self.stacked:
                maps = operation.compute_output_shape(input_shape)[0]
                columns += [PRIMITIVES.index(name)] * maps
                # A map for all edges counts on each; one of several belongs to its own edge.
                mask.append(np.ones((self.edges, 1)) if maps == 1 else np.eye(self.edges))
        # Products with matrices of zeros and ones pick weights; the gradient of indexing takes many more operations.
        self.columns = np.eye(len(PRIMITIVES), dtype="float32")[:, columns]
        self.skip_column = np.eye(len(PRIMITIVES), dtype="float32")[:, [PRIMITIVES.index("skip_connect")]]
        self.mask = np.concatenate(mask, 1).astype("float32")
        self.stacked_norm.build((len(columns), *self.compute_output_shape(input_shape)[1:]))

    def call(self, x, weights, training: bool = False):  # type: ignore[override]
        weights = ops.cast(weights, x.dtype)
        maps = ops.concatenate([self.candidates[name](x, training=training) for name in self.stacked], 0)
        maps = self.stacked_norm(maps, training=training)
        mixing = ops.matmul(weights, ops.cast(self.columns, x.dtype)) * ops.cast(self.mask, x.dtype)
        shape = shape_of(maps)
        output = ops.matmul(mixing, ops.reshape(maps, (shape[0], -1)))
        output = ops.reshape(output, (self.edges, *shape[1:]))
        if self.stride == 1:
            skip = ops.matmul(weights, ops.cast(self.skip_column, x.dtype))
            output = output + ops.reshape(skip, (self.edges, 1, 1, 1, 1)) * ops.expand_dims(x, 0)
        return output

    def get_config(self):
        config = super().get_config()
        del config["normalize"]
        return config

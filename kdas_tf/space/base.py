"""What all operations of an edge share, and what the rest of the package asks an operation."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.space.edges import EdgeBatchNorm, kernel_initializer
from kdas_tf.space.plain_form import Array, Forward, scale_and_offset


def stacked(x):
    """A node's tensor, or those of several nodes, as `[sources, batch, height, width, channels]`."""
    return x if len(x.shape) == 5 else ops.expand_dims(x, 0)


class Operation(keras.layers.Layer):
    """An operation over several parallel edges, which ends with batch normalisation.

    A subclass defines `convolve`, and `build_weights` if it has weights; for the export `plain`, and where the defaults
    do not fit `maps`, `multiply_adds` and `kept_maps`.

    Args:
        channels: channels of the output.
        edges: number of parallel edges, each with weights of its own.
        sources: number of nodes that the edges leave, as many edges from each.
        stride: 1, or 2 on the edges that leave the inputs of a reduction cell.
        affine: scale and offset in the batch normalisations.
        normalize: end with batch normalisation; the supernet's mixture does that for all candidates together.

    Input shape: `[batch, height, width, channels]`, or `[sources, batch, height, width, channels]`; layers are built
    with the former.
    Output shape: `[maps, batch, ceil(height / stride), ceil(width / stride), channels]`, first those of the first node.

    Raises:
        UserError: channels, edges or sources below 1, edges that the sources cannot share equally, or a stride that is
            neither 1 nor 2.
    """

    def __init__(
        self,
        channels: int,
        *,
        edges: int = 1,
        sources: int = 1,
        stride: int = 1,
        affine: bool = True,
        normalize: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if channels < 1 or edges < 1 or sources < 1 or edges % sources or stride not in (1, 2):
            raise UserError(
                "An operation needs channels >= 1, edges >= 1, equally many for each source, and a stride of 1 or 2, "
                f"got channels={channels}, edges={edges}, sources={sources}, stride={stride}."
            )
        self.channels = channels
        self.edges = edges
        self.sources = sources
        self.stride = stride
        self.affine = affine
        self.normalize = normalize
        self.norm = self.new_norm("norm") if normalize else None
        self.kernel_numbers = 0

    def new_norm(self, name: str) -> EdgeBatchNorm:
        """Makes a batch normalisation, to be built with the shape of its input."""
        return EdgeBatchNorm(affine=self.affine, name=name, dtype=self.dtype_policy)

    def add_kernel(self, name: str, shape: tuple[int, ...], fan_in: int) -> keras.Variable:
        """Adds a kernel whose first axis counts edges."""
        self.kernel_numbers += math.prod(shape)
        return self.add_weight(name=name, shape=shape, initializer=kernel_initializer(fan_in))

    def build(self, input_shape):
        self.build_weights(input_shape)
        if self.norm is not None:
            self.norm.build(self.compute_output_shape(input_shape))

    def build_weights(self, input_shape) -> None:
        """Adds the weights of `convolve`, kernels by `add_kernel`."""

    def convolve(self, x, training: bool):
        """What the operation does before its last batch normalisation, from `[sources, ...]` to `[maps, ...]`."""
        raise NotImplementedError

    def call(self, x, training: bool = False):
        x = self.convolve(stacked(x), training)
        return x if self.norm is None else self.norm(x, training=training)

    @property
    def maps(self) -> int:
        """Maps in the output: one for each edge, or one for each source where a source's edges share it."""
        return self.edges

    @property
    def is_identity(self) -> bool:
        """Whether the output is the input, which is neither normalised nor dropped by drop-path."""
        return False

    def compute_output_shape(self, input_shape):
        batch, *size = input_shape[:3]
        return (self.maps, batch, *(None if n is None else -(-n // self.stride) for n in size), self.channels)

    def multiply_adds(self, input_shape) -> int:
        """Counts the multiply-adds of one image on all edges: every number of a kernel once a pixel of the output."""
        return math.prod(self.compute_output_shape(input_shape)[2:4]) * self.kernel_numbers

    def kept_maps(self) -> tuple[int, int]:
        """Counts the maps that a training step keeps for its gradient: of the output's size, and of the input's."""
        return self.maps, 0

    def plain(self, target: Any) -> Forward:
        """Makes a function of the source node's map that gives the output of one edge in inference.

        Args:
            target: what to write it in, a `kdas_tf.serving.graphs.targets.Target`.
        """
        raise NotImplementedError(f"Networks with {type(self).__name__} cannot be exported: write its method plain.")

    def folded_norm(self) -> tuple[Array, Array]:
        """Scale and offset of the batch normalisation at the end, `[channels]`; 1 and 0 without normalisation."""
        return scale_and_offset(self.norm) if self.norm else (np.ones(self.channels), np.zeros(self.channels))

    def get_config(self):
        names = ("channels", "edges", "sources", "stride", "affine", "normalize")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

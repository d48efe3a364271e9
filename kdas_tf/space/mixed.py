"""The mixed operation (Eq. 2), for all edges that leave one node, or several, at once."""

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.candidates import CANDIDATES
from kdas_tf.genotype import PRIMITIVES
from kdas_tf.space.base import Operation, stacked
from kdas_tf.space.edges import shape_of

LONG = ("sep_conv_3x3",)
"""The candidates that take longest: they apply their operations twice."""

SHORT = tuple(name for name in PRIMITIVES if name not in ("none", *LONG))


def make_operation(name: str, channels: int, **kwargs: Any) -> Operation:
    """Makes a candidate operation by its name in `CANDIDATES`; arguments are those of `Operation`."""
    candidate = CANDIDATES[name]
    file, layer = candidate.layer.split(".")
    kind = getattr(importlib.import_module(f"kdas_tf.space.{file}"), layer)
    return kind(channels, name=name, **candidate.arguments, **kwargs)


@keras.saving.register_keras_serializable("kdas_tf")
class MixedFanOut(Operation):
    """Softmax-weighted mixture of all candidates on every edge that leaves a node.

    output[e] = sum over o of weights[e, o] * o(x), with weights of its own for every edge (Eq. 2). `none` adds
    nothing; pools and the identity are computed once for all edges of a node.

    The candidates' maps are stacked: one batch normalisation ends a whole stack (DARTS' supernet has one of its own
    after each, without affine: the same numbers), and what a stack adds to the mixture is one product of a sparse
    `[edges, maps]` matrix with it. There are two stacks, so that one is normalised while the other is still computed.

    Call arguments:
        x: `[batch, height, width, channels]`, the node's output, or those of several, `[sources, batch, ...]`.
        weights: `[edges, 7]`, the softmax of alpha's rows, in the order of `PRIMITIVES`.
    """

    def __init__(self, channels: int, *, affine: bool = False, **kwargs: Any):
        super().__init__(channels, affine=affine, normalize=False, **kwargs)
        config = {"edges": self.edges, "sources": self.sources, "stride": self.stride, "affine": affine}
        self.candidates = {
            name: make_operation(name, channels, normalize=False, dtype=self.dtype_policy, **config)
            for name in PRIMITIVES
            if name != "none"
        }
        self.stacks = [[name for name in names if not self.candidates[name].is_identity] for names in (LONG, SHORT)]
        self.norms = [self.new_norm("long_norm"), self.new_norm("short_norm")]

    def build_weights(self, input_shape):
        for operation in self.candidates.values():
            operation.build(input_shape)
        self.picks = [self._map_matrices(names) for names in self.stacks]
        self.pick_identity = self._map_matrices(["skip_connect"])
        for norm, (_, mask) in zip(self.norms, self.picks, strict=True):
            norm.build((mask.shape[1], *self.compute_output_shape(input_shape)[1:]))

    def _map_matrices(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Zeros and ones: `[7, maps]`, which operation made a map; `[edges, maps]`, whether a map counts on an edge.

        Products with these matrices pick weights; the gradient of indexing takes many more operations.
        """
        columns, masks = [], []
        for name in names:
            maps = self.candidates[name].maps
            columns += [PRIMITIVES.index(name)] * maps
            masks.append(np.repeat(np.eye(maps), self.edges // maps, axis=0))
        return np.eye(len(PRIMITIVES), dtype="float32")[:, columns], np.concatenate(masks, 1).astype("float32")

    def call(self, x, weights, training: bool = False):  # type: ignore[override]
        x, weights = stacked(x), ops.cast(weights, x.dtype)
        mixtures = []
        for names, norm, (columns, mask) in zip(self.stacks, self.norms, self.picks, strict=True):
            maps = [self.candidates[name](x, training=training) for name in names]
            stack = norm(ops.concatenate(maps, 0) if len(maps) > 1 else maps[0], training=training)
            mixtures.append(_mix(weights, columns, mask, stack))
        if self.stride == 1:
            mixtures.append(_mix(weights, *self.pick_identity, x))
        return ops.reshape(functools.reduce(ops.add, mixtures), (self.edges, *shape_of(stack)[1:]))

    def largest_stack(self) -> int:
        """Counts the maps of the larger stack."""
        return max(sum(self.candidates[name].maps for name in names) for names in self.stacks)

    def multiply_adds(self, input_shape) -> int:
        return sum(candidate.multiply_adds(input_shape) for candidate in self.candidates.values())

    def kept_maps(self) -> tuple[int, int]:
        of_output, of_input = zip(*(candidate.kept_maps() for candidate in self.candidates.values()), strict=True)
        return sum(of_output), sum(of_input)

    def get_config(self):
        config = super().get_config()
        del config["normalize"]
        return config


def _mix(weights, columns: np.ndarray, mask: np.ndarray, maps):
    """Sums of maps with the weights of their operations, flat: `[edges, batch * height * width * channels]`."""
    mixing = ops.matmul(weights, ops.cast(columns, maps.dtype)) * ops.cast(mask, maps.dtype)
    return ops.matmul(mixing, ops.reshape(maps, (maps.shape[0], -1)))

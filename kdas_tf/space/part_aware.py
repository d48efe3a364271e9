"""The part-aware module of Auto-ReID (Quan et al., 2019, section 3.2), the candidate made for people."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.space.base import Operation
from kdas_tf.space.edges import pointwise, shifted_downsample, times_constant
from kdas_tf.space.plain_form import Array, Forward, Map, as_map, joined, kernel_1x1, scale_and_offset, to_array


@keras.saving.register_keras_serializable("kdas_tf")
class PartAware(Operation):
    """Lets the body's horizontal parts exchange what they see, and adds it to every pixel of the part.

    The map is cut into `parts` strips at rows int(i * height / parts). Each strip is averaged and goes through its own
    ReLU - 1x1 convolution - BN to channels // 3 features; attention over the strips, softmax(K Q^T), mixes them; the
    result is spread over the strip's rows, concatenated to the input and brought back to `channels` by a 1x1
    convolution and BN (stride 1, no ReLU) or a factorised reduce (stride 2).

    Source: D-X-Y/AutoDL-Projects, `Part-aware` operation. Here the last convolution is split into the part that sees
    the input and the part that sees the strips' features: the same sum, without making the concatenation.

    Args:
        parts: number of horizontal strips.
        **kwargs: as in `Operation`.

    Raises:
        UserError: the map has fewer rows than parts, or fewer than 3 channels.
    """

    def __init__(self, channels: int, *, parts: int = 4, **kwargs: Any):
        super().__init__(channels, **kwargs)
        if channels < 3:
            raise UserError(f"part_aware needs at least 3 channels, since its features have a third, got {channels}.")
        self.parts = parts
        self.local_norm = self.new_norm("local_norm")

    def build_weights(self, input_shape):
        height, inputs = input_shape[1], input_shape[-1]
        if height < self.parts:
            raise UserError(
                f"part_aware cuts its input into {self.parts} strips and needs as many rows, got {height}. "
                "Use taller images or fewer reduction cells.",
                code="fit",
            )
        bounds = [int(i * height / self.parts) for i in range(self.parts + 1)]
        # membership[row, part] is 1 where a row belongs to a part: pooling and spreading are products with it.
        self.membership = np.zeros((height, self.parts), "float32")
        for part, (start, stop) in enumerate(itertools.pairwise(bounds)):
            self.membership[start:stop, part] = 1.0
        edges, hidden = self.edges, self.channels // 3
        self.local_kernel = self.add_kernel("local_kernel", (edges, self.parts, inputs, hidden), inputs)
        self.local_bias = self.add_weight(name="local_bias", shape=(edges, 1, self.parts, hidden), initializer="zeros")
        self.local_norm.build((edges, None, 1, 1, self.parts * hidden))
        self.key_query_kernel = self.add_kernel("key_query_kernel", (edges, hidden, 2 * hidden), hidden)
        bias_shape = (edges, 1, 1, 2 * hidden)
        self.key_query_bias = self.add_weight(name="key_query_bias", shape=bias_shape, initializer="zeros")
        self.kernel = self.add_kernel("kernel", (edges, inputs + hidden, self.channels), inputs + hidden)

    def convolve(self, x, training: bool):
        features = self._attend(self._strip_features(x, training))  # [edges, batch, parts, hidden]
        if self.stride == 1:
            return self._combine(x, features, self.kernel, self.membership)
        x, features, half = ops.relu(x), ops.relu(features), self.channels // 2
        even_kernel, odd_kernel = self.kernel[..., :half], self.kernel[..., half:]
        even = self._combine(x[:, :, ::2, ::2], features, even_kernel, self.membership[::2])
        # Where an odd size is padded with zeros, the strips' features are zero too.
        height, width = x.shape[2:4]
        odd_rows = np.pad(self.membership, ((0, height % 2), (0, 0)))[1::2]
        odd_columns = np.pad(np.ones(width, "float32"), (0, 1))[1::2] if width % 2 else None
        odd = self._combine(shifted_downsample(x), features, odd_kernel, odd_rows, odd_columns)
        return ops.concatenate([even, odd], -1)

    def _combine(self, pixels, features, kernel, membership, columns=None):
        """1x1 convolution of the pixels concatenated with their strip's features."""
        inputs = pixels.shape[-1]
        pixel_kernel, strip_kernel = kernel[:, :inputs], kernel[:, inputs:]
        spread = times_constant(membership, ops.einsum("ebph,ehc->ebpc", features, strip_kernel))
        spread = ops.expand_dims(spread, 3)  # the same in all columns
        if columns is not None:
            spread = spread * ops.cast(columns, spread.dtype)[:, None]
        return pointwise(pixels, pixel_kernel) + spread

    def _strip_features(self, x, training: bool):
        """Average pool - ReLU - 1x1 convolution - BN of each strip: `[edges, batch, parts, hidden]`."""
        height, width, channels = x.shape[2:]
        # One product averages rows and columns; the gradient of ops.mean takes ten operations.
        average = np.repeat(self.membership / (width * self.membership.sum(0)), width, axis=0)
        pixels = ops.reshape(x, (self.sources, -1, height * width, channels))
        pooled = ops.relu(times_constant(average.T, pixels))
        kernel = ops.reshape(self.local_kernel, (self.sources, -1, *self.local_kernel.shape[1:]))
        local = ops.einsum("sbpc,sepch->sebph", pooled, kernel)
        flat = ops.reshape(local, (self.edges, -1, 1, 1, local.shape[3] * local.shape[4]))
        flat = flat + ops.reshape(self.local_bias, (self.edges, 1, 1, 1, -1))
        return ops.reshape(self.local_norm(flat, training=training), (self.edges, -1, *local.shape[3:]))

    def _attend(self, features):
        keys_queries = ops.einsum("ebph,ehk->ebpk", features, self.key_query_kernel) + self.key_query_bias
        keys, queries = ops.split(keys_queries, 2, axis=-1)
        attention = ops.softmax(ops.einsum("ebph,ebqh->ebpq", keys, queries), -1)
        return ops.matmul(attention, features)

    def multiply_adds(self, input_shape) -> int:
        # The strips' part of the last convolution is computed once for a strip, not at every pixel.
        edges, parts, inputs, hidden = self.local_kernel.shape
        strips = parts * hidden * (inputs + 2 * hidden + self.channels)
        attention = 2 * parts * parts * hidden  # K Q^T, and the sum that it weighs
        pixels = math.prod(self.compute_output_shape(input_shape)[2:4]) * inputs * self.channels
        return edges * (strips + attention + pixels)

    def plain(self, target: Any) -> Forward:
        scale, offset = self.folded_norm()
        kernel, hidden = (to_array(self.kernel)[0] * scale).astype(np.float32), self.channels // 3
        strips, bias, half = self._plain_strips(target), offset.astype(np.float32), self.channels // 2
        rows, filters = self.membership, (slice(None, half), slice(half, None))

        def combine(
            pixels: Any, features: Any, taken: slice, rows: Array, stride: int = 1, columns: Array | None = None
        ) -> Map:
            convolved = target.convolution(pixels, kernel_1x1(kernel[:-hidden, taken]), bias[taken], stride)
            spread = target.matmul(rows, target.matmul(features, kernel[-hidden:, taken]))
            return as_map(target, target.add_rows(convolved, spread, columns))

        if self.stride == 1:
            return lambda x: combine(x.raw, strips(x), slice(None), rows)
        odd_rows = np.pad(rows, ((0, len(rows) % 2), (0, 0)))[1::2]

        def forward(x: Map) -> Map:
            features, width = target.relu(strips(x)), x.raw.shape[2]
            evens = combine(x.relu, features, filters[0], rows[::2], stride=2)
            columns = np.pad(np.ones(width, np.float32), (0, 1))[1::2] if width % 2 else None
            odds = combine(target.odd_pixels(x.relu), features, filters[1], odd_rows, 1, columns)
            return joined(target, [evens, odds])

        return forward

    def _plain_strips(self, target: Any) -> Callable[[Map], Any]:
        """The strips' features after attention, `[batch, parts, hidden]`."""
        kernel, bias = to_array(self.local_kernel)[0], to_array(self.local_bias)[0, 0]
        scale, offset = (values.reshape(bias.shape) for values in scale_and_offset(self.local_norm))
        local_kernel = (kernel * scale[:, None]).astype(np.float32)
        local_bias = (bias * scale + offset).astype(np.float32)[:, None]
        key_kernel, query_kernel = np.split(to_array(self.key_query_kernel)[0], 2, axis=-1)
        key_bias, query_bias = np.split(to_array(self.key_query_bias).reshape(-1), 2)
        average = (self.membership / self.membership.sum(0)).T.astype(np.float32)

        def forward(x: Map) -> Any:
            pooled = target.transpose(target.relu(target.row_means(x.raw, average)), (1, 0, 2))  # a kernel each
            features = target.transpose(target.add(target.matmul(pooled, local_kernel), local_bias), (1, 0, 2))
            keys = target.add(target.matmul(features, key_kernel), key_bias)
            queries = target.add(target.matmul(features, query_kernel), query_bias)
            attention = target.softmax(target.matmul(keys, target.transpose(queries, (0, 2, 1))))
            return target.matmul(attention, features)

        return forward

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}

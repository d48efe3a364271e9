"""The part-aware module of Auto-ReID (Quan et al., 2019, section 3.2), the candidate made for people."""

from typing import Any

import keras
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.space.edges import EdgeBatchNorm, pointwise, shifted_downsample
from kdas_tf.space.operations import Operation


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

    def build(self, input_shape):
        height, inputs = input_shape[1], input_shape[-1]
        if height < self.parts:
            raise UserError(
                f"part_aware cuts its input into {self.parts} strips and needs as many rows, got {height}. "
                "Use taller images or fewer reduction cells."
            )
        bounds = [int(i * height / self.parts) for i in range(self.parts + 1)]
        self.strips = list(zip(bounds, bounds[1:], strict=False))
        self.rows = [part for part, (start, stop) in enumerate(self.strips) for _ in range(start, stop)]
        edges, hidden = self.edges, self.channels // 3
        self.local_kernel = self.add_kernel("local_kernel", (edges, self.parts, inputs, hidden), inputs)
        self.local_bias = self.add_weight(name="local_bias", shape=(edges, 1, self.parts, hidden), initializer="zeros")
        self.local_norm = EdgeBatchNorm(affine=self.affine, name="local_norm", dtype=self.dtype_policy)
        self.local_norm.build((edges, None, 1, 1, self.parts * hidden))
        self.key_kernel = self.add_kernel("key_kernel", (edges, hidden, hidden), hidden)
        self.query_kernel = self.add_kernel("query_kernel", (edges, hidden, hidden), hidden)
        self.key_bias = self.add_weight(name="key_bias", shape=(edges, 1, 1, hidden), initializer="zeros")
        self.query_bias = self.add_weight(name="query_bias", shape=(edges, 1, 1, hidden), initializer="zeros")
        self.kernel = self.add_kernel("kernel", (edges, inputs + hidden, self.channels), inputs + hidden)
        self.norm = self._add_norm("norm", input_shape, self.channels)

    def call(self, x, training: bool = False):
        features = self._attend(self._strip_features(x, training))  # [edges, batch, parts, hidden]
        if self.stride == 1:
            output = self._combine(x[None], features, self.kernel, self.rows)
        else:
            x, features, half = ops.relu(x)[None], ops.relu(features), self.channels // 2
            even = self._combine(x[:, :, ::2, ::2], features, self.kernel[..., :half], self.rows[::2])
            odd_rows = [*self.rows, self.rows[-1]][1::2] if len(self.rows) % 2 else self.rows[1::2]
            # Where an odd size is padded with zeros, the strips' features are zero too.
            inside = shifted_downsample(ops.ones((1, 1, *x.shape[2:4], 1), x.dtype))
            odd = self._combine(shifted_downsample(x), features, self.kernel[..., half:], odd_rows, inside)
            output = ops.concatenate([even, odd], -1)
        return self.norm(output, training=training)

    def _combine(self, pixels, features, kernel, rows, inside=None):
        """1x1 convolution of the pixels concatenated with their strip's features."""
        inputs = pixels.shape[-1]
        spread = ops.take(pointwise(features, kernel[:, inputs:]), rows, axis=2)[:, :, :, None]
        return pointwise(pixels, kernel[:, :inputs]) + (spread if inside is None else spread * inside)

    def _strip_features(self, x, training: bool):
        """Average pool - ReLU - 1x1 convolution - BN of each strip: `[edges, batch, parts, hidden]`."""
        means = ops.mean(x, 2)  # over the width once, then over each strip's rows
        pooled = ops.relu(ops.stack([ops.mean(means[:, start:stop], 1) for start, stop in self.strips], 1))
        local = ops.einsum("bpc,epcd->ebpd", pooled, self.local_kernel) + self.local_bias
        shape = ops.shape(local)
        flat = ops.reshape(local, (shape[0], shape[1], 1, 1, -1))
        return ops.reshape(self.local_norm(flat, training=training), shape)

    def _attend(self, features):
        keys = pointwise(features, self.key_kernel) + self.key_bias
        queries = pointwise(features, self.query_kernel) + self.query_bias
        return ops.matmul(ops.softmax(ops.matmul(keys, ops.swapaxes(queries, 2, 3)), -1), features)

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}

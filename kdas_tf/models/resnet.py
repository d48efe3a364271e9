"""The hand-made baselines of Table 1: ResNet-18, -34 and -50, not pre-trained, under the student's head."""

from typing import Any

import keras
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.stem import build_all, call_all, conv_norm, normalize

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks in each of the four stages, by depth (He et al., 2016, Table 1)."""

_FILTERS = 64  # of the first stage; they double at each of the next


@keras.saving.register_keras_serializable("kdas_tf")
class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions, or 1x1 - 3x3 - 1x1 with four times the filters at the end, added to the input.

    ReLU follows every normalisation but the last, and the sum. The stride is in the first 3x3 convolution, as in
    torchvision. Where stride or channels change, the input goes through a 1x1 convolution and BN (He et al., 2016,
    option B).

    Args:
        filters: of the 3x3 convolutions.
        stride: 1 or 2.
        bottleneck: the block of three convolutions, of ResNet-50.
        conv_bias: offsets in the convolutions.

    Input shape: `[batch, height, width, channels]`.
    Output shape: `[batch, ceil(height / stride), ceil(width / stride), filters, times 4 in a bottleneck]`.
    """

    def __init__(self, filters: int, *, stride: int = 1, bottleneck: bool = False, conv_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride
        self.bottleneck = bottleneck
        self.conv_bias = conv_bias
        self.channels = filters * (4 if bottleneck else 1)
        if bottleneck:
            self.convolutions = [
                *self._conv_norm(filters, 1, kernel_size=1, name="reduce", relu=True),
                *self._conv_norm(filters, stride, name="middle", relu=True),
                *self._conv_norm(self.channels, 1, kernel_size=1, name="expand", relu=False),
            ]
        else:
            self.convolutions = [
                *self._conv_norm(filters, stride, name="first", relu=True),
                *self._conv_norm(filters, 1, name="second", relu=False),
            ]

    def _conv_norm(self, filters: int, stride: int, **arguments: Any) -> list[keras.layers.Layer]:
        return conv_norm(filters, stride, use_bias=self.conv_bias, dtype=self.dtype_policy, **arguments)

    def build(self, input_shape):
        self.shortcut = []
        if self.stride != 1 or input_shape[-1] != self.channels:
            self.shortcut = self._conv_norm(self.channels, self.stride, kernel_size=1, name="shortcut", relu=False)
        build_all(self.convolutions, input_shape)
        build_all(self.shortcut, input_shape)

    def call(self, x, training: bool = False):
        return ops.relu(call_all(self.convolutions, x, training) + call_all(self.shortcut, x, training))

    def compute_output_shape(self, input_shape):
        batch, *size = input_shape[:3]
        return (batch, *(None if n is None else -(-n // self.stride) for n in size), self.channels)

    def get_config(self):
        names = ("filters", "stride", "bottleneck", "conv_bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("kdas_tf")
class ResNet(keras.Model):
    """ResNet-18, -34 or -50 (He et al., 2016) under a BN neck and a classifier.

    Args:
        depth: 18, 34 or 50.
        num_identities: number of training identities.
        image_size: (height, width) of the input in pixels; the weights fit any.
        last_stride: 1 keeps the resolution of the last stage (Luo et al., 2019); None leaves it at 2.
        conv_bias: offsets in the convolutions, as in keras.applications. The normalisations after them make them
            superfluous, but they belong to the paper's count: ResNet-50 has 25.07 M trainable parameters at 751
            identities with them, and 25.05 M (25.0) as in torchvision, without.

    Input shape: `[batch, height, width, 3]`, RGB in 0..255. Output: `ReIDOutput`.

    Raises:
        UserError: another depth or last stride, or images below 8 pixels.
    """

    def __init__(
        self,
        depth: int,
        num_identities: int,
        *,
        image_size: tuple[int, int] = (384, 128),
        last_stride: int | None = None,
        conv_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if depth not in BLOCKS or last_stride not in (None, 1, 2) or len(image_size) != 2 or min(image_size) < 8:
            raise UserError(
                f"Expected a ResNet's depth to be one of {', '.join(map(str, BLOCKS))}, its last_stride to be 1, 2 or "
                "None, and an image_size (height, width) of at least 8 pixels each, "
                f"got depth={depth}, last_stride={last_stride}, image_size={tuple(image_size)}."
            )
        self.depth = depth
        self.num_identities = num_identities
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.last_stride = last_stride
        self.conv_bias = conv_bias
        dtype = self.dtype_policy
        self.stem = [
            *conv_norm(_FILTERS, 2, kernel_size=7, name="stem", relu=True, use_bias=conv_bias, dtype=dtype),
            keras.layers.ZeroPadding2D(1, name="pool_pad", dtype=dtype),  # zeros never win: a ReLU comes before
            keras.layers.MaxPooling2D(3, 2, name="pool", dtype=dtype),
        ]
        strides = (1, 2, 2, last_stride or 2)
        self.blocks = [
            ResidualBlock(
                _FILTERS * 2**stage,
                stride=strides[stage] if i == 0 else 1,
                bottleneck=depth == 50,
                conv_bias=conv_bias,
                name=f"stage_{stage + 1}_block_{i + 1}",
                dtype=dtype,
            )
            for stage, number in enumerate(BLOCKS[depth])
            for i in range(number)
        ]
        self.head = ReIDHead(num_identities, name="head", dtype=dtype)
        self.build((None, *self.image_size, 3))

    def build(self, input_shape):
        self.head.build(build_all(self.blocks, build_all(self.stem, input_shape)))
        self.built = True

    def build_from_config(self, config):
        """Does nothing: a network is built when it is made."""

    def call(self, images, training: bool = False):
        x = call_all(self.stem, normalize(ops.cast(images, self.compute_dtype)), training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(x, training=training)

    def get_config(self):
        names = ("depth", "num_identities", "image_size", "last_stride", "conv_bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

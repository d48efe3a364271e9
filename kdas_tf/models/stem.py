"""What every network of this project begins with: pixels to a first feature map."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.formats import IMAGENET_MEAN, IMAGENET_STD


def normalize(images):
    """Centres and scales RGB images from 0..255 with ImageNet's statistics; the networks take raw pixels."""
    # Whole rows of pixels: on CPUs, TensorFlow takes four times as long to repeat three numbers along an axis of three.
    width = images.shape[-2] or 1
    mean, deviation = (
        ops.cast(np.tile(np.array(pixel, np.float32), (width, 1)), images.dtype)
        for pixel in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images - mean) / deviation


def conv_norm(
    filters: int, stride: int, *, name: str, relu: bool, dtype: Any, kernel_size: int = 3, use_bias: bool = False
) -> list[keras.layers.Layer]:
    """Convolution with symmetric padding - BN - ReLU if asked for."""
    padding = [keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad", dtype=dtype)] if kernel_size > 1 else []
    conv = keras.layers.Conv2D(
        filters,
        kernel_size,
        stride,
        use_bias=use_bias,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
        dtype=dtype,
    )
    norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm", dtype=dtype)
    return [*padding, conv, norm, *([keras.layers.ReLU(name=f"{name}_relu", dtype=dtype)] if relu else [])]


def build_all(layers: Sequence[keras.layers.Layer], input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Builds layers that follow one another; returns the shape of their output."""
    for layer in layers:
        layer.build(input_shape)
        input_shape = layer.compute_output_shape(input_shape)
    return input_shape


def call_all(layers: Sequence[keras.layers.Layer], x, training: bool):
    """Calls layers that follow one another."""
    for layer in layers:
        x = layer(x, training=training) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)
    return x


@keras.saving.register_keras_serializable("kdas_tf")
class Stem(keras.layers.Layer):
    """Three 3x3 convolutions that bring an image to a quarter of its size ("inet4" of AutoDL-Projects).

    3x3 stride 2 to channels // 2, BN, ReLU; 3x3 stride 2 to channels, BN, ReLU; 3x3 to channels, BN.

    Args:
        channels: channels of the output, C in the paper.

    Input shape: `[batch, height, width, 3]`, RGB in 0..255.
    Output shape: `[batch, ceil(height / 4), ceil(width / 4), channels]`.
    """

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.blocks = self.make_blocks(channels)

    def make_blocks(self, channels: int) -> list[keras.layers.Layer]:
        """Makes the layers that follow the centring of the pixels."""
        dtype = self.dtype_policy
        return [
            *conv_norm(channels // 2, 2, name="first", relu=True, dtype=dtype),
            *conv_norm(channels, 2, name="second", relu=True, dtype=dtype),
            *conv_norm(channels, 1, name="third", relu=False, dtype=dtype),
        ]

    def build(self, input_shape):
        build_all(self.blocks, input_shape)

    def call(self, images, training: bool = False):
        return call_all(self.blocks, normalize(images), training)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, -(-height // 4), -(-width // 4), self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("kdas_tf")
class CifarStem(Stem):
    """One 3x3 convolution to 3 * channels, BN: keeps the size of small images (DARTS, `model.py:NetworkCIFAR`).

    The cells then work at sixteen times as many positions as behind `Stem`.

    Output shape: `[batch, height, width, 3 * channels]`.
    """

    def make_blocks(self, channels: int) -> list[keras.layers.Layer]:
        return conv_norm(3 * channels, 1, name="first", relu=False, dtype=self.dtype_policy)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], 3 * self.channels)


STEMS: Mapping[str, type[Stem]] = {"inet4": Stem, "cifar": CifarStem}
"""The stems that a network of cells can have, by name."""

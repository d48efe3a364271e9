"""What every network of this project begins with: pixels to a first feature map."""

from typing import Any

import keras
from keras import ops

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's RGB values in 0..255 (torchvision's, times 255)."""


def normalize(images):
    """Centres and scales RGB images from 0..255 with ImageNet's statistics; the networks take raw pixels."""
    mean = ops.cast(IMAGENET_MEAN, images.dtype)
    return (images - mean) / ops.cast(IMAGENET_STD, images.dtype)


def conv_norm(filters: int, stride: int, *, name: str, relu: bool, dtype: Any) -> list[keras.layers.Layer]:
    """3x3 convolution with symmetric padding - BN - ReLU if asked for."""
    layers = [
        keras.layers.ZeroPadding2D(1, name=f"{name}_pad", dtype=dtype),
        keras.layers.Conv2D(
            filters, 3, stride, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv", dtype=dtype
        ),
        keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm", dtype=dtype),
    ]
    return [*layers, keras.layers.ReLU(name=f"{name}_relu", dtype=dtype)] if relu else layers


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
        dtype = self.dtype_policy
        self.blocks = [
            *conv_norm(channels // 2, 2, name="first", relu=True, dtype=dtype),
            *conv_norm(channels, 2, name="second", relu=True, dtype=dtype),
            *conv_norm(channels, 1, name="third", relu=False, dtype=dtype),
        ]

    def build(self, input_shape):
        for layer in self.blocks:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, images, training: bool = False):
        x = normalize(images)
        for layer in self.blocks:
            x = layer(x, training=training) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)
        return x

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, -(-height // 4), -(-width // 4), self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}

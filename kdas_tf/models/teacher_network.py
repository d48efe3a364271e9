"""The teacher: a backbone of keras.applications with the student's head, or logits that somebody else computed."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.files import DAMAGE
from kdas_tf.models.heads import ReIDHead

_RESNET_LAST_STAGE = "conv5_block1_"


def backbones() -> dict[str, tuple[Callable[..., keras.Model], Callable[..., Any]]]:
    """Names the backbones of keras.applications: {name: (constructor, preprocess_input)}."""
    found: dict[str, tuple[Callable[..., keras.Model], Callable[..., Any]]] = {}
    for name, constructor in inspect.getmembers(keras.applications, inspect.isfunction):
        if name[0].isupper():  # its preprocess_input is in the public module that is named after its own
            module = getattr(keras.applications, constructor.__module__.rpartition(".")[2])
            found[name] = (constructor, module.preprocess_input)
    return found


@keras.saving.register_keras_serializable("kdas_tf")
class Teacher(keras.Model):
    """A keras.applications backbone under a BN neck and a classifier, fine-tuned for Re-ID (section 3.2.2).

    Args:
        backbone: name of a constructor in keras.applications.
        num_identities: number of training identities.
        image_size: (height, width) that the backbone sees, in pixels; other images are resized to it.
        weights: "imagenet" (downloaded by Keras), a file of weights without top, or None.
        last_stride: 1 keeps the resolution of ResNet's last stage (Luo et al., 2019); None leaves the backbone as is.
        backbone_arguments: more arguments of the constructor, for example {"alpha": 0.35}.

    Input shape: `[batch, height, width, 3]`, RGB in 0..255. Output: `ReIDOutput`.

    Raises:
        UserError: no such backbone, weights that cannot be read or do not fit, a last_stride it cannot have.
    """

    def __init__(
        self,
        backbone: str,
        num_identities: int,
        *,
        image_size: tuple[int, int] = (384, 128),
        weights: str | None = None,
        last_stride: int | None = None,
        backbone_arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = {
            "backbone": backbone,
            "num_identities": num_identities,
            "image_size": tuple(image_size),
            "last_stride": last_stride,
            "backbone_arguments": dict(backbone_arguments or {}),
        }
        known = backbones()
        if backbone not in known:
            raise UserError(
                f"Expected a backbone of keras.applications ({', '.join(sorted(known))}), got {backbone!r}.",
                code="choice",
            )
        constructor, self.preprocess = known[backbone]
        made = _make_backbone(constructor, weights, image_size, self.config["backbone_arguments"])
        # Assigned once: Keras would keep the weights of a backbone that another one replaces.
        self.backbone = made if last_stride is None else _with_last_stride(made, last_stride)
        self.head = ReIDHead(num_identities, name="head", dtype=self.dtype_policy)
        self.head.build(self.backbone.output_shape)
        self.built = True

    def call(self, images, training: bool = False):
        images = ops.cast(images, self.compute_dtype)
        if tuple(images.shape[1:3]) != self.config["image_size"]:
            images = ops.image.resize(images, self.config["image_size"], interpolation="bilinear")
        return self.head(self.backbone(self.preprocess(images), training=training), training=training)

    def get_config(self):
        return {**super().get_config(), **self.config}


def _make_backbone(constructor, weights, image_size, arguments) -> keras.Model:
    """Builds the backbone and loads its weights, with errors for people."""
    path = None if weights in (None, "imagenet") else Path(str(weights))
    if path is not None and not path.is_file():
        raise UserError(
            f'Expected weights to be "imagenet", a file or None, but there is no file {path}.', code="missing"
        )
    try:
        backbone = constructor(
            include_top=False, weights=weights if path is None else None, input_shape=(*image_size, 3), **arguments
        )
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"keras.applications cannot make the teacher's backbone: {_first_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception or path is not None or weights is None:  # what Keras' download raises
            raise
        raise UserError(
            f"Expected the ImageNet weights of {constructor.__name__} to be downloaded by Keras, but: "
            f"{_first_line(error)}. Download that file where there is a network and give it, "
            "--gin_param=\"BACKBONE_WEIGHTS='FILE'\", or start from nothing with --gin_param='BACKBONE_WEIGHTS=None'."
        ) from error
    if path is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one a layer, before the error that says the same
                backbone.load_weights(path)
        except DAMAGE as error:
            raise UserError(
                f"The weights in {path} do not fit {constructor.__name__} without top: {_first_line(error)}",
                code="damaged",
            ) from error
    return backbone


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _with_last_stride(backbone: keras.Model, stride: int) -> keras.Model:
    """Rebuilds a ResNet with another stride in its last stage; the weights stay."""
    last = [
        layer.name
        for layer in backbone.layers
        if layer.name.startswith(_RESNET_LAST_STAGE) and tuple(getattr(layer, "strides", ())) == (2, 2)
    ]
    if stride not in (1, 2) or not last:
        raise UserError(
            "last_stride can be 1 or 2, and only for ResNet50, ResNet101 and ResNet152, "
            f"got {stride} for {backbone.name}."
        )

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name in last:
            config["strides"] = (stride, stride)
        return type(layer).from_config(config)

    changed = keras.models.clone_model(backbone, clone_function=clone)
    changed.set_weights(backbone.get_weights())
    return changed


@keras.saving.register_keras_serializable("kdas_tf")
class TeacherTable(keras.layers.Layer):
    """A teacher that was run before: a table of logits, looked up by image.

    Args:
        logits: `[training images, identities]`.

    Call arguments: positions of images in the training split, `[batch]`. Output: logits `[batch, identities]`.
    """

    def __init__(self, logits: np.ndarray, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.table = self.add_weight(name="logits", shape=logits.shape, trainable=False, autocast=False)
        self.table.assign(logits)
        self.built = True

    def call(self, index):
        return ops.take(self.table, index, axis=0)

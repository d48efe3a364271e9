"""The exported module: signatures over plain functions, saved as a SavedModel."""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kdas_tf.data.transforms import check_image_size
from kdas_tf.serving import images
from kdas_tf.serving.graphs.plain import plain_network

OUTPUT, ERROR = "embedding", "error"
SIGNATURES = ("serving_default", "embed", "embed_jpeg")
NORMALIZATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BatchNormWithGlobalNormalization")


class Embedder(tf.Module):
    """A network for inference with its preprocessing.

    Its variables become constants of the graph: a runtime then arranges kernels once, not at every request.

    Example:
        Embedder(network, image_size=(384, 128)).save("export/kdas_reid/1")

    Args:
        network: a `Student`, a `ResNet` or a `Teacher`.
        image_size: (height, width) in pixels that the network sees.
        max_pixels: height times width of an encoded image at most.
        tells_errors: a second output, `error`, tells what is wrong with each image, whose embedding is of zeros then;
            otherwise, as in exports before version 0.2, a wrong image fails all of a request, and of a server's batch.

    Raises:
        UserError: another kind of network, or a wrong size.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        image_size: tuple[int, int],
        max_pixels: int = images.MAX_PIXELS,
        tells_errors: bool = True,
    ):
        super().__init__(name="embedder")
        self.image_size, self.max_pixels, self.tells_errors = check_image_size(image_size), max_pixels, tells_errors
        self._embedding = _frozen(plain_network(network), [None, *self.image_size, 3])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")], autograph=False)
    def embed(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds RGB images `[batch, height, width, 3]` of any size: `[batch, D]`, rows of length 1."""
        return self._answer(*images.resize(pixels, self.image_size))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def embed_jpeg(self, contents: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds JPEG or PNG files `[batch]`, which may be of different sizes."""
        return self._answer(*images.decode(contents, self.image_size, max_pixels=self.max_pixels))

    def _answer(self, resized: tf.Tensor, errors: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the signatures give: rows of length 1, of zeros for images with an error; and the errors `[batch]`."""
        is_well = errors == ""
        if not self.tells_errors:
            wrong = tf.boolean_mask(errors, ~is_well)
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(is_well), [wrong])]):
                return {OUTPUT: normalized(self._embedding(tf.identity(resized)))}
        rows = normalized(self._embedding(resized))
        return {OUTPUT: tf.where(is_well[:, tf.newaxis], rows, tf.zeros_like(rows)), ERROR: errors}

    def save(self, folder: Path | str) -> None:
        """Writes a SavedModel with the signatures `SIGNATURES`; `serving_default` is `embed`."""
        embed = self.embed.get_concrete_function()
        signatures = {"serving_default": embed, "embed": embed, "embed_jpeg": self.embed_jpeg}
        tf.saved_model.save(self, str(folder), signatures=signatures)


def normalized(embedding: tf.Tensor) -> tf.Tensor:
    """Scales rows to length 1, as `kdas_tf.evaluation.features` does."""
    return embedding / tf.maximum(tf.norm(embedding, axis=1, keepdims=True), 1e-12)


def _frozen(forward: Callable[..., tf.Tensor], shape: list[int | None]) -> Callable[..., tf.Tensor]:
    """A function in which every variable is a constant."""
    spec = tf.TensorSpec(shape, tf.float32, name="images")
    function = tf.function(forward, autograph=False).get_concrete_function(spec)
    if not function.variables:
        return function
    frozen = convert_variables_to_constants_v2(function)
    return lambda x: tf.ensure_shape(frozen(x)[0], function.structured_outputs.shape)


def count_operations(folder: Path | str) -> dict[str, int]:
    """Counts the operations of a SavedModel by type, in its graph and in all its functions."""
    content = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
    graph = content.meta_graphs[0].graph_def
    nodes: list[Any] = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return collections.Counter(node.op for node in nodes)


def normalizations_left(folder: Path | str) -> int:
    """Number of batch normalisations in a SavedModel."""
    return sum(number for name, number in count_operations(folder).items() if name in NORMALIZATIONS)

"""Requests that TensorFlow Serving sends to a model before it serves it, so that nobody waits for the first answer.

The file is read by TensorFlow Serving (`saved_model_warmup_util.cc`): `assets.extra/tf_serving_warmup_requests`, a
TFRecord of `tensorflow.serving.PredictionLog`, at most 1000. A request that fails keeps the model from being served, so
no batch may be larger than the server's largest.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

FILE = "assets.extra/tf_serving_warmup_requests"
PACKAGE = "tensorflow-serving-api"


def available() -> bool:
    """Whether the package is installed that defines the format."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write(folder: Path, *, name: str, image_size: tuple[int, int], batch_sizes: Sequence[int]) -> int:
    """Writes grey images of every size of batch, for both ways of sending them, into a SavedModel's folder.

    Needs `available()`; `image_size` is (height, width) in pixels; returns the number of requests.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    height, width = image_size
    # Twice the size, because most requests shrink their images. A file of one grey is small.
    file = tf.io.encode_jpeg(np.full((2 * height, 2 * width, 3), 128, np.uint8)).numpy()
    requests = []
    for batch in batch_sizes:
        # A tensor proto repeats its last value: a grey image takes a few bytes.
        pixels = tf.make_tensor_proto(128, tf.uint8, [batch, height, width, 3])
        contents = tf.make_tensor_proto([file] * batch, tf.string, [batch])
        requests += [("serving_default", "images", pixels), ("embed", "images", pixels)]
        requests.append(("embed_jpeg", "image_bytes", contents))
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for signature, argument, tensor in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = name, signature
            request.inputs[argument].CopyFrom(tensor)
            writer.write(log.SerializeToString())
    return len(requests)

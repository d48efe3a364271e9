"""The part of TensorFlow Serving's messages that a client needs, without TensorFlow.

The official messages (tensorflow-serving-api) import all of TensorFlow: 600 MB on disk and seconds at every start. On
the wire these are the same: fields have the numbers and types of `predict.proto`, `model.proto` and `tensor.proto`,
which a test compares with the official package. They are in a pool of their own, so both can be loaded in one process.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FLOAT, STRING = 1, 7  # tensorflow.DataType

MESSAGES = {
    "Dim": {"size": (1, "int64")},
    "TensorShapeProto": {"dim": (2, "Dim[]")},
    "TensorProto": {
        "dtype": (1, "int32"),  # an enum there: the same on the wire
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "float[]"),
        "string_val": (8, "bytes[]"),
    },
    "NamedTensor": {"key": (1, "string"), "value": (2, "TensorProto")},  # a map there: the same on the wire
    "Version": {"value": (1, "int64")},  # google.protobuf.Int64Value
    "ModelSpec": {"name": (1, "string"), "version": (2, "Version"), "signature_name": (3, "string")},
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "NamedTensor[]"),
        "output_filter": (3, "string[]"),
    },
    "PredictResponse": {"outputs": (1, "NamedTensor[]"), "model_spec": (2, "ModelSpec")},
}


def classes(messages: Mapping[str, Mapping[str, tuple[int, str]]]) -> dict[str, Any]:
    """Makes classes of messages, given as {message: {field: (number, type)}}.

    A type is a scalar of protobuf or another of the messages; [] after it says that the field is repeated.
    """
    proto, package = descriptor_pb2.FieldDescriptorProto, "kdas_tf.client"
    file = descriptor_pb2.FileDescriptorProto(name="kdas_tf/client.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = proto.LABEL_REPEATED if kind.endswith("[]") else proto.LABEL_OPTIONAL
            kind = kind.removesuffix("[]")
            if kind in messages:
                field.type, field.type_name = proto.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = proto.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClassesForFiles([file.name], pool)
    return {name: made[f"{package}.{name}"] for name in messages}


_CLASSES = classes(MESSAGES)
PredictRequest, PredictResponse = _CLASSES["PredictRequest"], _CLASSES["PredictResponse"]


def strings(contents: list[bytes]) -> dict[str, Any]:
    """The fields of a `TensorProto` of strings `[len(contents)]`."""
    return {"dtype": STRING, "tensor_shape": {"dim": [{"size": len(contents)}]}, "string_val": contents}


def texts(tensor: Any) -> list[str]:
    """The strings in a `TensorProto` `[n]`; raises ValueError where it has another type."""
    if tensor.dtype != STRING:
        raise ValueError(f"a tensor of type {tensor.dtype}, not of strings")
    return [value.decode("utf-8", "replace") for value in tensor.string_val]


def floats(tensor: Any) -> npt.NDArray[np.float32]:
    """The array in a `TensorProto` of float32, as bytes or as a list of numbers.

    Raises:
        ValueError: the tensor has another type, or its shape is not that of its values.
    """
    if tensor.dtype != FLOAT:
        raise ValueError(f"a tensor of type {tensor.dtype}, not of float32")
    values = np.frombuffer(tensor.tensor_content, "<f4") if tensor.tensor_content else np.array(tensor.float_val)
    return values.reshape([dim.size for dim in tensor.tensor_shape.dim]).astype(np.float32)

"""The part of TensorFlow Serving's messages that a client needs, without TensorFlow.

The official ones (tensorflow-serving-api) import all of TensorFlow: 600 MB on disk and seconds at every start. On the
wire these are the same: fields have the numbers and types of `predict.proto`, `model.proto` and `tensor.proto`, which a
test compares with the official package. They live in a pool of their own, so both can be loaded in one process.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FLOAT, STRING = 1, 7  # tensorflow.DataType

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}
# {message: {field: (number, type)}}. Types in capitals are messages; [] is repeated; {} is a map from strings.
FIELDS = {
    "Dim": {"size": (1, "int64")},
    "TensorShapeProto": {"dim": (2, "Dim[]"), "unknown_rank": (3, "bool")},
    "TensorProto": {
        "dtype": (1, "int32"),  # an enum there: the same on the wire
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "float[]"),
        "string_val": (8, "bytes[]"),
    },
    "ModelSpec": {"name": (1, "string"), "version": (2, "Int64Value"), "signature_name": (3, "string")},
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "TensorProto{}"),
        "output_filter": (3, "string[]"),
    },
    "PredictResponse": {"outputs": (1, "TensorProto{}"), "model_spec": (2, "ModelSpec")},
}
_PACKAGE = "kdas_tf.serving"


def _set_type(field: Any, kind: str) -> None:
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = ".google.protobuf.Int64Value" if kind == "Int64Value" else f".{_PACKAGE}.{kind}"


def _add_map(message: Any, field: Any, kind: str) -> None:
    """A map is a repeated message of a key and a value (protobuf's encoding guide, "Maps")."""
    entry = message.nested_type.add(name="".join(part.title() for part in field.name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (name, value) in enumerate({"key": "string", "value": kind}.items(), 1):
        _set_type(entry.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL), value)
    field.label, field.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
    field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="kdas_tf/serving/client.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
            if kind.endswith("{}"):
                _add_map(message, field, kind[:-2])
            else:
                field.label = _Field.LABEL_REPEATED if kind.endswith("[]") else _Field.LABEL_OPTIONAL
                _set_type(field, kind.removesuffix("[]"))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in FIELDS}


_CLASSES = _classes()
PredictRequest: Any = _CLASSES["PredictRequest"]
PredictResponse: Any = _CLASSES["PredictResponse"]


def fill_strings(tensor: Any, contents: list[bytes]) -> None:
    """Makes a `TensorProto` hold strings `[len(contents)]`."""
    tensor.dtype = STRING
    tensor.tensor_shape.dim.add(size=len(contents))
    tensor.string_val.extend(contents)


def floats(tensor: Any) -> npt.NDArray[np.float32]:
    """The array in a `TensorProto` of float32, in either of the two ways to write it.

    Raises:
        ValueError: it holds something else.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype != FLOAT or tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"a tensor of type {tensor.dtype} and shape {shape}, not of float32")
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, "<f4")
    else:  # the last value stands for all that are missing (tensor.proto)
        values = np.array(tensor.float_val, np.float32)
        missing = int(np.prod(shape, dtype=np.int64)) - len(values)
        values = np.pad(values, (0, missing), mode="edge") if len(values) and 0 < missing < 1 << 24 else values
    return values.reshape(shape).astype(np.float32)

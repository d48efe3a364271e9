"""The client's messages against those of tensorflow-serving-api."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor

from kdas_tf.client import messages as messages

predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")


def disagreements(ours, official, seen=()):
    """Fields whose number, kind of wire type, repetition or inner fields differ; ours may have fewer."""
    if ours.full_name in seen:
        return []
    problems = []
    for field in ours.fields:
        other = official.fields_by_name.get(field.name)
        if other is None or field.number != other.number:
            problems.append(f"{ours.name}.{field.name} is {other.number if other else 'not there'}")
            continue
        kind = {descriptor.FieldDescriptor.TYPE_ENUM: descriptor.FieldDescriptor.TYPE_INT32}.get(other.type, other.type)
        if (field.type, field.is_repeated, field.is_packed) != (kind, other.is_repeated, other.is_packed):
            problems.append(f"{ours.name}.{field.name} has type {other.type}")
        if field.message_type and other.message_type:
            inner = disagreements(field.message_type, other.message_type, (*seen, ours.full_name))
            problems += inner
            if field.message_type.GetOptions().map_entry != other.message_type.GetOptions().map_entry:
                problems.append(f"{ours.name}.{field.name} is or is not a map")
    return problems


@pytest.mark.parametrize("name", ["PredictRequest", "PredictResponse"])
def test_fields_are_those_of_the_official_messages(name):
    official = getattr(predict_pb2, name).DESCRIPTOR
    assert disagreements(getattr(messages, name).DESCRIPTOR, official) == []


def test_a_field_that_differs_would_be_found():
    found = disagreements(messages.PredictRequest.DESCRIPTOR, predict_pb2.PredictResponse.DESCRIPTOR)
    assert any("PredictRequest.inputs" in problem for problem in found)
    found = disagreements(messages.PredictResponse.DESCRIPTOR, predict_pb2.PredictRequest.DESCRIPTOR)
    assert any("PredictResponse.model_spec is 1" in problem for problem in found)


def test_a_request_is_read_by_the_official_messages():
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "doors", "embed_jpeg"
    request.model_spec.version.value = 7
    messages.fill_strings(request.inputs["image_bytes"], [b"\xff\x00\x00", b""])
    request.output_filter.append("embedding")
    read = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert (read.model_spec.name, read.model_spec.signature_name) == ("doors", "embed_jpeg")
    assert read.model_spec.version.value == 7
    assert tf.make_ndarray(read.inputs["image_bytes"]).tolist() == [b"\xff\x00\x00", b""]
    assert list(read.output_filter) == ["embedding"]


@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (1, 1)])
@pytest.mark.parametrize("as_fields", [False, True])
def test_an_answer_of_the_official_messages_is_read(shape, as_fields):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    response = predict_pb2.PredictResponse()
    response.outputs["embedding"].CopyFrom(tf.make_tensor_proto(array))
    if as_fields:
        response.outputs["embedding"].ClearField("tensor_content")
        del response.outputs["embedding"].float_val[:]
        response.outputs["embedding"].float_val.extend(array.ravel().tolist())
    read = messages.PredictResponse.FromString(response.SerializeToString())
    np.testing.assert_array_equal(messages.floats(read.outputs["embedding"]), array)


def test_a_tensor_that_repeats_its_last_value_is_read():
    official = tf.make_tensor_proto(2.5, tf.float32, [2, 3])
    assert len(official.float_val) == 1
    response = predict_pb2.PredictResponse()
    response.outputs["embedding"].CopyFrom(official)
    read = messages.PredictResponse.FromString(response.SerializeToString())
    np.testing.assert_array_equal(messages.floats(read.outputs["embedding"]), np.full((2, 3), 2.5))


@pytest.mark.parametrize(
    "tensor",
    [
        tf.make_tensor_proto([1, 2], tf.int32),
        tf.make_tensor_proto([b"a"], tf.string),
        tf.make_tensor_proto([1.0, 2.0], tf.float64),
    ],
)
def test_other_tensors_are_refused(tensor):
    response = predict_pb2.PredictResponse()
    response.outputs["embedding"].CopyFrom(tensor)
    read = messages.PredictResponse.FromString(response.SerializeToString()).outputs["embedding"]
    with pytest.raises(ValueError, match="not of float32"):
        messages.floats(read)


def test_a_shape_that_is_not_that_of_the_values_is_refused():
    response = messages.PredictResponse()
    tensor = response.outputs["embedding"]
    tensor.dtype = messages.FLOAT
    for size in (1 << 40, 1 << 40):
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.append(1.0)
    with pytest.raises(ValueError, match=r"reshape|array"):
        messages.floats(tensor)

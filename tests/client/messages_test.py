"""The client's messages against those of tensorflow-serving-api."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor

from kdas_tf.client import messages

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
            problems += disagreements(field.message_type, other.message_type, (*seen, ours.full_name))
    return problems


@pytest.mark.parametrize("name", ["PredictRequest", "PredictResponse"])
def test_fields_are_those_of_the_official_messages(name):
    official = getattr(predict_pb2, name).DESCRIPTOR
    assert disagreements(getattr(messages, name).DESCRIPTOR, official) == []


def test_a_request_is_read_by_the_official_messages():
    request = messages.PredictRequest(
        model_spec={"name": "doors", "version": {"value": 7}, "signature_name": "embed_jpeg"},
        inputs=[{"key": "image_bytes", "value": messages.strings([b"\xff\x00\x00", b""])}],
        output_filter=["embedding"],
    )
    read = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert (read.model_spec.name, read.model_spec.signature_name) == ("doors", "embed_jpeg")
    assert read.model_spec.version.value == 7
    assert tf.make_ndarray(read.inputs["image_bytes"]).tolist() == [b"\xff\x00\x00", b""]
    assert list(read.output_filter) == ["embedding"]


def read_back(tensor):
    """What the client reads in a response of the official messages."""
    response = predict_pb2.PredictResponse()
    response.outputs["embedding"].CopyFrom(tensor)
    (output,) = messages.PredictResponse.FromString(response.SerializeToString()).outputs
    assert output.key == "embedding"
    return messages.floats(output.value)


@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (1, 1)])
def test_an_answer_of_the_official_messages_is_read_in_both_forms(shape):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tensor = tf.make_tensor_proto(array)
    np.testing.assert_array_equal(read_back(tensor), array)
    tensor.ClearField("tensor_content")
    tensor.ClearField("float_val")
    tensor.float_val.extend(array.ravel().tolist())
    np.testing.assert_array_equal(read_back(tensor), array)


@pytest.mark.parametrize("value", [np.int32([1, 2]), [b"a"], np.float64([1.0, 2.0])])
def test_other_tensors_are_refused(value):
    with pytest.raises(ValueError, match="not of float32"):
        read_back(tf.make_tensor_proto(value))


def test_a_shape_that_is_not_that_of_the_values_is_refused():
    with pytest.raises(ValueError, match=r"reshape|array"):
        read_back(tf.make_tensor_proto(2.5, tf.float32, [1 << 40, 1 << 20]))

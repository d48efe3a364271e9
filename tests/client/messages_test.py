"""The client's messages against those of tensorflow-serving-api."""

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.client import messages

predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")


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


def test_other_tensors_and_a_shape_that_is_not_that_of_the_values_are_refused():
    for value in (np.int32([1, 2]), [b"a"], np.float64([1.0, 2.0])):
        with pytest.raises(ValueError, match="not of float32"):
            read_back(tf.make_tensor_proto(value))
    with pytest.raises(ValueError, match=r"reshape|array"):
        read_back(tf.make_tensor_proto(2.5, tf.float32, [1 << 40, 1 << 20]))

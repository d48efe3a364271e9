import collections

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.serving import warmup
from kdas_tf.serving.embedder import SIGNATURES, Embedder
from tests.serving import networks

prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")


def test_every_request_is_answered_by_the_exported_model(tmp_path):
    Embedder(networks.student(), image_size=networks.SIZE).save(tmp_path)
    number = warmup.write(tmp_path, name="doors", image_size=networks.SIZE, batch_sizes=(1, 3))
    signatures = tf.saved_model.load(str(tmp_path)).signatures
    answered = collections.Counter()
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "doors"
        assert not request.model_spec.HasField("version")
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        found = signatures[request.model_spec.signature_name](**inputs)["embedding"].numpy()
        assert np.isfinite(found).all()
        answered[request.model_spec.signature_name, len(found)] += 1
    assert answered == {(name, batch): 1 for name in SIGNATURES for batch in (1, 3)}
    assert number == answered.total() <= 1000
    assert path.stat().st_size < 20_000

import pytest
from google.protobuf import text_format

from kdas_tf.client import messages
from kdas_tf.errors import UserError
from kdas_tf.serving import server_config

# Of TensorFlow Serving's session_bundle_config.proto and monitoring_config.proto, which tensorflow-serving-api has not.
CLASSES = messages.classes(
    {
        "Int64Value": {"value": (1, "int64")},
        "BatchingParameters": {
            "max_batch_size": (1, "Int64Value"),
            "batch_timeout_micros": (2, "Int64Value"),
            "max_enqueued_batches": (3, "Int64Value"),
            "num_batch_threads": (4, "Int64Value"),
            "allowed_batch_sizes": (6, "int64[]"),
        },
        "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
        "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    }
)


def test_the_server_reads_which_models_there_are_how_to_make_batches_and_that_it_must_count(tmp_path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    server_config.write(tmp_path, ["doors", "gates"], base_path="/models/", batch_sizes=(1, 4, 12))
    models = text_format.Parse((tmp_path / "models.config").read_text(), config.ModelServerConfig()).model_config_list
    entries = [(model.name, model.base_path, model.model_platform) for model in models.config]
    assert entries == [("doors", "/models/doors", "tensorflow"), ("gates", "/models/gates", "tensorflow")]
    assert all(model.model_version_policy.latest.num_versions == 1 for model in models.config)
    content = text_format.Parse((tmp_path / "batching.config").read_text(), CLASSES["BatchingParameters"]())
    assert content.max_batch_size.value == 12
    assert list(content.allowed_batch_sizes) == [1, 4, 12]  # the last must be the largest batch
    assert (content.batch_timeout_micros.value, content.max_enqueued_batches.value) == (2000, 64)
    assert content.num_batch_threads.value == 4
    content = text_format.Parse((tmp_path / "monitoring.config").read_text(), CLASSES["MonitoringConfig"]())
    assert content.prometheus_config.enable
    assert content.prometheus_config.path == "/monitoring/prometheus/metrics"  # TensorFlow Serving's default


@pytest.mark.parametrize("sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_sizes_that_a_server_would_refuse_are_refused(sizes):
    with pytest.raises(UserError, match="ascending numbers from 1 on"):
        server_config.check_batch_sizes(sizes)

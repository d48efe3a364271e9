import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from kdas_tf.errors import UserError
from kdas_tf.serving import server_config

# Fields of tensorflow.serving.BatchingParameters, which tensorflow-serving-api does not contain (TensorFlow Serving,
# servables/tensorflow/session_bundle_config.proto): name -> (number, type).
WRAPPED = ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"]


kinds = descriptor_pb2.FieldDescriptorProto


@pytest.fixture(scope="module")
def batching_parameters():
    file = descriptor_pb2.FileDescriptorProto(name="batching_parameters.proto", package="tensorflow.serving")
    file.syntax = "proto3"
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    fields = [(name, i, kinds.TYPE_MESSAGE, ".google.protobuf.Int64Value") for i, name in enumerate(WRAPPED, 1)]
    fields.append(("thread_pool_name", 5, kinds.TYPE_MESSAGE, ".google.protobuf.StringValue"))
    for name, number, kind, type_name in fields:
        message.field.add(name=name, number=number, type=kind, type_name=type_name, label=kinds.LABEL_OPTIONAL)
    message.field.add(name="allowed_batch_sizes", number=6, type=kinds.TYPE_INT64, label=kinds.LABEL_REPEATED)
    message.field.add(name="pad_variable_length_inputs", number=7, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))


def test_the_server_reads_which_models_there_are(tmp_path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    server_config.write_models(tmp_path, ["doors", "gates"], base_path="/models/")
    content = text_format.Parse((tmp_path / "models.config").read_text(), config.ModelServerConfig())
    found = [(model.name, model.base_path, model.model_platform) for model in content.model_config_list.config]
    assert found == [("doors", "/models/doors", "tensorflow"), ("gates", "/models/gates", "tensorflow")]
    assert all(model.model_version_policy.latest.num_versions == 1 for model in content.model_config_list.config)


def test_the_server_reads_how_to_make_batches(tmp_path, batching_parameters):
    server_config.write_batching(tmp_path, (1, 4, 12), timeout_micros=500, queue=7, threads=3)
    content = text_format.Parse((tmp_path / "batching.config").read_text(), batching_parameters())
    assert [getattr(content, name).value for name in WRAPPED] == [12, 500, 7, 3]
    assert list(content.allowed_batch_sizes) == [1, 4, 12]  # the last must be the largest batch


@pytest.fixture(scope="module")
def monitoring_config():
    """Made of monitoring_config.proto's fields, which tensorflow-serving-api does not contain either."""
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config.proto", package="tensorflow.serving")
    file.syntax = "proto3"
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=kinds.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.MonitoringConfig"))


def test_the_server_reads_that_it_must_count(tmp_path, monitoring_config):
    server_config.write_monitoring(tmp_path)
    content = text_format.Parse((tmp_path / "monitoring.config").read_text(), monitoring_config())
    assert content.prometheus_config.enable
    assert content.prometheus_config.path == "/monitoring/prometheus/metrics"  # TensorFlow Serving's default


@pytest.mark.parametrize("sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_sizes_that_a_server_would_refuse_are_refused(sizes):
    with pytest.raises(UserError, match="ascending numbers from 1 on"):
        server_config.check_batch_sizes(sizes)

"""What TensorFlow Serving is started with: which models there are, how requests are put into batches, what is counted.

The files are text protos: `tensorflow.serving.ModelServerConfig` (--model_config_file), `BatchingParameters`
(--batching_parameters_file) and `MonitoringConfig` (--monitoring_config_file) of the same package.
"""

from collections.abc import Sequence
from pathlib import Path

from kdas_tf import files
from kdas_tf.errors import UserError

MODELS, BATCHING, MONITORING = "models.config", "batching.config", "monitoring.config"
METRICS = "/monitoring/prometheus/metrics"
"""Where a server tells its counts, on the port of its REST interface."""

_MODEL = """\
  config {{
    name: "{name}"
    base_path: "{base_path}/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
"""
_BATCHING = """\
# How requests are put into batches, with --enable_batching. All images of a batch must be of one size: send them
# to embed_jpeg, where sizes do not matter, or resize them before you send them to serving_default.
max_batch_size { value: %d }
batch_timeout_micros { value: 2000 }  # how long a request waits for others
max_enqueued_batches { value: 64 }  # more are refused: better than answers that come too late
num_batch_threads { value: 4 }  # batches at a time; the CPU cores of the server are a good number
"""
_MONITORING = f"""\
prometheus_config {{
  enable: true
  path: "{METRICS}"
}}
"""


def write(root: Path, names: Sequence[str], *, base_path: str, batch_sizes: Sequence[int]) -> None:
    """Writes the three files, with which a server serves the newest version of each model, into `root`.

    The server sees `root` as `base_path`. A batch is filled up to the next of the ascending `batch_sizes`.
    """
    models = "".join(_MODEL.format(name=name, base_path=base_path.rstrip("/")) for name in names)
    sizes = "".join(f"allowed_batch_sizes: {size}\n" for size in batch_sizes)
    texts = {
        MODELS: f"model_config_list {{\n{models}}}\n",
        BATCHING: _BATCHING % batch_sizes[-1] + sizes,
        MONITORING: _MONITORING,
    }
    for file, text in texts.items():
        with files.replacing(root / file) as partial:
            partial.write_text(text, encoding="utf-8")


def check_batch_sizes(batch_sizes: Sequence[int]) -> None:
    """Raises `UserError` for sizes of batches that a server would refuse: not ascending, or below 1."""
    if not batch_sizes or batch_sizes[0] < 1 or list(batch_sizes) != sorted(set(batch_sizes)):
        raise UserError(
            f"Expected batch_sizes to be ascending numbers from 1 on, such as (1, 2, 4, 8, 16), got {batch_sizes}."
        )

"""What TensorFlow Serving is started with: which models there are, how requests are put into batches, what is counted.

The files are text protos: `tensorflow.serving.ModelServerConfig` (--model_config_file), `BatchingParameters`
(--batching_parameters_file) and `MonitoringConfig` (--monitoring_config_file) of the same package.
"""

from collections.abc import Sequence
from pathlib import Path

from kdas_tf import files
from kdas_tf.errors import UserError

MODELS = "models.config"
BATCHING = "batching.config"
MONITORING = "monitoring.config"
METRICS = "/monitoring/prometheus/metrics"
"""Where a server tells its counts, on the port of its REST interface."""

_BATCHING = """\
# How requests are put into batches, with --enable_batching. All images of a batch must be of one size: send them
# to embed_jpeg, where sizes do not matter, or resize them before you send them to serving_default.
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: {timeout} }}  # how long a request waits for others
max_enqueued_batches {{ value: {queue} }}  # more are refused: better than answers that come too late
num_batch_threads {{ value: {threads} }}  # batches at a time; the CPU cores of the server are a good number
{sizes}
"""


def write_models(root: Path, names: Sequence[str], *, base_path: str) -> None:
    """Writes `models.config`, from which a server serves the newest version of each model.

    Args:
        root: folder of the models, where the file is written.
        names: of the models.
        base_path: where the server sees `root`.
    """
    entries = [
        "  config {\n"
        f'    name: "{name}"\n'
        f'    base_path: "{base_path.rstrip("/")}/{name}"\n'
        '    model_platform: "tensorflow"\n'
        "    model_version_policy { latest { num_versions: 1 } }\n"
        "  }\n"
        for name in names
    ]
    _write(root / MODELS, "model_config_list {\n" + "".join(entries) + "}\n")


def check_batch_sizes(batch_sizes: Sequence[int]) -> None:
    """Refuses sizes of batches that a server would refuse.

    Raises:
        UserError: they are not ascending, or below 1.
    """
    if not batch_sizes or batch_sizes[0] < 1 or list(batch_sizes) != sorted(set(batch_sizes)):
        raise UserError(
            f"Expected batch_sizes to be ascending numbers from 1 on, such as (1, 2, 4, 8, 16), got {batch_sizes}."
        )


def write_batching(
    root: Path,
    batch_sizes: Sequence[int],
    *,
    timeout_micros: int = 2000,
    queue: int = 64,
    threads: int = 4,
) -> None:
    """Writes `batching.config`.

    Args:
        root: folder where the file is written.
        batch_sizes: ascending; a batch is filled up to the next of them, and none is larger than the last.
        timeout_micros: microseconds that a request waits for others.
        queue: batches that wait at most.
        threads: batches that are computed at a time; the server's cores are a good number.
    """
    text = _BATCHING.format(
        largest=batch_sizes[-1],
        timeout=timeout_micros,
        queue=queue,
        threads=threads,
        sizes="\n".join(f"allowed_batch_sizes: {size}" for size in batch_sizes),
    )
    _write(root / BATCHING, text)


def write_monitoring(root: Path) -> None:
    """Writes `monitoring.config`: a server tells Prometheus how many requests it had, and how long they took."""
    _write(root / MONITORING, f'prometheus_config {{\n  enable: true\n  path: "{METRICS}"\n}}\n')


def _write(path: Path, text: str) -> None:
    with files.replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")

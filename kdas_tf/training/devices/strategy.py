"""Sets up TensorFlow for a process: devices, threads, precision, determinism."""

import contextlib
import os
from typing import Any

import keras
import tensorflow as tf

from kdas_tf.errors import PeerLost, UserError
from kdas_tf.training.devices.cluster import Cluster
from kdas_tf.training.devices.determinism import be_deterministic


def make_strategy(
    num_devices: int | None,
    logical_cpus: int | None,
    mixed_precision: str,
    deterministic: bool = False,
    cluster: Cluster | None = None,
    intra_op_threads: int = 0,
) -> Any:
    """Sets up TensorFlow and returns the strategy.

    It is MultiWorkerMirroredStrategy for several machines, else MirroredStrategy, or the default one for one device.

    Args:
        num_devices: number of GPUs (or logical CPUs) to use; all by default.
        logical_cpus: split the CPU into so many logical devices.
        mixed_precision: dtype policy.
        deterministic: whether the same steps must give the same bits.
        cluster: the machines that train together; waits until they are there.
        intra_op_threads: CPU threads that may share one operation; 0 for TensorFlow's choice.

    Raises:
        UserError: there are fewer devices.
        PeerLost: the other machines cannot be reached.
    """
    for flag, number in (("num_devices", num_devices), ("logical_cpus", logical_cpus)):
        if number is not None and number < 1:
            raise UserError(f"Expected --{flag} to be at least 1, got {number}.", code="flag")
    with contextlib.suppress(RuntimeError):  # a program that has used TensorFlow before keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(intra_op_threads)
    if not tf.config.list_physical_devices("GPU"):
        # They cost seconds at the first step of a supernet and gained nothing on CPUs (docs/performance.md).
        tf.config.optimizer.set_experimental_options({"layout_optimizer": False, "remapping": False})
    if deterministic:
        be_deterministic()
    if cluster is not None:
        keras.mixed_precision.set_global_policy(mixed_precision)
        return _several_machines(cluster, num_devices, logical_cpus)
    if logical_cpus is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus)
    keras.mixed_precision.set_global_policy(mixed_precision)
    devices = tf.config.list_logical_devices("GPU") if logical_cpus is None else []
    devices = devices or tf.config.list_logical_devices("CPU")
    if num_devices is not None and num_devices > len(devices):
        raise UserError(
            f"Expected --num_devices of at most {len(devices)}, the devices of this machine, got {num_devices}. "
            "Logical devices for a trial come from --logical_cpus."
        )
    devices = devices[:num_devices]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def threads_for_cells() -> int:
    """CPU threads that should share one operation of a network of cells, as `make_strategy` takes it.

    Such networks have many operations that wait for nothing but their node. On few cores it is up to twice as fast to
    run several of them at once as to cut each (docs/performance.md); on more cores that was not measured. What the user
    has set in TensorFlow's own environment variable stays.
    """
    few = len(os.sched_getaffinity(0)) <= 4 if hasattr(os, "sched_getaffinity") else False
    return 1 if few and "TF_NUM_INTRAOP_THREADS" not in os.environ else 0


def _several_machines(cluster: Cluster, num_devices: int | None, logical_cpus: int | None) -> Any:
    """Nothing may have started TensorFlow's devices before: its collective operations are set up with them."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    if logical_cpus is not None or (num_devices or 1) > max(gpus, 1):
        raise UserError(
            f"Expected no --logical_cpus, and --num_devices of at most {max(gpus, 1)}, the devices of this machine, "
            f"where several machines train together, got {logical_cpus} and {num_devices}."
        )
    try:
        resolver = cluster.resolver(min(gpus, num_devices or gpus))
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        raise PeerLost(" ".join(str(error).split())[:300]) from error

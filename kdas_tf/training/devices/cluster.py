"""Several machines: who belongs to a job, told by TF_CONFIG or SLURM."""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from kdas_tf.errors import UserError

# Kinds of tasks of TF_CONFIG that train. The chief, or the first worker where there is none, writes.
JOBS = ("chief", "worker")

# Under SLURM all workers of a job listen on one port of this range, which depends on the number of the job.
FIRST_PORT, PORTS = 20_000, 12_000


class Cluster(NamedTuple):
    """The workers of a job."""

    addresses: Mapping[str, tuple[str, ...]]  # {"chief" or "worker": host:port of each}
    job: str  # kind of this process's task
    task: int  # its number among them

    @property
    def workers(self) -> int:
        """Number of processes that train."""
        return sum(len(addresses) for addresses in self.addresses.values())

    def resolver(self, gpus: int) -> tf.distribute.cluster_resolver.ClusterResolver:
        """What TensorFlow wants to know."""
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(addresses) for job, addresses in self.addresses.items()}),
            task_type=self.job,
            task_id=self.task,
            num_accelerators={"GPU": gpus},
            rpc_layer="grpc",
        )


def cluster_of(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster that the environment (`os.environ`) describes; None for a process on its own.

    TF_CONFIG comes before SLURM's variables. Of those, the ones of a step count (`srun`), not of the batch script.

    Raises:
        UserError: it describes no cluster that can train.
    """
    if environment.get("TF_CONFIG", "").strip():
        cluster = _from_tf_config(environment["TF_CONFIG"])
    elif environment.get("SLURM_STEP_NUM_TASKS", "").strip() not in ("", "1"):
        cluster = _from_slurm(environment)
    else:
        return None
    return cluster if cluster is not None and cluster.workers > 1 else None


def _refusal(message: str) -> UserError:
    return UserError(message, code="machines")


def _from_tf_config(text: str) -> Cluster | None:
    expected = (
        'Expected TF_CONFIG like {"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", '
        '"index": 0}}'
    )
    try:
        content = json.loads(text)
        workers = {str(job): tuple(map(str, addresses)) for job, addresses in content.get("cluster", {}).items()}
        if not workers:
            return None
        task = content["task"]
        cluster = Cluster(workers, str(task["type"]), int(task["index"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise _refusal(f"{expected}, got {text[:200]!r} ({type(error).__name__}: {error}).") from None
    strangers = sorted(set(workers) - set(JOBS))
    if strangers:
        raise _refusal(f"{expected}, with {' and '.join(JOBS)} only, got {', '.join(strangers)}. Leave them out.")
    if not 0 <= cluster.task < len(workers.get(cluster.job, ())):
        raise _refusal(f"{expected}, but its task, {cluster.job} {cluster.task}, is not in its cluster.")
    wrong = [address for addresses in workers.values() for address in addresses if not re.search(r".:\d+$", address)]
    if wrong:
        raise _refusal(f"{expected}, with a port in each address, got {wrong[0]!r}.")
    return cluster


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    names = ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise _refusal(f"Expected {', '.join(names)} from srun, but {missing[0]} is not set. See launch/slurm.sh.")
    numbers = {name: environment[name].strip() for name in names if name != "SLURM_STEP_NODELIST"}
    for name, text in numbers.items():
        if not text.isdecimal():
            raise _refusal(f"Expected {name} from srun to be a number, got {text!r}. Set TF_CONFIG, or use srun.")
    process, tasks, job = map(int, numbers.values())
    hosts = expand_hosts(environment["SLURM_STEP_NODELIST"])
    if len(hosts) != tasks:
        raise _refusal(
            f"Expected one task on each node, got {tasks} tasks on {len(hosts)} nodes. "
            "One process uses all GPUs of its node: give srun --ntasks-per-node=1."
        )
    if process >= tasks:
        raise _refusal(f"Expected SLURM_PROCID below the number of tasks, {tasks}, got {process}. Start it by srun.")
    port = FIRST_PORT + job % PORTS
    return Cluster({"worker": tuple(f"{host}:{port}" for host in hosts)}, "worker", process)


def expand_hosts(text: str) -> list[str]:
    """Writes out SLURM's list of nodes, such as "gpu[08-10,12],login", in its order, which is that of the tasks.

    `tf.distribute.cluster_resolver.SlurmClusterResolver` sorts names as text (n10 before n9), which is not the order
    of the tasks, and it needs nvidia-smi.

    Raises:
        UserError: it cannot be read.
    """
    hosts: list[str] = []
    parts = re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", text)
    for part in parts if ",".join(parts) == text else [text]:
        match = re.fullmatch(r"([^\[\]]+)(?:\[(\d{1,9}(?:-\d{1,9})?(?:,\d{1,9}(?:-\d{1,9})?)*)\])?", part)
        if match is None:
            raise _refusal(f"Expected a list of nodes like gpu[01-03,7],login from SLURM, got {text!r}. Set TF_CONFIG.")
        prefix, ranges = match.groups()
        for numbers in (ranges or "").split(","):
            first, _, last = numbers.partition("-")
            if not ranges:
                hosts.append(prefix)
            else:
                hosts += [f"{prefix}{n:0{len(first)}d}" for n in range(int(first), int(last or first) + 1)]
    return hosts

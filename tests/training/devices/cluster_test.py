import json

import pytest

from kdas_tf.errors import UserError
from kdas_tf.training.devices.cluster import FIRST_PORT, PORTS, Cluster, cluster_of, expand_hosts


def tf_config(cluster, kind, index):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


SLURM = {
    "SLURM_PROCID": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "gpu[9-10],big",
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "3",
}


def test_tf_config_names_the_workers_and_this_process():
    found = cluster_of(tf_config({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "worker", 1))
    assert found == Cluster({"chief": ("a:1",), "worker": ("b:1", "c:1")}, "worker", 1)
    assert found.workers == 3
    spec = found.resolver(gpus=2)
    assert spec.cluster_spec().as_dict() == {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    assert (spec.task_type, spec.task_id, spec.num_accelerators()) == ("worker", 1, {"GPU": 2})


def test_slurm_names_them_in_the_order_of_its_tasks():
    port = FIRST_PORT + 4711 % PORTS
    assert cluster_of(SLURM) == Cluster({"worker": (f"gpu9:{port}", f"gpu10:{port}", f"big:{port}")}, "worker", 2)


def test_tf_config_comes_before_slurm():
    assert cluster_of({**SLURM, **tf_config({"worker": ["a:1", "b:1"]}, "worker", 0)}).addresses == {
        "worker": ("a:1", "b:1")
    }


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        tf_config({"worker": ["a:1"]}, "worker", 0),
        {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "3"},  # the batch script itself, or salloc: no step
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_on_its_own_has_no_cluster(environment):
    assert cluster_of(environment) is None


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"TF_CONFIG": "{"}, "Expected TF_CONFIG like"),
        ({"TF_CONFIG": "[1]"}, "Expected TF_CONFIG like"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}}'}, "KeyError: 'task'"),
        (tf_config({"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "ps", 0), "chief and worker only, got ps"),
        (tf_config({"worker": ["a:1", "b:1"]}, "worker", 2), "worker 2, is not in its cluster"),
        (tf_config({"worker": ["a:1", "b:1"]}, "chief", 0), "chief 0, is not in its cluster"),
        (tf_config({"worker": ["a:1", "b"]}, "worker", 0), "a port in each address, got 'b'"),
        ({name: SLURM[name] for name in SLURM if name != "SLURM_PROCID"}, "SLURM_PROCID is not set"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "6"}, "6 tasks on 3 nodes"),
        ({**SLURM, "SLURM_STEP_NODELIST": "gpu[1-]x["}, "Expected a list of nodes like"),
    ],
)
def test_what_describes_no_cluster_is_refused_in_one_line(environment, reason):
    with pytest.raises(UserError) as caught:
        cluster_of(environment)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [  # the first is the example of TensorFlow's own reader
        ("n[1-2],m5,o[3-4,6,7-9]", ["n1", "n2", "m5", "o3", "o4", "o6", "o7", "o8", "o9"]),
        ("n[08-10]", ["n08", "n09", "n10"]),
        ("one", ["one"]),
        ("a-b.c[1,3]", ["a-b.c1", "a-b.c3"]),
    ],
)
def test_a_list_of_nodes_is_written_out(text, hosts):
    assert expand_hosts(text) == hosts

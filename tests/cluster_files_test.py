"""launch/slurm.sh and launch/k8s/search.yaml: the launcher's exit codes mean there what they should.

Neither SLURM nor a cluster is to be had: `srun` and `scontrol` note what they are asked, and `srun` runs every task.
"""

import contextlib
import os
import shlex
import signal
import subprocess

import pytest
import yaml

from kdas_tf import launch
from tests.build_test import ROOT

SCRIPT, MANIFEST = ROOT / "launch" / "slurm.sh", ROOT / "launch" / "k8s" / "search.yaml"
# Runs the command once for each task, as srun does for `--nodes=2`, and gives the greatest exit code back.
SRUN = """#!/bin/bash
echo "$*" >>"$ASKED"
while [[ $1 == --* ]]; do shift; done
worst=0
for task in 0 1; do
  SLURM_PROCID=$task "$@"; code=$?
  (( code > worst )) && worst=$code
done
exit $worst
"""
PYTHON = """#!/bin/bash
echo "task $SLURM_PROCID: $*" >>"$ASKED"
exit "$(cut -d' ' -f$((SLURM_PROCID + 1)) <<<"$CODES")"
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def submit(tmp_path):
    """Runs the batch script in a repository whose launcher ends with these exit codes, one of each task."""
    asked, root = tmp_path / "asked", tmp_path / "a clone"
    executable(tmp_path / "bin" / "srun", SRUN)
    executable(tmp_path / "bin" / "scontrol", '#!/bin/bash\necho "scontrol $*" >>"$ASKED"\n')
    executable(root / ".venv" / "bin" / "python", PYTHON)
    (root / "kdas_tf").mkdir()

    def submit(codes, *arguments, **environment):
        settings = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "ASKED": str(asked), "CODES": codes}
        settings |= {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(root), **environment}
        done = subprocess.run(
            [SCRIPT, *arguments], env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        return done, asked.read_text().splitlines() if asked.exists() else []

    return submit


@pytest.mark.parametrize(
    ("codes", "code", "again"),
    [
        ("0 0", 0, False),
        ("75 75", 0, True),  # SIGTERM, or the second node is lost before it ends itself
        ("75 137", 0, True),  # the second was killed
        ("137 75", 0, True),  # the first was killed
        ("2 2", 2, False),  # a mistake in the flags
        ("2 75", 2, False),  # a mistake that only the first worker sees
        ("1 75", 1, False),
    ],
)
def test_what_can_continue_is_queued_again_and_a_mistake_is_not(submit, codes, code, again):
    done, asked = submit(codes, "--gin_file=gin/search.gin", "--gin_param=A='b c'")
    assert done.returncode == code, done.stderr
    assert ("scontrol requeue 7" in asked) == again
    assert "task 1: -m kdas_tf.launch --gin_file=gin/search.gin --gin_param=A='b c'" in asked
    assert asked[0].startswith("--ntasks-per-node=1 --kill-on-bad-exit=0 bash -c ")


def test_a_job_is_not_queued_again_for_ever(submit):
    done, asked = submit("75 75", SLURM_RESTART_COUNT="20")
    assert done.returncode == launch.STOPPED and not any(line.startswith("scontrol") for line in asked)
    done, asked = submit("75 75", SLURM_RESTART_COUNT="20", MAX_RESTARTS="21")
    assert "scontrol requeue 7" in asked


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"SLURM_JOB_ID": ""}, "to be started by sbatch"), ({"SLURM_SUBMIT_DIR": "/"}, "submitted from the repository")],
)
def test_a_wrong_start_is_refused_in_one_line(submit, environment, reason):
    done, asked = submit("0 0", **environment)
    assert (done.returncode, asked, done.stderr.count("\n")) == (2, [], 1) and reason in done.stderr


@pytest.fixture(scope="module")
def objects():
    """The objects of the manifest by kind; the TFJob is one of them."""
    return {item["kind"]: item for item in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.fixture(scope="module")
def worker(objects):
    """The workers of the TFJob."""
    return objects["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]


@pytest.fixture(scope="module")
def container(worker):
    (only,) = worker["template"]["spec"]["containers"]
    return only


def test_the_script_and_the_job_know_the_launchers_exit_code():
    assert f"again={launch.STOPPED} " in SCRIPT.read_text()
    assert f'[ "$code" = {launch.STOPPED} ] && exit 138' in MANIFEST.read_text()


@pytest.mark.parametrize(("code", "given"), [(0, 0), (2, 2), (launch.STOPPED, 138), (137, 137)])
def test_a_pod_gives_on_what_the_policy_exit_code_understands(worker, container, tmp_path, code, given):
    assert (worker["restartPolicy"], container["name"]) == ("ExitCode", "tensorflow")
    executable(tmp_path / "python", f'#!/bin/bash\necho "$*"\nexit {code}\n')
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([*container["command"], *container["args"]], env=settings, capture_output=True, text=True)
    assert done.returncode == given
    assert done.stdout.split() == ["-m", "kdas_tf.launch", *container["args"]]
    assert shlex.join(container["args"]) == " ".join(container["args"])


@pytest.mark.parametrize("begin", ["sleep 1; kill -TERM $PPID", "kill -TERM $PPID"], ids=["late", "at once"])
def test_sigterm_to_a_pod_reaches_the_launcher_which_is_waited_for(container, tmp_path, begin):
    script = f"#!/bin/bash\ntrap 'sleep 0.3; exit 75' TERM\n{begin}\nwhile :; do sleep 0.1; done\n"
    executable(tmp_path / "python", script)
    # The pod's bash waits before every command, so that "at once" is before it knows its child's number.
    (tmp_path / "slowly").write_text("[[ $0 != worker ]] || trap 'sleep 0.2' DEBUG\n")
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASH_ENV": str(tmp_path / "slowly")}
    with subprocess.Popen(container["command"], env=settings, start_new_session=True) as process:
        try:
            assert process.wait(20) == 138
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_pods_let_in_one_another_only(objects, worker, container):
    pod = worker["template"]
    labels, policy = pod["metadata"]["labels"], objects["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_pods_share_the_volume_that_holds_data_and_results(objects, worker, container):
    volumes = worker["template"]["spec"]["volumes"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    assert claims == [objects["PersistentVolumeClaim"]["metadata"]["name"]]
    assert objects["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    flags = [flag.removeprefix("--").split("=", 1) for flag in container["args"]]
    shared = container["volumeMounts"][0]["mountPath"]
    assert all(dict(flags)[name].startswith(f"{shared}/") for name in ("data_dir", "workdir"))
    assert all((ROOT / value).is_file() for name, value in flags if name == "gin_file")

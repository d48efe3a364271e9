"""launch/serve.sh and launch/k8s/serving.yaml agree with what the export stage writes and with one another.

There is no Docker daemon in tests: `docker` is a script that notes what it was asked, and the server of "its container"
is one of this process. The server's own flags are not tried.
"""

import inspect
import re
import shutil
import subprocess
import types
from pathlib import Path

import pytest
import yaml

from kdas_tf.serving import server_config
from kdas_tf.stages import export as export_stage

pytest.importorskip("tensorflow_serving.apis.predict_pb2")
from tests.serving import servers

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "serve.sh"
OBJECTS = {
    f"{item['kind']}/{item['metadata']['name']}": item
    for item in yaml.safe_load_all((ROOT / "launch" / "k8s" / "serving.yaml").read_text())
}
POD = OBJECTS["Deployment/kdas-tf-serving"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
CONFIGURATION = {
    "model_config_file": server_config.MODELS,
    "batching_parameters_file": server_config.BATCHING,
    "monitoring_config_file": server_config.MONITORING,
}
# Its one container is a file with the label; "stopped" beside it says that it does not run.
DOCKER = """#!/bin/bash
cd "$(dirname "$0")"
printf '%s\\n' "$*" >>asked
case "$1" in
  version) [[ ! -e off ]] || { echo "Cannot connect to the Docker daemon"; exit 1; } ;;
  container) [[ -e box ]] || exit 1; [[ -e stopped ]] && echo "false $(<box)" || echo "true $(<box)" ;;
  rm) rm -f box stopped ;;
  run) [[ ! -e broken ]] || { echo "no such image" >&2; exit 125; }
       echo "${4#kdas_tf.settings=}" >box; [[ ! -e dies ]] || touch stopped ;;
  logs) echo "the server's last words" ;;
esac
"""


@pytest.fixture
def export(tmp_path):
    """As the export stage leaves it, in a folder whose name has a space."""
    root = tmp_path / "my export"
    (root / "doors" / "12").mkdir(parents=True)
    (root / "doors" / "12" / "saved_model.pb").touch()
    server_config.write(root, ["doors"], base_path="/srv/models", batch_sizes=(1, 2))
    return root


@pytest.fixture
def docker(tmp_path):
    """The folder of the `docker` on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def port():
    with servers.serving_rest(types.SimpleNamespace(models={"doors": (12, None)})) as port:
        yield port


@pytest.fixture
def serve(docker, port, tmp_path):
    """Runs the script; the answer has the commands that started containers as `started`."""

    def serve(*arguments, **environment):
        (docker / "asked").write_text("")
        settings = {"PATH": f"{docker}:/usr/bin:/bin", "REST_PORT": str(port), "WAIT": "10", **environment}
        done = subprocess.run(
            [SCRIPT, *arguments], env=settings, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        done.started = [line for line in (docker / "asked").read_text().splitlines() if line.startswith("run ")]
        return done

    return serve


def test_the_container_gets_the_folder_its_configuration_and_both_ports(serve, export, port):
    done = serve("my export", "--tensorflow_intra_op_parallelism=2", GRPC_PORT="9000")
    assert done.returncode == 0, done.stderr
    (command,) = done.started
    assert f"--volume {export}:/srv/models:ro" in command
    assert "--publish 127.0.0.1:9000:8500" in command and f"--publish 127.0.0.1:{port}:8501" in command
    _, flags = re.fullmatch(r"(.*) tensorflow/serving:2\.21\.0 (.*)", command).groups()
    config = [f"--{name}=/srv/models/{file}" for name, file in CONFIGURATION.items()]
    config.insert(1, "--enable_batching")
    given = "--tensorflow_intra_op_parallelism=2"
    assert flags.split() == ["--port=8500", "--rest_api_port=8501", *config, given]
    assert "grpc://127.0.0.1:9000" in done.stdout and "--model=doors" in done.stdout
    assert f":{port}{server_config.METRICS}" in done.stdout


def test_the_same_command_again_changes_nothing_and_another_one_starts_anew(serve, export, docker):
    assert serve(str(export)).started
    again = serve(str(export))
    assert (again.returncode, again.started) == (0, [])
    assert "running already" in again.stderr
    assert serve(str(export), IMAGE="tensorflow/serving:2.20.0").started
    assert serve(str(export)).started
    (export / "batching.config").write_text((export / "batching.config").read_text() + "# another\n")
    assert serve(str(export)).started
    (docker / "stopped").touch()
    assert serve(str(export)).started


def test_a_container_of_somebody_else_is_left_alone(serve, export, docker):
    (docker / "box").write_text("")
    done = serve(str(export))
    assert done.returncode == 1 and "another container" in done.stderr
    assert "rm " not in (docker / "asked").read_text()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("off", "Cannot connect to the Docker daemon"),
        ("broken", "could not start"),
        ("dies", "the server's last words"),
    ],
)
def test_what_fails_in_docker_is_said(serve, export, docker, state, reason):
    (docker / state).touch()
    done = serve(str(export))
    assert done.returncode == 1 and reason in done.stderr


def test_a_server_that_does_not_answer_is_not_waited_for_forever(serve, export):
    server_config.write(export, ["gates"], base_path="/models", batch_sizes=(1, 2))
    (export / "doors").rename(export / "gates")
    done = serve(str(export), WAIT="1")
    assert done.returncode == 1 and "gates does not answer after 1 s" in done.stderr


def test_without_docker_it_says_what_is_missing(serve, export, docker):
    (docker / "docker").unlink()
    for tool in ("bash", "sed", "sort"):
        (docker / tool).symlink_to(shutil.which(tool))
    done = serve(str(export), PATH=str(docker))
    assert done.returncode == 1 and "docker is not installed" in done.stderr


@pytest.mark.parametrize(
    ("damage", "arguments", "reason"),
    [
        (None, [], "expected the folder of an export first"),
        (None, ["--port=1"], "expected the folder of an export first"),
        (None, ["nothing"], "nothing is no folder"),
        ("models.config", ["my export"], "has no models.config"),
        ("monitoring.config", ["my export"], "has no monitoring.config"),
        ("doors/12/saved_model.pb", ["my export"], "doors holds no version"),
    ],
)
def test_a_folder_that_is_no_export_is_refused_in_one_line(serve, export, damage, arguments, reason):
    if damage:
        (export / damage).unlink()
    done = serve(*arguments)
    assert (done.returncode, done.stdout, done.started) == (2, "", [])
    assert reason in done.stderr and done.stderr.count("\n") == 1


def test_a_port_that_is_none_is_refused(serve, export):
    done = serve(str(export), GRPC_PORT="http")
    assert done.returncode == 2 and "to be numbers" in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", *ROOT.glob("launch/*.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_kubernetes_runs_the_image_and_the_flags_of_the_script():
    script = SCRIPT.read_text()
    assert CONTAINER["image"] == re.search(r"IMAGE:-(\S+?)\}", script)[1]
    assert CONTAINER["command"] == [re.search(r"--entrypoint (\w+)", script)[1]]
    listed = re.search(r"^server=\(\n(.*?)^\)", script, flags=re.MULTILINE | re.DOTALL)[1].replace("$mount", "/models")
    flags = [line.strip().strip('"') for line in listed.splitlines()][:-1]
    assert CONTAINER["args"][: len(flags)] == flags


def test_ports_have_the_same_names_and_numbers_everywhere():
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert {f"--port={ports['grpc']}", f"--rest_api_port={ports['http']}"} <= set(CONTAINER["args"])
    for name in ("kdas-tf-serving", "kdas-tf-serving-each"):
        for port in OBJECTS[f"Service/{name}"]["spec"]["ports"]:
            assert (port["targetPort"], ports[port["name"]]) == (port["name"], port["port"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (how,) = [value for key, value in CONTAINER[probe].items() if key in ("httpGet", "tcpSocket")]
        assert how["port"] in ports


def test_paths_are_those_of_the_export():
    defaults = {name: value.default for name, value in inspect.signature(export_stage.run).parameters.items()}
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    base_path = defaults["server"].base_path
    assert mounts["models"] == base_path
    assert {f"--{flag}={base_path}/{file}" for flag, file in CONFIGURATION.items()} <= set(CONTAINER["args"])
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["path"].startswith(f"/v1/models/{defaults['name']}")
    annotations = POD["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == server_config.METRICS
    assert annotations["prometheus.io/port"] == "8501"
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in POD["spec"]["volumes"]}
    assert set(claims) == set(mounts)
    assert f"PersistentVolumeClaim/{claims['models']['claimName']}" in OBJECTS


def test_everything_selects_the_pods_and_the_scaler_scales_their_deployment():
    labels = POD["metadata"]["labels"]
    for name in ("Deployment/kdas-tf-serving", "PodDisruptionBudget/kdas-tf-serving"):
        assert OBJECTS[name]["spec"]["selector"]["matchLabels"] == labels
    for name in ("kdas-tf-serving", "kdas-tf-serving-each"):
        assert OBJECTS[f"Service/{name}"]["spec"]["selector"] == labels
    scaler = OBJECTS["HorizontalPodAutoscaler/kdas-tf-serving"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "kdas-tf-serving"
    assert "replicas" not in OBJECTS["Deployment/kdas-tf-serving"]["spec"]
    assert scaler["minReplicas"] > OBJECTS["PodDisruptionBudget/kdas-tf-serving"]["spec"]["minAvailable"]


def test_the_pod_may_do_no_more_than_it_needs():
    limits, rights = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert limits["runAsNonRoot"] and rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert CONTAINER["resources"]["requests"]["cpu"] and CONTAINER["resources"]["limits"]["memory"]

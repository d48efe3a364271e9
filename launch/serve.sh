#!/usr/bin/env bash
# Serves an exported folder with TensorFlow Serving in Docker: launch/serve.sh EXPORT_FOLDER [SERVER FLAG...]
#
#   launch/serve.sh runs/search/export
#   GRPC_PORT=9000 REST_PORT=9001 launch/serve.sh runs/search/export --tensorflow_intra_op_parallelism=2
# Returns when the models answer. The same command again changes nothing; other settings, or another configuration in
# the folder, start the container anew. The server loads new versions of a model by itself. To end it:
# docker rm -f kdas_tf_serving.
# Environment: IMAGE, NAME (of the container), ADDRESS (127.0.0.1: this machine only; the server knows no passwords),
# GRPC_PORT (8500), REST_PORT (8501), WAIT (seconds until the models must answer, 120).
# Exit codes: 0 serving; 2 a mistake in what was given; 1 Docker or the server failed; 130 Ctrl-C.
set -euo pipefail

image="${IMAGE:-tensorflow/serving:2.21.0}" # the release of the TensorFlow that exports
name="${NAME:-kdas_tf_serving}"
address="${ADDRESS:-127.0.0.1}"
grpc_port="${GRPC_PORT:-8500}"
rest_port="${REST_PORT:-8501}"
wait_seconds="${WAIT:-120}"
label="kdas_tf.settings"

say() { echo "serve: $*" >&2; }

refuse() {
  say "$@"
  exit 2
}

fail() {
  say "$@"
  exit 1
}

# Sets `export` to the folder, and `models` and `mount` from its models.config; refuses a folder that is no export.
read_export() {
  local file model again="export a network first: python -m kdas_tf.launch --gin_file=gin/export.gin --workdir=RUN"
  [[ -n "$1" && "$1" != -* ]] || refuse "expected the folder of an export first, such as runs/search/export"
  [[ -d "$1" ]] || refuse "$1 is no folder; $again"
  export="$(cd "$1" && pwd)"
  for file in models.config batching.config monitoring.config; do
    [[ -f "$export/$file" ]] || refuse "$export has no $file; $again"
  done
  mapfile -t models < <(sed -n 's/^ *name: "\(.*\)"$/\1/p' "$export/models.config")
  mount="$(sed -n 's|^ *base_path: "\(.*\)/[^/]*"$|\1|p' "$export/models.config" | sort -u)"
  [[ ${#models[@]} -gt 0 ]] || refuse "$export/models.config names no model; $again"
  [[ "$mount" == /* && "$mount" != *$'\n'* ]] ||
    refuse "expected one absolute base_path for all models in $export/models.config, got: ${mount//$'\n'/, }"
  for model in "${models[@]}"; do
    compgen -G "$export/$model/[0-9]*/saved_model.pb" >/dev/null || refuse "$export/$model holds no version; $again"
  done
}

check_numbers() {
  local value
  for value in "$grpc_port" "$rest_port" "$wait_seconds"; do
    [[ "$value" =~ ^[1-9][0-9]{0,4}$ ]] || refuse "expected ports and WAIT to be numbers, got ${value:-nothing}"
  done
  [[ "$grpc_port" != "$rest_port" ]] || refuse "expected two ports, got $grpc_port for both"
}

check_docker() {
  local answer
  command -v docker >/dev/null || fail "docker is not installed (see docs.docker.com/engine/install)"
  answer="$(docker version --format '{{.Server.Version}}' 2>&1)" ||
    fail "Docker does not answer: is it running, and may this user ask it? It says: ${answer//$'\n'/ }"
}

# Prints how the container with our name stands: "", "foreign", "stopped", "other" or "same".
state() {
  local container
  container="$(docker container inspect --format "{{.State.Running}} {{index .Config.Labels \"$label\"}}" "$name" \
    2>/dev/null)" || return 0
  case "$container" in
    *" " | *" <no value>") echo foreign ;;
    "true $settings") echo same ;;
    true*) echo other ;;
    *) echo stopped ;;
  esac
}

# Whether the REST interface says that a model is there; a server opens its ports when its models are loaded.
answers() {
  local line=""
  { exec 3<>"/dev/tcp/$1/$rest_port"; } 2>/dev/null || return 1
  printf 'GET /v1/models/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3 2>/dev/null || true
  IFS= read -r -t 5 line <&3 || true
  exec 3>&-
  [[ "$line" == "HTTP/1.1 200"* ]]
}

check_running() {
  [[ "$(state)" != same ]] || return 0
  docker logs --tail 20 "$name" >&2 || true
  fail "the server has stopped; its last lines are above"
}

wait_for_models() {
  local model host="$address" end=$((SECONDS + wait_seconds))
  [[ "$host" != 0.0.0.0 ]] || host=127.0.0.1
  for model in "${models[@]}"; do
    until answers "$host" "$model"; do
      check_running
      [[ "$SECONDS" -lt "$end" ]] ||
        fail "$model does not answer after $wait_seconds s; look at: docker logs $name (WAIT=600 waits longer)"
      sleep 0.5
    done
  done
  check_running # it was not something else that answered
}

trap 'say "interrupted; the same command goes on"; exit 130' INT
read_export "${1:-}"
shift
check_numbers
check_docker
server=(
  --port=8500
  --rest_api_port=8501
  "--model_config_file=$mount/models.config"
  --enable_batching
  "--batching_parameters_file=$mount/batching.config"
  "--monitoring_config_file=$mount/monitoring.config"
  "$@"
)
options=(
  --name "$name"
  --publish "$address:$grpc_port:8500"
  --publish "$address:$rest_port:8501"
  --volume "$export:$mount:ro"
  --user "$(id -u):$(id -g)" # who exported may read the files; nothing else is needed
  --cap-drop ALL
  --security-opt no-new-privileges
  --entrypoint tensorflow_model_server # the image's own adds flags for a single model
)
settings="$({
  printf '%s\n' "$image" "${options[@]}" "${server[@]}"
  cat "$export"/{models,batching,monitoring}.config
} | cksum | cut -d' ' -f1)"
case "$(state)" in
  foreign) fail "there is another container with the name $name; choose one: NAME=... launch/serve.sh ..." ;;
  same) say "$name is running already" ;;
  *)
    docker rm --force "$name" >/dev/null 2>&1 || true
    docker run --detach --label "$label=$settings" "${options[@]}" "$image" "${server[@]}" >/dev/null ||
      fail "docker could not start $image (see above)"
    ;;
esac
wait_for_models
cat <<END
Serving ${models[*]}:
  gRPC     grpc://$address:$grpc_port
  REST     http://$address:$rest_port
  metrics  http://$address:$rest_port$(sed -n 's/^ *path: "\(.*\)"$/\1/p' "$export/monitoring.config")
Try it:    python -m kdas_tf.client --server=grpc://$address:$grpc_port --model=${models[0]} 1.jpg 2.jpg
End it:    docker rm -f $name
END

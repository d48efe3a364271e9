"""TensorFlow Serving's two interfaces around an exported model, on real sockets of this machine.

The serving binary cannot be had everywhere. What is real here: the SavedModel, the messages and the service of
tensorflow-serving-api, gRPC, HTTP. What is rebuilt from TensorFlow Serving's sources: which error a request gets
(`predict_util.cc`, `http_server.cc`, `shared_batch_scheduler.h`). Requests that our client cannot send are not judged.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import re
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

Code = grpc.StatusCode
# http_server.cc, ToHTTPStatusCode.
HTTP = {
    Code.INVALID_ARGUMENT: 400, Code.FAILED_PRECONDITION: 400, Code.OUT_OF_RANGE: 400, Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403, Code.NOT_FOUND: 404, Code.RESOURCE_EXHAUSTED: 429, Code.INTERNAL: 500,
    Code.UNIMPLEMENTED: 501, Code.UNAVAILABLE: 503, Code.DEADLINE_EXCEEDED: 504,
}  # fmt: skip


class StatusError(Exception):
    """A code and a message."""


class Served:
    """The models of an export's folder, as its configuration says.

    A test can make it worse: `faults` are codes that the next requests get, `delay` seconds that every answer takes,
    `change` a function of the answer's array.
    """

    def __init__(self, root):
        config = text_format.Parse((root / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
        self.largest = int(re.search(r"max_batch_size \{ value: (\d+)", (root / "batching.config").read_text())[1])
        self.models = {}
        for model in config.model_config_list.config:
            versions = sorted(int(folder.name) for folder in (root / model.name).iterdir())
            loaded = tf.saved_model.load(str(root / model.name / str(versions[-1])))
            self.models[model.name] = versions[-1], loaded
        self.calm()

    def calm(self):
        self.faults, self.delay, self.change, self.requests = [], 0.0, lambda rows: rows, []

    def predict(self, name, version, signature, inputs):
        """The outputs and the version, or an error as TensorFlow Serving gives."""
        self.requests.append({key: len(value) for key, value in inputs.items()})
        if self.faults:
            raise StatusError(self.faults.pop(0), "told to fail")
        deadline = time.monotonic() + self.delay
        while self.delay and time.monotonic() < deadline:  # ends early when a test has seen enough
            time.sleep(0.01)
        if name not in self.models or version not in (None, self.models[name][0]):
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {which}")
        number, model = self.models[name]
        if signature not in model.signatures:
            raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        ((argument, contents),) = inputs.items()
        if len(contents) > self.largest:
            limit = f"is larger than maximum input batch size {self.largest}"
            raise StatusError(Code.INVALID_ARGUMENT, f"Task size {len(contents)} {limit}")
        try:
            outputs = model.signatures[signature](**{argument: tf.constant(contents, tf.string)})
        except tf.errors.OpError as error:
            code = next(code for code in Code if code.value[0] == error.error_code)
            raise StatusError(code, error.message) from error
        outputs = {key: value.numpy() for key, value in outputs.items()}
        return number, {**outputs, "embedding": self.change(outputs["embedding"])}


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TensorFlow Serving's gRPC service; of its methods, the one that clients use."""

    def __init__(self, served):
        self.served = served

    def Predict(self, request, context):  # its name in prediction_service.proto
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        try:
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            number, outputs = self.served.predict(spec.name, version, spec.signature_name, inputs)
        except StatusError as error:
            context.abort(*error.args)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(spec)
        response.model_spec.version.value = number
        for name, array in outputs.items():
            if not request.output_filter or name in request.output_filter:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response


class Handler(http.server.BaseHTTPRequestHandler):
    """TensorFlow Serving's REST interface: `:predict` in the row format, and the state of a model."""

    protocol_version = "HTTP/1.1"
    served: Served

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        known = self.path.removeprefix("/v1/models/") in self.served.models
        state = {"model_version_status": [{"state": "AVAILABLE"}]}
        self.reply(*((200, state) if known else (404, {"error": "Could not find any versions of the model"})))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, version = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path).groups()
        # Of a signature with one input, an instance is its value (json_tensor.cc); an object array, because numpy cuts
        # zero bytes off the end of a file.
        files = [base64.b64decode(instance["b64"], validate=True) for instance in body["instances"]]
        inputs = {"image_bytes": np.array(files, object)}
        try:
            _, outputs = self.served.predict(name, version and int(version), body["signature_name"], inputs)
        except StatusError as error:
            code, message = error.args
            self.reply(HTTP[code], {"error": message})
        else:
            columns = {key: array.astype(str if array.dtype == object else float) for key, array in outputs.items()}
            cells = zip(*(column.tolist() for column in columns.values()), strict=False)
            rows = [dict(zip(columns, row, strict=True)) for row in cells]
            # Of one output, its rows alone (json_tensor.cc).
            self.reply(200, {"predictions": rows if len(columns) > 1 else columns.popitem()[1].tolist()})

    def reply(self, status, content):
        body = json.dumps(content).encode()
        with contextlib.suppress(ConnectionError):  # a client whose deadline has passed is gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


@contextlib.contextmanager
def serving_grpc(served, port=0):
    """Gives the port."""
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(served), server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield bound
        finally:
            server.stop(grace=0).wait()


@contextlib.contextmanager
def serving_rest(served, port=0):
    """Gives the port."""
    handler = type("Handler", (Handler,), {"served": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()

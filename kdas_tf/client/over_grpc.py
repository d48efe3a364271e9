"""Sends images to TensorFlow Serving's PredictionService over gRPC."""

from typing import Any

import grpc
import numpy as np

from kdas_tf.client import answers as answers
from kdas_tf.client import messages as messages
from kdas_tf.client.answers import Answer, Refused, ServerError, Unavailable, UnknownModel, WrongServer, told

_Code = grpc.StatusCode
_UNAVAILABLE = {_Code.UNAVAILABLE, _Code.RESOURCE_EXHAUSTED}
_REFUSED = {_Code.INVALID_ARGUMENT, _Code.FAILED_PRECONDITION, _Code.OUT_OF_RANGE}
_WRONG_SERVER = {_Code.UNIMPLEMENTED, _Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED}
_OPTIONS = (
    ("grpc.enable_retries", 0),  # client_retry.py does that
    ("grpc.enable_http_proxy", 0),  # as over REST: photographs of people go to the server that was named, directly
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that comes back is found by the next try, not only when gRPC's own wait of up to minutes is over.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Where a name stands for several servers (a headless Service), they take turns.
    ("grpc.lb_policy_name", "round_robin"),
)


class GrpcTransport:
    """One server, over gRPC without encryption; many threads may use it.

    Args:
        target: "host:port".
        model: its name on the server.
        version: its version; None for the newest.
    """

    def __init__(self, target: str, *, model: str, version: int | None):
        self._model, self._version = model, version
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._predict = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )

    def embed(self, contents: list[bytes], timeout: float) -> Answer:
        """Sends files and gives their embeddings.

        Raises:
            Unavailable: the server is down or has too much to do.
            Refused: the request is wrong.
            ServerError: no answer within `timeout` seconds, or none that can be read.
        """
        request = messages.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, answers.SIGNATURE
        if self._version is not None:
            request.model_spec.version.value = self._version
        messages.fill_strings(request.inputs[answers.INPUT], contents)
        request.output_filter.append(answers.OUTPUT)
        try:
            response = self._predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _explained(error, timeout) from error
        if answers.OUTPUT not in response.outputs:
            raise ServerError(f"answered without {answers.OUTPUT!r}: is it a model that kdas_tf exported?")
        try:
            rows = messages.floats(response.outputs[answers.OUTPUT])
        except ValueError as error:
            raise ServerError(f"answered with what cannot be read: {told(str(error))}") from error
        spec = response.model_spec
        return Answer(np.asarray(rows), spec.version.value if spec.HasField("version") else None)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def _explained(error: Any, timeout: float) -> Exception:
    code = error.code()
    # With several addresses, as of "localhost", gRPC tells what became of one of them.
    details = told(error.details()).split("last error: ")[-1].rstrip(".")
    if code == _Code.NOT_FOUND:
        return UnknownModel(details)
    if code in _REFUSED:
        return Refused(f"{details} ({code.name})")
    if code in _WRONG_SERVER:
        return WrongServer(f"{details} ({code.name})")
    if code in _UNAVAILABLE:
        hint = "; is this the port of its REST interface, with http://?" if "HTTP/2" in details else ""
        return Unavailable(f"{details} ({code.name}{hint})")
    if code == _Code.DEADLINE_EXCEEDED:
        return ServerError(f"no answer within {timeout:.3g} s. Is it reachable, and is a batch too much for it?")
    return ServerError(f"{details} ({code.name})")

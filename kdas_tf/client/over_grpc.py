"""Sends images to TensorFlow Serving's PredictionService over gRPC."""

import grpc

from kdas_tf.client import answers, messages
from kdas_tf.client.answers import Answer, Refused, ServerError, Unavailable, UnknownModel, WrongServer, told

_Code = grpc.StatusCode
_ERRORS = {
    _Code.UNAVAILABLE: Unavailable,
    _Code.RESOURCE_EXHAUSTED: Unavailable,
    _Code.INVALID_ARGUMENT: Refused,
    _Code.FAILED_PRECONDITION: Refused,
    _Code.OUT_OF_RANGE: Refused,
    _Code.NOT_FOUND: UnknownModel,
    _Code.UNIMPLEMENTED: WrongServer,
    _Code.UNAUTHENTICATED: WrongServer,
    _Code.PERMISSION_DENIED: WrongServer,
}
_OPTIONS = (
    ("grpc.enable_retries", 0),  # retry.py does that
    ("grpc.enable_http_proxy", 0),  # as over REST: photographs of people go to the server that was named, directly
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The next try reaches a server that is back; gRPC's own wait can last minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Where a name stands for several servers (a headless Service), they take turns.
    ("grpc.lb_policy_name", "round_robin"),
)


class GrpcTransport:
    """A server, over gRPC without encryption, at "host:port"; many threads may use it."""

    def __init__(self, target: str, *, model: str, version: int | None):
        number = {"value": version} if version is not None else None
        self._spec = {"name": model, "version": number, "signature_name": answers.SIGNATURE}
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._predict = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )

    def embed(self, contents: list[bytes], timeout: float) -> Answer:
        """Sends files; gives what the server says of them, not checked.

        Raises:
            Unavailable: the server is down or has too much to do.
            Refused: the request is wrong.
            ServerError: no answer within `timeout` seconds, or none that can be read.
        """
        request = messages.PredictRequest(
            model_spec=self._spec,
            inputs=[{"key": answers.INPUT, "value": messages.strings(contents)}],
        )
        try:
            response = self._predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _explained(error.code(), told(error.details()), timeout) from error
        outputs = {output.key: output.value for output in response.outputs}
        if answers.OUTPUT not in outputs:
            raise ServerError(f"answered without {answers.OUTPUT!r}: is it a model that kdas_tf exported?")
        try:
            rows = messages.floats(outputs[answers.OUTPUT])
            errors = messages.texts(outputs[answers.ERROR]) if answers.ERROR in outputs else []
        except ValueError as error:
            raise ServerError(f"answered with what cannot be read: {told(str(error))}") from error
        spec = response.model_spec
        return Answer(rows, errors, spec.version.value if spec.HasField("version") else None)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def _explained(code: grpc.StatusCode, details: str, timeout: float) -> Exception:
    if code == _Code.DEADLINE_EXCEEDED:
        return answers.too_slow(timeout)
    # With several addresses, as of "localhost", gRPC tells what became of one of them.
    details = details.split("last error: ")[-1].rstrip(".")
    if code == _Code.UNAVAILABLE and "HTTP/2" in details:
        details += "; is this the port of its REST interface, with http://?"
    return _ERRORS.get(code, ServerError)(f"{details} ({code.name})")

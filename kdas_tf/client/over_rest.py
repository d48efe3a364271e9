"""Sends images to TensorFlow Serving's REST interface.

TensorFlow Serving's errors (`http_server.cc`): 400 for a wrong request, 404 for an unknown model, 429 and 503 for a
server that has too much to do, 504 for a deadline; the body is `{"error": ...}`.
"""

import base64
import http.client
import json
import time

import numpy as np
import urllib3
from urllib3 import exceptions

from kdas_tf.client import answers
from kdas_tf.client.answers import Answer, Refused, ServerError, Unavailable, UnknownModel, WrongServer, told


class RestTransport:
    """A server, over HTTP or HTTPS, as `GrpcTransport`; `url` is the part of the address before /v1."""

    def __init__(self, url: str, *, model: str, version: int | None):
        which = f"/versions/{version}" if version is not None else ""
        self._url = f"{url}/v1/models/{model}{which}:predict"
        # retry.py tries again; proxies from the environment are not used, as over gRPC.
        self._pool = urllib3.PoolManager(retries=False, maxsize=4, headers={"Content-Type": "application/json"})

    def embed(self, contents: list[bytes], timeout: float) -> Answer:
        """As `GrpcTransport.embed`; REST does not tell the version."""
        instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
        body = json.dumps({"signature_name": answers.SIGNATURE, "instances": instances}).encode()
        try:
            status, content = self._post(body, timeout)
        except exceptions.HTTPError as error:
            raise _explained(error, timeout) from error
        if status != 200:
            raise _refusal(status, content)
        try:
            predictions = json.loads(content)["predictions"]
            if not all(isinstance(each, dict) for each in predictions):
                return Answer(np.array(predictions, np.float32), [])  # of one output, its rows alone
            rows = np.array([each[answers.OUTPUT] for each in predictions], np.float32)
            return Answer(rows, [str(each.get(answers.ERROR, "")) for each in predictions])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = told(f"{type(error).__name__}: {error}")
            raise ServerError(f"answered with what cannot be read ({reason}): is it TensorFlow Serving?") from error

    def _post(self, body: bytes, timeout: float) -> tuple[int, bytes]:
        """Gives status and body. urllib3 bounds the time between two bytes; this bounds the time of all of them."""
        end, chunks = time.monotonic() + timeout, []
        limit = urllib3.Timeout(total=timeout)
        response = self._pool.request(
            "POST", self._url, body=body, timeout=limit, preload_content=False, redirect=False
        )
        try:
            while chunk := response.read1(1 << 16):
                chunks.append(chunk)
                if time.monotonic() > end:
                    raise exceptions.TimeoutError
        except BaseException:
            response.close()  # the rest must not be taken for the next answer
            raise
        response.release_conn()
        return response.status, b"".join(chunks)

    def close(self) -> None:
        """Ends the connections."""
        self._pool.clear()


def _explained(error: exceptions.HTTPError, timeout: float) -> Exception:
    # urllib3 puts the connection before what happened to it.
    reason = told(str(error).partition("): ")[2] or str(error))
    if isinstance(error, exceptions.NameResolutionError):
        return ServerError(f"there is no such host ({reason})")
    if isinstance(error, exceptions.NewConnectionError):
        return Unavailable(reason)
    if isinstance(error, exceptions.TimeoutError):  # of connecting and of reading
        return answers.too_slow(timeout)
    if isinstance(error, exceptions.SSLError):
        return ServerError(f"no encrypted connection ({reason}). Is the scheme http://?")
    cause = error.args[-1] if error.args else None
    if isinstance(error, exceptions.ProtocolError) and isinstance(cause, ConnectionError):
        return Unavailable(f"the connection was closed before an answer came ({told(str(cause))})")
    if isinstance(cause, http.client.BadStatusLine):
        return ServerError("answered, but not over HTTP. Is this the port of its gRPC interface, with grpc://?")
    return ServerError(reason)


def _refusal(status: int, content: bytes) -> Exception:
    try:
        message = told(str(json.loads(content)["error"]))
    except (ValueError, KeyError, TypeError, RecursionError):  # not TensorFlow Serving's body
        message = None
    reason = f"{message} (HTTP {status})" if message else f"HTTP {status}"
    if status in (429, 503):
        return Unavailable(reason)
    if status == 404 and message:
        return UnknownModel(reason)
    if status in (400, 413):
        return Refused(reason)
    if status >= 500 or status in (408, 499):
        return ServerError(reason)
    return WrongServer(reason)  # a web server, or a proxy that wants a password

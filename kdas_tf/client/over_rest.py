"""Sends images to TensorFlow Serving's REST interface.

Errors are those of TensorFlow Serving's `http_server.cc`: 400 for what is wrong with a request, 404 for an unknown
model, 429 and 503 for a server that has too much to do, 504 for a deadline; the body is `{"error": ...}`.
"""

import base64
import http.client
import json
import time
from typing import Any

import numpy as np
import urllib3
from urllib3 import exceptions

from kdas_tf.client import answers as answers
from kdas_tf.client.answers import Answer, Refused, ServerError, Unavailable, UnknownModel, WrongServer, told

_CHUNK = 1 << 16


class RestTransport:
    """One server, over HTTP or HTTPS; many threads may use it.

    Args:
        url: "http://host:port", with what comes before /v1 where a proxy adds something.
        model: its name on the server.
        version: its version; None for the newest.
    """

    def __init__(self, url: str, *, model: str, version: int | None):
        which = f"/versions/{version}" if version is not None else ""
        self._url = f"{url}/v1/models/{model}{which}:predict"
        # client_retry.py tries again; proxies from the environment are not used, as over gRPC.
        self._pool = urllib3.PoolManager(retries=False, maxsize=4, headers={"Content-Type": "application/json"})

    def embed(self, contents: list[bytes], timeout: float) -> Answer:
        """Sends files and gives their embeddings; REST does not tell which version made them.

        Raises:
            Unavailable: the server is down or has too much to do.
            Refused: the request is wrong.
            ServerError: no answer within `timeout` seconds, or none that can be read.
        """
        instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
        body = json.dumps({"signature_name": answers.SIGNATURE, "instances": instances}).encode()
        try:
            status, content = self._post(body, timeout)
        except exceptions.HTTPError as error:
            raise _explained(error, timeout) from error
        if status != 200:
            raise _refusal(status, content)
        try:
            return Answer(np.array(json.loads(content)["predictions"], np.float32), None)
        except (ValueError, KeyError, TypeError) as error:
            reason = told(f"{type(error).__name__}: {error}")
            raise ServerError(f"answered with what cannot be read ({reason}): is it TensorFlow Serving?") from error

    def _post(self, body: bytes, timeout: float) -> tuple[int, bytes]:
        """Status and body. urllib3 bounds the time between two bytes; here the time of all of them is bounded."""
        end, chunks = time.monotonic() + timeout, []
        limit = urllib3.Timeout(total=timeout)
        response = self._pool.request(
            "POST", self._url, body=body, timeout=limit, preload_content=False, redirect=False
        )
        try:
            while chunk := response.read1(_CHUNK):
                chunks.append(chunk)
                if time.monotonic() > end:
                    raise exceptions.TimeoutError
        except BaseException:
            response.close()  # the rest of the answer must not be taken for the next one's
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
        return ServerError(f"no answer within {timeout:.3g} s. Is it reachable, and is a batch too much for it?")
    if isinstance(error, exceptions.SSLError):
        return ServerError(f"no encrypted connection ({reason}). Is the scheme http://?")
    cause = error.args[-1] if error.args else None
    if isinstance(error, exceptions.ProtocolError) and isinstance(cause, ConnectionError):
        return Unavailable(f"the connection was closed before an answer came ({told(str(cause))})")
    if isinstance(cause, http.client.BadStatusLine):
        return ServerError("answered, but not over HTTP. Is this the port of its gRPC interface, with grpc://?")
    return ServerError(reason)


def _refusal(status: int, content: bytes) -> Exception:
    message = _message(content)
    reason = f"{told(message)} (HTTP {status})" if message else f"HTTP {status}"
    if status in (429, 503):
        return Unavailable(reason)
    if status == 404 and message:
        return UnknownModel(reason)
    if status == 400 or status == 413:
        return Refused(reason)
    # Before 200 and 500, and without TensorFlow Serving's body: a web server, a proxy that wants a password.
    return WrongServer(reason) if status < 500 and status not in (408, 499) else ServerError(reason)


def _message(content: bytes) -> str | None:
    """What TensorFlow Serving says in a body; None in a body that is not its own."""
    try:
        parsed: Any = json.loads(content)
        return str(parsed["error"])
    except (ValueError, KeyError, TypeError):
        return None

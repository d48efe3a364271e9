"""Asks a server for embeddings. Needs neither TensorFlow, Keras nor gin, and starts in a fraction of a second."""

import functools
import re
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kdas_tf import formats
from kdas_tf.client import photographs, retry
from kdas_tf.client.answers import Answer, Refused, ServerError, Unavailable, UnknownModel, WrongServer, told
from kdas_tf.client.photographs import Image
from kdas_tf.errors import UserError

__all__ = ["Client", "ServerError", "Unavailable"]

_PORTS = {"grpc": 8500, "http": 8501, "https": 443}  # TensorFlow Serving's, and that of a proxy with a certificate

_TOLERANCE = 1e-3  # of the length of an embedding

# What to do about a server's message.
_HINTS = {
    "batch size": " Give a smaller batch_size.",
    '"embed_jpeg" not found': " Is it a model that kdas_tf exported?",
}


class Client:
    """A model on a server. Many threads may use one client; it connects at its first request.

    Example:
        with Client("grpc://localhost:8500") as client:
            embeddings = client.embed(["photo1.jpg", "photo2.jpg"])

    Args:
        server: "grpc://host:8500", "http://host:8501" or "https://host"; ports may be left out. Proxies from the
            environment are not used.
        model: its name on the server.
        version: of the model; None for the newest.
        timeout: seconds that one request may last.
        deadline: seconds that all of a call to `embed` may last, waits and retries included.
        retries: how often a request is sent again if the server is down or has too much to do (UNAVAILABLE,
            RESOURCE_EXHAUSTED, 429, 503, no connection), after waits that double. Nothing else is sent again.
        batch_size: images of one request at most; no more than the server's max_batch_size.
        width: D that embeddings must have, as those in your gallery; None takes what comes.
        max_bytes: of a file, and of all files of a request together.
        max_pixels: of an image, height times width.

    Raises:
        UserError: an argument is out of range, or the server's address is none.
    """

    def __init__(
        self,
        server: str,
        *,
        model: str = "kdas_reid",
        version: int | None = None,
        timeout: float = 10.0,
        deadline: float = 60.0,
        retries: int = 4,
        batch_size: int = 16,
        width: int | None = None,
        max_bytes: int = photographs.MAX_BYTES,
        max_pixels: int = formats.MAX_PIXELS,
    ):
        for name, seconds in {"timeout": timeout, "deadline": deadline}.items():
            if not 0 < seconds < float("inf"):
                raise UserError(f"Expected {name} in seconds, above 0, got {seconds}.")
        numbers = {"batch_size": batch_size, "max_bytes": max_bytes, "max_pixels": max_pixels, "version": version}
        for name, number in {**numbers, "width": width, "retries": retries}.items():
            least = 0 if name == "retries" else 1
            if number is not None and number < least:
                raise UserError(f"Expected {name} of at least {least}, got {number}.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", model):
            raise UserError(f"Expected the name of a model to be of letters, digits, _ and -, got {model!r}.")
        self.server, self.model = server, model
        self._timeout, self._deadline, self._retries = timeout, deadline, retries
        self._batch_size, self._width = batch_size, width
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._transport = _transport(server, model, version)

    def embed(self, images: Iterable[Image]) -> npt.NDArray[np.float32]:
        """Embeds images, in their order, all or none. All are read and checked before the first is sent.

        Args:
            images: paths or bytes of JPEG or PNG files, or uint8 arrays `[height, width]` (grey), RGB
                `[height, width, 3]` or RGBA `[height, width, 4]`; sizes may differ.

        Returns:
            `[images, D]`, rows of length 1. Compare two by 1 - their dot product, 0 to 2.

        Raises:
            UserError: an image or the model is not what was expected; sending it again does not help.
            ServerError: the server is down, too slow or too busy, or gives no answer that can be read.
        """
        rows, errors = self.embed_each(images)
        if errors:
            name, error = next(iter(errors.values()))
            more = f", and {len(errors) - 1} more images" if len(errors) > 1 else ""
            raise UserError(f"{self.server} cannot read {name}: {error}{more}")
        return rows

    def embed_each(self, images: Iterable[Image]) -> tuple[npt.NDArray[np.float32], dict[int, tuple[str, str]]]:
        """Embeds the images that the server can read, and tells what is wrong with the others.

        Args:
            images: as in `embed`. What is wrong with an image before it is sent, is an error of all.

        Returns:
            (embeddings, errors): `[images, D]`, rows of length 1, or of zeros for an image with an error; and, of
            those, {position: (name, what is wrong)}.

        Raises:
            UserError, ServerError: as `embed`, but for images that the server cannot read.
        """
        contents = photographs.read(images, max_bytes=self._max_bytes, max_pixels=self._max_pixels)
        end = time.monotonic() + self._deadline
        rows: list[npt.NDArray[np.float32]] = []
        errors: list[str] = []
        version = None
        for batch in _batches(contents, self._batch_size, self._max_bytes):
            answer = self._ask(batch, end)
            if rows and (answer.version != version or answer.rows.shape[1:] != rows[0].shape[1:]):
                raise ServerError(
                    f"{self.server} changed its model between two requests (version {version} to {answer.version}): "
                    "embeddings of both cannot be compared. Send the images again."
                )
            version = answer.version
            rows.append(self._checked(answer, len(batch)))
            errors += answer.errors or [""] * len(batch)
        wrong = {i: (contents[i][0], told(error)) for i, error in enumerate(errors) if error}
        return np.concatenate(rows), wrong

    def _ask(self, batch: Sequence[tuple[str, bytes]], end: float) -> Answer:
        names = [name for name, _ in batch]
        attempt = functools.partial(self._transport.embed, [content for _, content in batch])
        try:
            return retry.until(attempt, end=end, timeout=self._timeout, retries=self._retries)
        except UnknownModel as error:
            raise UserError(
                f"{self.server} serves no model {self.model!r}: {error}. models.config beside the export has the names."
            ) from error
        except WrongServer as error:
            raise UserError(
                f"{self.server} is no TensorFlow Serving, or does not let this client in: {error}. Check the address."
            ) from error
        except Refused as error:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            hint = next((hint for part, hint in _HINTS.items() if part in str(error)), "")
            raise UserError(f"{self.server} refused {', '.join(names[:3])}{more}: {error}.{hint}") from error
        except ServerError as error:
            raise type(error)(f"{self.server}: {error}") from error

    def _checked(self, answer: Answer, expected: int) -> npt.NDArray[np.float32]:
        """Refuses an answer that would spoil a gallery."""
        rows, errors = answer.rows, answer.errors
        if rows.ndim != 2 or len(rows) != expected or not rows.shape[1] or len(errors) not in (0, expected):
            raise ServerError(
                f"{self.server} answered with an array {list(rows.shape)} to {expected} images; expected "
                f"[{expected}, D]. Is {self.model!r} a model that kdas_tf exported?"
            )
        if self._width is not None and rows.shape[1] != self._width:
            raise UserError(
                f"Expected embeddings of {self._width} numbers, but those of {self.model!r} at {self.server} have "
                f"{rows.shape[1]}: it is another model. Ask for the right one, or embed your gallery again."
            )
        if not np.isfinite(rows).all():
            raise ServerError(f"{self.server} answered with NaN or infinite numbers. Export the model again.")
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        wanted = np.array([0.0 if error else 1.0 for error in errors]) if errors else np.ones(expected)
        if np.abs(lengths - wanted).max() > _TOLERANCE:
            length = lengths[np.abs(lengths - wanted).argmax()]
            raise ServerError(
                f"{self.server} answered with embeddings of a length other than 1, such as {length:.4g}: distances of "
                f"them say nothing. Is {self.model!r} a model that kdas_tf exported?"
            )
        return rows.astype(np.float32, copy=False)

    def close(self) -> None:
        """Ends the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _batches(
    photographs: Sequence[tuple[str, bytes]], number: int, max_bytes: int
) -> Iterator[list[tuple[str, bytes]]]:
    """At most `number` images and `max_bytes` bytes at a time."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for name, content in photographs:
        if batch and (len(batch) == number or size + len(content) > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append((name, content))
        size += len(content)
    yield batch


def _transport(server: str, model: str, version: int | None):
    """The transport that an address names; of gRPC and urllib3 only the one that it needs is imported."""
    example = "Give one such as grpc://localhost:8500 or http://localhost:8501."
    try:
        parts = urllib.parse.urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"{server!r} is no address of a server: {error}. {example}") from error
    if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or parts.username is not None:
        raise UserError(f"Expected the address of a server, got {server!r}. {example}")
    authority = f"{f'[{host}]' if ':' in host else host}:{port or _PORTS[parts.scheme]}"
    if parts.scheme == "grpc":
        if parts.path not in ("", "/"):
            raise UserError(f"Expected no path after the port of a gRPC server, got {server!r}. {example}")
        from kdas_tf.client.over_grpc import GrpcTransport

        return GrpcTransport(authority, model=model, version=version)
    from kdas_tf.client.over_rest import RestTransport

    return RestTransport(f"{parts.scheme}://{authority}{parts.path.rstrip('/')}", model=model, version=version)

"""The client's command line: sends photographs and prints how far apart the people in them are."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from kdas_tf import files
from kdas_tf.client import thresholds
from kdas_tf.client.answers import ServerError
from kdas_tf.client.client import Client
from kdas_tf.client.thresholds import DISTANCES, Threshold
from kdas_tf.errors import UserError

_LARGEST_MATRIX = 12  # photographs whose distances fit on a screen


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. --help lists what can be given.")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = _Parser(
        prog="python -m kdas_tf.client",
        description="Sends photographs of people to a server and prints the distances of their embeddings.",
        epilog="Exit codes: 0 done; 2 a mistake in what was given, or a photograph that the server cannot read; 3 a "
        "fault of the server; 130 Ctrl-C.",
        allow_abbrev=False,
    )
    flags.add_argument("photographs", nargs="+", metavar="FILE", help="a JPEG or PNG file of one person")
    flags.add_argument("--server", required=True, help="grpc://host:8500, http://host:8501 or https://host")
    flags.add_argument("--model", default="kdas_reid", help="its name on the server (%(default)s)")
    flags.add_argument("--version", type=int, help="of the model; the newest by default")
    flags.add_argument("--width", type=int, help="how many numbers an embedding must have")
    flags.add_argument("--threshold", type=float, help="largest distance of two photographs of one person")
    flags.add_argument("--verification", metavar="FILE", help="verification.json of an evaluation, with thresholds")
    flags.add_argument("--fpr", type=float, help="false-positive rate to take from --verification (0.001)")
    flags.add_argument("--distance", choices=DISTANCES, help="what to print (cosine, or that of --verification)")
    flags.add_argument("--json", action="store_true", help="print JSON")
    flags.add_argument("--output", metavar="FILE.npz", help="also write the embeddings and the files' names")
    flags.add_argument("--timeout", type=float, default=10.0, help="seconds of one request (%(default)s)")
    flags.add_argument("--deadline", type=float, default=60.0, help="seconds of all, retries included (%(default)s)")
    flags.add_argument("--retries", type=int, default=4, help="of a request that the server did not take (%(default)s)")
    flags.add_argument("--batch_size", type=int, default=16, help="photographs of one request (%(default)s)")
    return flags


def threshold_of(given: argparse.Namespace) -> Threshold | None:
    """The threshold that the flags ask for; `UserError` for flags that exclude one another."""
    if given.threshold is not None:
        if given.verification is not None or given.fpr is not None:
            raise UserError("Expected --threshold, or --verification with --fpr, got both. Leave one out.")
        if not np.isfinite(given.threshold):
            raise UserError(f"Expected --threshold to be a number, got {given.threshold}.")
        return Threshold(given.threshold, given.distance or "cosine", "--threshold")
    if given.verification is None:
        if given.fpr is not None:
            raise UserError("--fpr chooses a threshold from a file: give --verification=FILE too.")
        return None
    threshold = thresholds.read(given.verification, 0.001 if given.fpr is None else given.fpr)
    if given.distance not in (None, threshold.distance):
        raise UserError(f"{given.verification} is about the {threshold.distance} distance. Leave --distance out.")
    return threshold


def distances(embeddings: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.float64]:
    """Distances of all pairs of embeddings of length 1, `[images, images]`: 1 - cosine (0 to 2), or Euclidean."""
    rows = embeddings.astype(np.float64)
    cosine = np.clip(1.0 - rows @ rows.T, 0.0, 2.0)
    np.fill_diagonal(cosine, 0.0)
    return cosine if kind == "cosine" else np.sqrt(2.0 * cosine)


def lines(names: Sequence[str], apart: npt.NDArray, kind: str, threshold: Threshold | None) -> Iterator[str]:
    """The distances for people: a matrix of few photographs, or the nearest of each of many."""
    if len(names) == 1:
        yield "One photograph: nothing to compare it with."
        return
    same = apart <= threshold.value if threshold is not None else np.zeros(apart.shape, bool)
    cells = [
        [f"{apart[i, j]:.4f}{'*' if i != j and same[i, j] else ' '}" for j in range(len(names))]
        for i in range(len(names))
    ]
    yield f"{kind} distances, from 0 (alike) to 2:"
    longest, digits = max(map(len, names)), len(str(len(names)))
    if len(names) <= _LARGEST_MATRIX:
        yield " " * (digits + 1 + longest) + "".join(f"{j:>8} " for j in range(1, len(names) + 1)).rstrip()
        for i, name in enumerate(names):
            yield f"{i + 1:>{digits}} {name:<{longest}}  {'  '.join(cells[i])}".rstrip()
    else:
        others = apart + np.diag(np.full(len(names), np.inf))
        for i, j in enumerate(others.argmin(1).tolist()):
            yield f"{names[i]:<{longest}}  {cells[i][j]} {names[j]}"
        yield f"The nearest of each; --json prints the distances of all {len(names)}."
    if threshold is not None:
        pairs = int(np.triu(same, 1).sum())
        are = "pair is" if pairs == 1 else "pairs are"
        yield f"* at most {threshold.value:.4f} ({threshold.source}): {pairs} {are} taken for one person"


def as_json(given: argparse.Namespace, width: int, apart: npt.NDArray, kind: str, threshold: Threshold | None) -> str:
    """The distances for programs."""
    content = {"server": given.server, "model": given.model, "images": given.photographs, "embedding_size": width}
    content |= {"distance": kind, "distances": apart.round(7).tolist()}
    if threshold is not None:
        content |= {"threshold": threshold.value, "same_person": (apart <= threshold.value).tolist()}
    return json.dumps(content)


def save(path: Path, embeddings: npt.NDArray[np.float32], names: Sequence[str]) -> None:
    """Writes `embeddings` and `images`, an `.npz`; `UserError` where the file cannot be written."""
    try:
        with files.replacing(path) as partial:
            np.savez(partial, embeddings=embeddings, images=np.array(names))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def run(arguments: Sequence[str]) -> int:
    """Does what a command line asks for and returns the exit code: 2 where the server cannot read a photograph.

    A `UserError` is a mistake in the command line, a `ServerError` the server's fault.
    """
    given = parser().parse_args(arguments)
    threshold = threshold_of(given)
    kind = threshold.distance if threshold is not None else given.distance or "cosine"
    if given.output is not None and not given.output.endswith(".npz"):
        raise UserError(f"Expected --output to end in .npz, got {given.output!r}.")
    names = ("model", "version", "width", "timeout", "deadline", "retries", "batch_size")
    since = time.monotonic()
    with Client(given.server, **{name: getattr(given, name) for name in names}) as client:
        embeddings, errors = client.embed_each(given.photographs)
    seconds = time.monotonic() - since
    for name, error in errors.values():
        print(f"error: {given.server} cannot read {name}: {error}", file=sys.stderr)
    if len(errors) == len(embeddings):
        raise UserError(f"{given.server} can read none of {len(embeddings)} photographs.")
    well = [i for i in range(len(embeddings)) if i not in errors]
    embeddings, given.photographs = embeddings[well], [given.photographs[i] for i in well]
    if given.output is not None:
        save(Path(given.output), embeddings, given.photographs)
    apart, width = distances(embeddings, kind), embeddings.shape[1]
    if given.json:
        print(as_json(given, width, apart, kind, threshold))
        return 2 if errors else 0
    print(f"{len(apart)} embeddings of {width} numbers from {given.model} in {seconds:.2f} s")
    print(*lines(given.photographs, apart, kind, threshold), sep="\n")
    if given.output is not None:
        print(f"embeddings: {given.output}")
    return 2 if errors else 0


def main(arguments: Sequence[str]) -> int:
    """Runs the command line, prints an error as one line, and returns the exit code, as `--help` lists them."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is told in one line below
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ServerError as error:
        print(f"server error: {error}", file=sys.stderr)
        return 3
    except BrokenPipeError:  # the reader of the output, `head` for example, has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130
    return 0

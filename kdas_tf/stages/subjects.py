"""What the evaluate stage judges: a network of any run, an exported model, or a file of embeddings."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import kdas_tf
from kdas_tf.data import verify
from kdas_tf.data.counts import describe
from kdas_tf.data.pipeline import naming_damaged_images, ordered_batches
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError
from kdas_tf.evaluation import cache, embeddings
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.features import Network, extract
from kdas_tf.models import saved
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.serving import runtimes
from kdas_tf.stages import data as data_stage
from kdas_tf.stages.reporting import progress_line

SAVED_MODEL = "saved_model.pb"
FILES = (".onnx", ".tflite")
"""Endings of exported files that are networks by themselves."""
OWN_NETWORKS = ("train", "teacher")
"""Stages of a run whose network is judged if none is named; the first that is there."""


class Subject(NamedTuple):
    """Embeddings to judge, and where they come from.

    Attributes:
        name: of the network or file.
        data: name of the data set.
        query: embeddings of the queries.
        gallery: embeddings of the gallery.
        photographs: files of queries and gallery; None for a file of embeddings.
        parameters: trainable ones; None if they are not known.
    """

    name: str
    data: str
    query: Embeddings
    gallery: Embeddings
    photographs: tuple[list[str], list[str]] | None = None
    parameters: int | None = None


class Judged(NamedTuple):
    """A network to judge.

    Attributes:
        name: for people.
        network: gives embeddings.
        image_size: (height, width) in pixels of the photographs that it wants.
        parameters: trainable ones; None if they are not known.
        made_from: what it is, and a hash of its weights.
    """

    name: str
    network: Network
    image_size: tuple[int, int]
    parameters: int | None
    made_from: str


def from_file(path: str) -> Subject:
    """Reads a file of embeddings."""
    query, gallery = embeddings.load(path)
    return Subject(Path(path).name, "a file of embeddings", query, gallery)


def from_network(judged: Judged, data: ReIDData, folder: Path, *, flip: bool, batch_size: int) -> Subject:
    """Embeds queries and gallery, or reads the embeddings that were kept from the last time."""
    store = cache.EmbeddingCache(folder / "embeddings")
    precision = keras.config.dtype_policy().name

    def embed(records: Sequence[Record], split: str) -> Embeddings:
        paths = [record.path for record in records]
        made_from = {
            "network": judged.made_from,
            "photographs": cache.hash_photographs(paths),
            "image_size": str(judged.image_size),
            "flip": str(flip),
            "precision": precision,
            "version": kdas_tf.__version__,
        }

        def make(out: Callable[[tuple[int, int]], Any]) -> Any:
            batches = ordered_batches(records, image_size=judged.image_size, batch_size=batch_size)
            report = progress_line(f"evaluate: {split}")
            with naming_damaged_images(records):
                return extract(judged.network, batches, total=len(records), progress=report, flip=flip, out=out)

        features = store.get(split, made_from, make)
        identities, cameras = [r.identity for r in records], [r.camera for r in records]
        return Embeddings(features, np.asarray(identities, int), np.asarray(cameras, int), split)

    query, gallery = embed(data.query, "query"), embed(data.gallery, "gallery")
    store.prune()
    photographs = [r.path for r in data.query], [r.path for r in data.gallery]
    return Subject(judged.name, data.name, query, gallery, photographs, judged.parameters)


def open_network(workdir: Path, model: str | None, image_size: tuple[int, int] | None) -> Judged:
    """Loads the network to judge; call it inside the strategy's scope.

    Args:
        workdir: of the run, whose own network is taken if `model` is None.
        model: folder of a stage that left a network, or of a SavedModel; an exported .onnx or .tflite file; or None.
        image_size: (height, width) in pixels; needed for a SavedModel only.

    Raises:
        UserError: there is no network, or it cannot be loaded.
    """
    folder = Path(model) if model is not None else _own_network(workdir)
    if folder.suffix in FILES:
        return _open_file(folder, image_size)
    if (folder / SAVED_MODEL).exists():
        return _open_saved_model(folder, image_size)
    content = saved.describe(folder)
    network = saved.load(folder)
    size = image_size or content["image_size"]
    name = f"{folder.name} ({content['config'].get('backbone', content['kind'])})"
    made_from = f"{json.dumps(content)} {cache.hash_files(folder / saved.WEIGHTS)}"
    return Judged(name, network, size, trainable_parameters(network), made_from)


def _own_network(workdir: Path) -> Path:
    for stage in OWN_NETWORKS:
        if (workdir / stage / saved.INDEX).exists():
            return workdir / stage
    raise UserError(
        f"Nothing to evaluate: {workdir} holds no trained network. Give --model=FOLDER of a stage or of a SavedModel, "
        "--embeddings=FILE, or the --workdir of a finished run.",
        code="missing",
    )


def _open_saved_model(folder: Path, image_size: tuple[int, int] | None) -> Judged:
    if image_size is None:
        raise UserError(
            f"{folder} is a SavedModel, which does not say what size of photograph it was trained on. Give it, for "
            "example --gin_param='evaluate.run.image_size=(384, 128)'."
        )
    try:
        layer = keras.layers.TFSMLayer(str(folder), call_endpoint="serving_default")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"Expected a SavedModel with the signature serving_default in {folder}, but it cannot be loaded "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}).",
            code="damaged",
        ) from error

    def network(images: np.ndarray) -> Any:
        output = layer(np.clip(np.rint(images), 0, 255).astype(np.uint8))
        return next(iter(output.values())) if isinstance(output, dict) else output

    return Judged(folder.name, network, image_size, None, cache.hash_files(folder))


def _open_file(path: Path, image_size: tuple[int, int] | None) -> Judged:
    """An exported file, which knows its size of images."""
    if not path.is_file():
        raise UserError(f"Nothing to evaluate: there is no file {path}.", code="missing")
    runner = runtimes.open_file(path)
    if image_size not in (None, runner.image_size):
        raise UserError(f"{path} takes images of {runner.image_size} only, got image_size={image_size}. Leave it out.")
    return Judged(f"{path.name} ({path.suffix[1:]})", runner, runner.image_size, None, cache.hash_files(path))


def read_data(workdir: Path, data_dir: str | None, reader: Callable[..., ReIDData]) -> ReIDData:
    """Reads queries and gallery of a data set, without damaged images; by default those of the run.

    Raises:
        UserError: there is no data set, or it has no queries or no gallery.
    """
    if data_dir is not None:
        data = verify.drop_damaged(
            data_stage.read(reader, Path(data_dir)), progress=progress_line("evaluate: checking images")
        )
    elif (workdir / "data" / data_stage.RESULT).exists():
        data = data_stage.load(workdir)
    else:
        raise UserError(
            f"Nothing to evaluate on: {workdir} holds no data. Give --data_dir=FOLDER and its --gin_file=gin/data/..., "
            "--embeddings=FILE, or the --workdir of a finished run."
        )
    if not data.query or not data.gallery:
        raise UserError(
            f"Expected queries and a gallery in {data.name}, got {len(data.query)} and {len(data.gallery)} usable "
            "images. It can be trained on, not evaluated on."
        )
    print(describe(data), flush=True)
    return data

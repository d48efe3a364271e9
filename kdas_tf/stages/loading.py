"""Loads what is judged or exported: a network of any run, an exported model, a data set, a file of embeddings."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import kdas_tf
from kdas_tf import files
from kdas_tf.data import counts, verify
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.evaluation import cache
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.features import Network
from kdas_tf.models import saved
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.serving import runtimes
from kdas_tf.serving.embedder import OUTPUT
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import judging
from kdas_tf.stages.reporting import progress_line

SAVED_MODEL = "saved_model.pb"
FILES = (".onnx", ".tflite")
"""Endings of exported files that are networks by themselves."""
OWN_NETWORKS = ("train", "teacher")
"""Stages of a run whose network is judged if none is named; the first that is there."""


class LoadedNetwork(NamedTuple):
    """A network, ready to embed photographs."""

    name: str  # for people
    network: Network
    image_size: tuple[int, int]  # (height, width) in pixels of the photographs that it wants
    parameters: int | None  # trainable ones; None if they are not known
    identity: str  # SHA-256 of its weights and of what else decides what it gives


class Conditions(NamedTuple):
    """How photographs were embedded: another way gives other distances, so other numbers and thresholds.

    Attributes:
        image_size: (height, width) in pixels of the photographs that the network was given.
        flip: whether embeddings are averages of an image's and of its mirror image's.
        precision: dtype policy of the network.
    """

    image_size: tuple[int, int]
    flip: bool
    precision: str

    @classmethod
    def read(cls, content: Any) -> "Conditions | None":
        """The conditions that stand in a file of JSON; None where they do not."""
        if not isinstance(content, dict) or set(content) != set(cls._fields):
            return None
        height, width = content["image_size"]
        return cls((height, width), content["flip"], content["precision"])

    def __str__(self) -> str:
        flipped = "averaged with their mirror images" if self.flip else "not mirrored"
        return f"{self.image_size[0]}x{self.image_size[1]} pixels (height x width), {flipped}, {self.precision}"


class EmbeddedData(NamedTuple):
    """Embeddings to judge, and where they come from; a file of embeddings does not say all of it."""

    name: str  # of the network or file
    data: str  # name of the data set
    query: Embeddings
    gallery: Embeddings
    photographs: tuple[list[str], list[str]] | None = None  # files of queries and gallery
    network: str | None = None  # `LoadedNetwork.identity`
    parameters: int | None = None
    notes: tuple[str, ...] = ()  # what people must know of the data set
    cameras_known: bool = True
    conditions: Conditions | None = None


def embed(loaded: LoadedNetwork, data: ReIDData, folder: Path, *, flip: bool, batch_size: int) -> EmbeddedData:
    """Embeds queries and gallery as `evaluate.run` says, or reads what was kept in a folder of the same embeddings."""
    parts, photographs = [], []
    height, width = loaded.image_size
    conditions = Conditions((height, width), flip, keras.config.dtype_policy().name)
    for split, records in (("query", data.query), ("gallery", data.gallery)):
        paths = [record.path for record in records]
        made_from = {
            "network": loaded.identity,
            "photographs": cache.hash_photographs(paths),
            **{name: str(value) for name, value in conditions._asdict().items()},
            "version": kdas_tf.__version__,
        }
        features = cache.read(folder, split, made_from)
        if features is None:
            options: dict[str, Any] = {"image_size": loaded.image_size, "batch_size": batch_size, "flip": flip}
            features = judging.embed(loaded.network, records, **options, title=f"evaluate: {split}")
            cache.keep(folder, split, made_from, features)
        parts.append(judging.labelled(features, records, split))
        photographs.append(paths)
    query, gallery = parts
    both = photographs[0], photographs[1]
    about: dict[str, Any] = {"notes": data.notes, "cameras_known": data.cameras_known, "conditions": conditions}
    return EmbeddedData(loaded.name, data.name, query, gallery, both, loaded.identity, loaded.parameters, **about)


def open_network(workdir: Path, model: str | None, image_size: tuple[int, int] | None) -> LoadedNetwork:
    """Loads a network; call it inside the strategy's scope. Arguments are as in `evaluate.run`.

    Raises:
        UserError: there is no network, or it cannot be loaded.
    """
    folder = Path(model) if model is not None else workdir / own_network(workdir)
    if folder.suffix in FILES:
        return _open_file(folder, image_size)
    if (folder / SAVED_MODEL).is_file():
        return _open_saved_model(folder, image_size)
    if model is None and not (folder / saved.INDEX).exists():
        raise UserError(
            f"Nothing to evaluate: {workdir} holds no trained network. Give --model=FOLDER of a stage or of a "
            "SavedModel, --embeddings=FILE, or the --workdir of a finished run.",
            code="missing",
        )
    content = saved.describe(folder)
    network = saved.load(folder)
    name = f"{folder.name} ({content['config'].get('backbone', content['kind'])})"
    made_from = f"{json.dumps(content)} {files.hash_files(folder / saved.WEIGHTS)}"
    identity = hashlib.sha256(made_from.encode()).hexdigest()
    return LoadedNetwork(name, network, image_size or content["image_size"], trainable_parameters(network), identity)


def own_network(workdir: Path) -> str:
    """The stage of a run whose network is judged, or would be if there were any."""
    return next((stage for stage in OWN_NETWORKS if (workdir / stage / saved.INDEX).exists()), OWN_NETWORKS[-1])


def _open_saved_model(folder: Path, image_size: tuple[int, int] | None) -> LoadedNetwork:
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
        return output.get(OUTPUT, next(iter(output.values()))) if isinstance(output, dict) else output

    return LoadedNetwork(folder.name, network, image_size, None, files.hash_files(folder))


def _open_file(path: Path, image_size: tuple[int, int] | None) -> LoadedNetwork:
    """Opens an exported file, which knows its size of images."""
    if not path.is_file():
        raise UserError(f"Nothing to evaluate: there is no file {path}.", code="missing")
    runner = runtimes.open_file(path)
    if image_size not in (None, runner.image_size):
        raise UserError(f"{path} takes images of {runner.image_size} only, got image_size={image_size}. Leave it out.")
    return LoadedNetwork(f"{path.name} ({path.suffix[1:]})", runner, runner.image_size, None, files.hash_files(path))


def read_data(run: Path, data_dir: str | None, reader: Callable[..., ReIDData], *, title: str) -> ReIDData | None:
    """Reads a data set without damaged images, by default that of a run; None where there is neither."""
    if data_dir is not None:
        progress = progress_line(f"{title}: checking images")
        return verify.drop_damaged(data_stage.read(reader, Path(data_dir)), progress=progress)
    return data_stage.load(run) if (run / "data" / data_stage.RESULT).exists() else None


def data_to_judge(
    workdir: Path, data_dir: str | None, reader: Callable[..., ReIDData], model: str | None = None
) -> ReIDData:
    """Reads queries and gallery, and prints how many there are.

    Raises:
        UserError: there is no data set, or one that was given and cannot be judged on; that of a run may be for
            training alone.
    """
    data = read_data(workdir, data_dir, reader, title="evaluate")
    if data is None:
        raise UserError(
            f"Nothing to evaluate on: {workdir} holds no data. Give --data_dir=FOLDER and its --gin_file=gin/data/..., "
            "--embeddings=FILE, or the --workdir of a finished run.",
            code="missing",
        )
    if not data.matched_queries() and (data_dir is not None or not data.train):
        raise UserError(f"Expected queries and a gallery with matches in {data.name}, but {counts.why_unjudged(data)}")
    data = _with_trained_ones_noted(data, model)
    print(counts.describe(data), flush=True)
    return data


def _with_trained_ones_noted(data: ReIDData, model: str | None) -> ReIDData:
    """Notes the photographs that the network was trained on, of which its run still has the index."""
    folders = Path(model).absolute().parents[:2] if model is not None else ()
    run = next((each for each in folders if (each / "data" / data_stage.RESULT).exists()), None)
    if run is None:
        return data
    trained = {record.path for record in data_stage.load(run).train}
    judged = [record.path for record in (*data.query, *data.gallery)]
    count = sum(path in trained for path in judged)
    note = (
        f"{count:,} OF THE {len(judged):,} PHOTOGRAPHS WERE TRAINED ON by {model}: the numbers are too high. Judge it "
        f"on those that were kept for it: --workdir={run} without --model and --data_dir."
    )
    return dataclasses.replace(data, notes=(*data.notes, note)) if count else data

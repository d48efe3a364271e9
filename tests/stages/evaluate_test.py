"""The evaluate stage: files of embeddings, networks and exported models, on any data set."""

import csv
import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.data import folders, market1501, msmt17, records, transforms
from kdas_tf.errors import UserError
from kdas_tf.evaluation import embeddings, features
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.ranking import Rules
from kdas_tf.evaluation.rerank import Reranking
from kdas_tf.models import saved
from kdas_tf.models.networks import Student
from kdas_tf.stages import evaluate
from kdas_tf.stages.evaluate import Judgement
from tests.data import miniatures
from tests.stages import small

SIZE = (32, 16)


def run(workdir, **arguments):
    (workdir / "evaluate").mkdir(parents=True, exist_ok=True)
    evaluate.run(small.job(workdir), **arguments)
    return json.loads((workdir / "evaluate" / "results.json").read_text())


def write_embeddings(path, arrays, case, cameras=None):
    parts = {name: arrays[f"{case}/{name}"] for name in embeddings.ARRAYS if f"{case}/{name}" in arrays}
    np.savez(path, **parts, **(cameras or {}))
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with data and a network with fixed random weights, as the train stage leaves it."""
    workdir = tmp_path_factory.mktemp("run")
    data = market1501.read(miniatures.market1501(workdir / "photographs"))
    (workdir / "data").mkdir()
    records.save(data, workdir / "data" / "dataset.json")
    saved.save(network(seed=0), workdir / "train", image_size=SIZE)
    return workdir


def network(seed):
    keras.utils.set_random_seed(seed)
    return Student(genotype.AUTO_REID, 4, image_size=SIZE, channels=4, cells=2, reductions=(1,))


@pytest.mark.parametrize("case", ["market_like", "hard", "few_positives"])
def test_a_file_of_embeddings_gets_the_numbers_of_torchreid(case, tmp_path, reference):
    arrays = reference("ranking.npz")
    results = run(tmp_path, embeddings=write_embeddings(tmp_path / "e.npz", arrays, case))
    for name in ("mAP", "mINP"):
        assert results[name] == pytest.approx(float(arrays[f"{case}/{name}"]), abs=1e-6)
    np.testing.assert_allclose(results["cmc"][:20], arrays[f"{case}/cmc"], atol=1e-6)
    assert [results[f"rank{k}"] for k in (1, 5, 10)] == [results["cmc"][k - 1] for k in (1, 5, 10)]
    assert results["invalid_queries"] == int(arrays[f"{case}/invalid_queries"])
    assert "reranked" not in results


def test_the_rules_can_be_those_of_the_official_code(tmp_path, reference):
    arrays = reference("ranking.npz")
    path = write_embeddings(tmp_path / "e.npz", arrays, "hard")
    results = run(tmp_path, embeddings=path, judgement=Judgement(rules=Rules(average_precision="trapezoid")))
    assert results["mAP"] == pytest.approx(float(arrays["hard/mAP_matlab_trapezoid"]), abs=1e-6)
    assert "MATLAB" in results["conventions"]["average_precision"]


def test_re_ranked_numbers_are_those_of_the_recorded_distances(tmp_path, reference):
    arrays = reference("rerank.npz")
    queries, gallery = arrays["default/query_pids"], arrays["default/gallery_pids"]
    cameras = {"query_camids": np.zeros(len(queries), int), "gallery_camids": np.ones(len(gallery), int)}
    path = write_embeddings(tmp_path / "e.npz", arrays, "default", cameras)
    results = run(tmp_path, embeddings=path, rerank=True)
    precisions = []
    for identity, distances in zip(queries, arrays["default/reranked_distances"], strict=True):
        ranks = np.flatnonzero(gallery[np.argsort(distances, kind="stable")] == identity) + 1
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks) if len(ranks) else np.nan)
    assert results["reranked"]["mAP"] == pytest.approx(np.nanmean(precisions), abs=1e-6)
    assert results["reranked"]["mAP"] != results["mAP"]


def test_a_handful_is_judged_without_the_re_ranking_that_it_is_too_few_for_and_the_advice_can_be_followed(
    tmp_path, capsys
):
    rows, people = np.eye(5, dtype=np.float32), np.arange(2)
    arrays = {"query_features": rows[:2], "query_pids": people, "query_camids": people * 0}
    arrays |= {"gallery_features": rows[[0, 1, 2]], "gallery_pids": np.arange(3), "gallery_camids": np.ones(3, int)}
    np.savez(tmp_path / "few.npz", **arrays)
    results = run(tmp_path, embeddings=str(tmp_path / "few.npz"), rerank=True)
    assert results["mAP"] == 1 and "reranked" not in results
    note = "not re-ranked: k1 20 and k2 6 need at least 21 photographs in queries and gallery together, here are 5."
    output = capsys.readouterr().out
    assert "Rank-1" in output and note in output and note in results["notes"][0]
    assert "k1 of at most 4 and k2 of at most 5" in results["notes"][0]
    followed = Judgement(reranking=Reranking(k1=4, k2=5))
    assert "reranked" in run(tmp_path, embeddings=str(tmp_path / "few.npz"), rerank=True, judgement=followed)


def test_a_network_is_judged_and_everything_to_look_at_is_left(trained, capsys):
    results = run(trained, rerank=True, judgement=SMALL, flip=True)
    folder = trained / "evaluate"
    with (folder / "per_query.csv").open(newline="") as file:
        queries = list(csv.DictReader(file))
    assert len(queries) == results["queries"]
    precisions = [float(query["average_precision"]) for query in queries if query["average_precision"]]
    assert np.mean(precisions) == pytest.approx(results["mAP"], abs=1e-9)
    for picture in ("cmc", "roc", "worst_queries", "best_queries"):
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert page.count("data:image") > 10
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert json.loads((folder / "verification.json").read_text())["distance"] == "cosine"
    assert list((trained / "tensorboard" / "evaluate").iterdir())
    printed = capsys.readouterr().out
    assert "Rank-10" in printed and "average precision: step" in printed and "re-ranked" in printed
    run(trained, judgement=Judgement(verification=None), shown_queries=0)
    assert {path.name for path in (*folder.glob("*.png"), *folder.glob("*.json"))} == {"cmc.png", "results.json"}


SMALL = Judgement(reranking=Reranking(k1=3, k2=2))


@pytest.mark.slow
def test_the_same_photographs_are_embedded_again_only_by_another_network_or_in_another_way(
    trained, tmp_path, monkeypatch
):
    embedded = []

    def extract(*arguments, **options):
        embedded.append(options)
        return features.extract(*arguments, **options)

    monkeypatch.setattr("kdas_tf.stages.judging.extract", extract)
    workdir, data = tmp_path / "run", {"data_dir": str(trained / "photographs")}
    other = tmp_path / "other"
    saved.save(network(seed=1), other, image_size=SIZE)
    ways = [{"model": str(trained / "train")}, {"model": str(trained / "train"), "flip": True}, {"model": str(other)}]
    first = [run(workdir, **way, **data) for way in ways]
    assert len(embedded) == 6  # queries and gallery each time
    again = [run(workdir, **way, **data, rerank=True, judgement=SMALL, metric="euclidean") for way in ways]
    assert len(embedded) == 6
    # Of unit vectors: the same order.
    assert [results["mAP"] for results in again] == pytest.approx([results["mAP"] for results in first], abs=1e-9)
    assert len({results["network"] for results in first}) == 2


def test_a_network_of_one_data_set_is_judged_on_another_one(trained, tmp_path):
    folder = miniatures.msmt17(tmp_path / "photographs", version=1)
    results = run(tmp_path / "run", model=str(trained / "train"), data_dir=str(folder), reader=msmt17.read)
    assert results["data"].startswith("MSMT17")
    assert results["parameters"] == sum(v.numpy().size for v in saved.load(trained / "train").trainable_variables)


def test_an_exported_model_is_judged_like_the_embeddings_that_it_gives(trained, tmp_path):
    class MeanColours(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def embed(self, images):
            rows = tf.image.resize(tf.cast(images, tf.float32), (4, 2))
            return {"embedding": tf.reshape(rows, [-1, 24])}

    module = MeanColours()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.embed})
    results = run(tmp_path, model=str(tmp_path / "model"), image_size=SIZE, data_dir=str(trained / "photographs"))
    data = market1501.read(trained / "photographs")

    def embed(split):
        images = tf.stack([transforms.load(tf.constant(r.path), SIZE) for r in split])
        rows = module.embed(tf.cast(tf.round(images), tf.uint8))["embedding"].numpy()
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return Embeddings(rows, np.array([r.identity for r in split]), np.array([r.camera for r in split]))

    embeddings.save(embed(data.query), embed(data.gallery), tmp_path / "e.npz")
    expected = run(tmp_path / "file", embeddings=str(tmp_path / "e.npz"))
    assert results["mAP"] == pytest.approx(expected["mAP"], abs=1e-6)
    assert results["embedding_size"] == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Nothing to evaluate on"),
        ({"data_dir": True}, "Nothing to evaluate: "),
        ({"data_dir": True, "model": "."}, "Expected a trained network in"),
        ({"embeddings": "e.npz", "model": "."}, "--model or --embeddings, got both"),
        ({"embeddings": "e.npz"}, "Expected an .npz file of embeddings"),
        ({"data_dir": True, "metric": "manhattan"}, "cosine, euclidean, got 'manhattan'"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(arguments, message, trained, tmp_path):
    given = {name: str(tmp_path / value) for name, value in arguments.items() if name in ("model", "embeddings")}
    given |= {"metric": arguments.get("metric", "cosine")}
    if "data_dir" in arguments:
        given["data_dir"] = str(trained / "photographs")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        run(tmp_path, **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evaluate" / "results.json").exists()


def test_an_exported_model_needs_to_be_told_the_size_of_photographs(trained, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=re.escape("evaluate.run.image_size=")):
        run(tmp_path, model=str(tmp_path), data_dir=str(trained / "photographs"))


def test_a_data_set_without_queries_is_refused(trained, tmp_path):
    folder = miniatures.market1501(tmp_path / "photographs")
    for path in (folder / "query").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="Expected queries and a gallery"):
        run(tmp_path / "run", model=str(trained / "train"), data_dir=str(folder))


def test_the_stage_reads_the_data_and_the_network_of_its_run_and_nothing_that_is_known_of_others(trained, tmp_path):
    own = {"model": None, "embeddings": None, "data_dir": None}
    *read, photographs = evaluate.reads(trained, own)
    assert read == ["data", "train", trained / "train" / "network.weights.h5"]
    assert len(photographs.read().train) == 0 < len(photographs.read().query)
    assert evaluate.reads(tmp_path, own)[:2] == ("data", "teacher")
    for name in own:
        assert evaluate.reads(trained, own | {name: str(trained)}) is None


def test_unknown_cameras_are_said_loudly_in_table_file_and_page(trained, tmp_path, capsys):
    folder = miniatures.people(tmp_path / "people")
    results = run(tmp_path / "run", model=str(trained / "train"), data_dir=str(folder), reader=folders.read)
    printed, page = capsys.readouterr().out, (tmp_path / "run" / "evaluate" / "report.html").read_text()
    assert "train (Student), near-copies count" in printed
    for text in (printed, page):
        assert "THE CAMERAS ARE NOT KNOWN" in text
        assert "near-copies of the query count as matches" in text
        assert "own camera" not in text
    assert "cam ?" in page and "cam 1" not in page
    assert results["cameras_known"] is False
    assert "The names seem to tell 2 cameras" in results["notes"][0]


def test_photographs_that_the_network_was_trained_on_are_counted(trained, tmp_path, capsys):
    index = records.load(trained / "data" / "dataset.json")
    root, run_ = trained / "photographs", tmp_path / "run"
    records.save(dataclasses.replace(index, train=index.query), run_ / "data" / "dataset.json")
    shutil.copytree(trained / "train", run_ / "train")
    results = run(tmp_path / "judged", model=str(run_ / "train"), data_dir=str(root))
    count, judged = len(index.query), len(index.query) + len(index.gallery)
    assert f"{count} OF THE {judged} PHOTOGRAPHS WERE TRAINED ON" in results["notes"][0]
    assert "WERE TRAINED ON" in capsys.readouterr().out


def test_a_run_that_cannot_be_judged_ends_well_and_says_why(trained, tmp_path, capsys):
    index = records.load(trained / "data" / "dataset.json")
    everywhere = tuple(dataclasses.replace(record, camera=1) for record in index.gallery)
    queries = tuple(dataclasses.replace(record, camera=1) for record in index.query)
    unjudged = dataclasses.replace(index, query=queries, gallery=everywhere)
    records.save(unjudged, tmp_path / "data" / "dataset.json")
    shutil.copytree(trained / "train", tmp_path / "train")
    results = run(tmp_path)
    assert "all matches of the 6 queries are in the query's own camera" in results["not_judged"]
    assert "evaluate: not judged: all matches" in capsys.readouterr().out

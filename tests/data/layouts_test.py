import pytest

from kdas_tf.data import cuhk03, folders, layouts, market1501, msmt17
from kdas_tf.errors import UserError
from tests.build_test import ROOT
from tests.data import miniatures

READERS = {"market1501": market1501.read, "cuhk03": cuhk03.read, "msmt17": msmt17.read, "folders": folders.read}
DATA_SETS = {
    "market1501": (miniatures.market1501, {}),
    "cuhk03, raw": (miniatures.cuhk03, {"raw": True}),
    "cuhk03, extracted": (miniatures.cuhk03, {"raw": False}),
    "msmt17, V1": (miniatures.msmt17, {"version": 1}),
    "msmt17, V2": (miniatures.msmt17, {"version": 2}),
    "folders": (miniatures.people, {}),
}
MISTAKES = [(reader, data_set) for reader in READERS for data_set in DATA_SETS if not data_set.startswith(reader)]


def gin_file(data_set):
    return {"cuhk03": "gin/data/cuhk03_labeled.gin"}.get(data_set[:6], f"gin/data/{data_set.partition(',')[0]}.gin")


def refusal(reader, folder):
    with pytest.raises(UserError) as error:
        READERS[reader](folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("reader", "data_set"), MISTAKES)
def test_a_reader_names_the_file_that_reads_the_data_set_it_was_given(tmp_path, reader, data_set):
    make, arguments = DATA_SETS[data_set]
    assert f"use --gin_file={gin_file(data_set)}" in refusal(reader, make(tmp_path / "data", **arguments))


@pytest.mark.parametrize(("reader", "data_set"), [m for m in MISTAKES if m[1] != "folders"])
def test_a_benchmark_is_recognised_one_folder_deeper_too(tmp_path, reader, data_set):
    make, arguments = DATA_SETS[data_set]
    make(tmp_path / "unpacked", **arguments)
    message = refusal(reader, tmp_path)
    assert f"use --gin_file={gin_file(data_set)}" in message
    assert "(because of unpacked/" in message


@pytest.mark.parametrize(
    ("reader", "data_set", "part"),
    [
        ("market1501", "msmt17, V1", "train"),
        ("cuhk03", "market1501", "query"),
        ("msmt17", "cuhk03, extracted", "images_labeled"),
        ("folders", "market1501", "bounding_box_train"),
        ("market1501", "market1501", "bounding_box_test"),
        ("cuhk03", "cuhk03, extracted", "images_detected"),
        ("msmt17", "msmt17, V2", "mask_test_v2"),
    ],
)
def test_a_part_of_a_benchmark_points_to_its_whole(tmp_path, reader, data_set, part):
    make, arguments = DATA_SETS[data_set]
    message = refusal(reader, make(tmp_path / "data", **arguments) / part)
    assert f"use --gin_file={gin_file(data_set)}" in message
    assert f"give its parent, {tmp_path / 'data'}." in message


@pytest.mark.parametrize(
    ("reader", "data_set"),
    [(data_set.partition(",")[0], data_set) for data_set in DATA_SETS if data_set != "folders"],
)
def test_the_only_sub_folder_with_the_layout_is_used_and_several_are_named(tmp_path, reader, data_set):
    make, arguments = DATA_SETS[data_set]
    make(tmp_path / "one", **arguments)
    (tmp_path / "empty").mkdir()
    assert READERS[reader](tmp_path).train[0].path.startswith(str(tmp_path / "one"))
    make(tmp_path / "two", **arguments)
    assert "there are 2: one, two. Choose one of them." in refusal(reader, tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_a_root_that_is_missing_a_file_or_empty_is_an_error(tmp_path, reader):
    assert "there is nothing" in refusal(reader, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "there is a file" in refusal(reader, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert f"in {tmp_path / 'empty'}, but found" in refusal(reader, tmp_path / "empty")


@pytest.mark.parametrize("reader", READERS)
def test_paths_are_absolute(tmp_path, monkeypatch, reader):
    make, arguments = next(value for data_set, value in DATA_SETS.items() if data_set.startswith(reader))
    make(tmp_path / "data", **arguments)
    monkeypatch.chdir(tmp_path)
    data = READERS[reader]("data")
    records = (*data.train, *data.query, *data.gallery)
    assert all(record.path.startswith(str(tmp_path / "data")) for record in records)
    assert len({record.path for record in records}) == len(records)


@pytest.mark.parametrize("layout", [*layouts.BENCHMARKS, layouts.PEOPLE], ids=lambda layout: layout.name)
def test_the_files_that_the_messages_name_exist(layout):
    assert (ROOT / layout.gin_file.partition(" ")[0]).is_file()


def test_images_are_listed_in_order_without_what_systems_leave_behind(tmp_path):
    for name in ("b.JPG", "a.png", ".hidden.jpg", "._b.JPG", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    assert list(layouts.image_names(tmp_path)) == ["a.png", "b.JPG"]


def test_sub_folders_are_listed_without_those_that_hide_or_come_from_archives(tmp_path):
    for name in ("b", "a", ".git", "__MACOSX"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert [path.name for path in layouts.subfolders(tmp_path)] == ["a", "b"]

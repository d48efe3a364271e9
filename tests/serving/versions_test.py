import pytest

from kdas_tf.errors import UserError
from kdas_tf.serving import versions


def publish(root, name="m", version=None, files=3):
    with versions.publishing(root, name, version) as new:
        for i in range(files):
            (new.folder / f"{i}").write_text("content")
    return new


def test_versions_are_numbered_from_one_on(tmp_path):
    assert versions.published(tmp_path, "m") == []
    assert [publish(tmp_path).number for _ in range(3)] == [1, 2, 3]
    assert publish(tmp_path, version=12).final == tmp_path / "m" / "12"
    assert publish(tmp_path).number == 13
    assert publish(tmp_path, "other").number == 1
    (tmp_path / "m" / "notes").mkdir()
    assert versions.published(tmp_path, "m") == [1, 2, 3, 12, 13]
    assert versions.models(tmp_path) == ["m", "other"]


def test_a_version_appears_at_the_end_and_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), versions.publishing(tmp_path, "m") as new:
        (new.folder / "half").write_text("")
        assert not (tmp_path / "m").exists()  # the folder that a server polls
        raise RuntimeError
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert publish(tmp_path).number == 1


def test_what_a_killed_run_wrote_is_not_published(tmp_path):
    publish(tmp_path)
    (tmp_path / "partial.m.2").mkdir()
    (tmp_path / "partial.m.2" / "half").write_text("")
    assert versions.models(tmp_path) == ["m"]
    assert sorted(path.name for path in publish(tmp_path).final.iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize(("name", "version"), [("m", 1), ("m", 0), ("m", -1), ("a/b", None), ("..", None), ("", None)])
def test_a_name_or_number_that_cannot_be_is_refused_in_one_line(tmp_path, name, version):
    publish(tmp_path)
    with pytest.raises(UserError) as caught, versions.publishing(tmp_path, name, version):
        pass
    assert "\n" not in str(caught.value)
    assert versions.published(tmp_path, "m") == [1]


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), versions.publishing(tmp_path / "file", "m"):
        pass

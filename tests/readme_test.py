"""What the README says is so: the package map, the commands, the flags, the links, the Python."""

import contextlib
import re
import shlex

import pytest
from absl import flags

from kdas_tf import launch
from kdas_tf.errors import UserError
from kdas_tf.launcher import bindings
from tests.build_test import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
LAUNCHER = "python -m kdas_tf.launch "
# Where the bindings that the text shows outside of commands are tried out.
EVERYTHING = ("gin/search.gin", "gin/data/market1501.gin", "gin/teacher/mobilenet_v2.gin")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks in a language, without the indentation that they have in lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def commands(text: str) -> list[str]:
    """The lines of all shell blocks; a line that goes on after a backslash is one."""
    return [line for code in blocks(text, "bash") for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def mapped_files(text: str) -> list[str]:
    """The files of the package map; a folder's line stands for its `__init__.py`."""
    (tree,) = [code for code in blocks(text, "text") if code.startswith("kdas_tf/")]
    files, folders = [], {}
    for line in tree.splitlines():
        indent, name, explanation = re.fullmatch(r"( *)(\S+) {2,}(\S.*)", line).groups()
        parent = folders.get(len(indent) - 2, "")
        if name.endswith("/"):
            folders[len(indent)] = parent + name
            name += "__init__.py"
        files.append(parent + name)
        assert explanation
    return files


ALL_COMMANDS = [command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))]
LAUNCHES = sorted({command for command in ALL_COMMANDS if command.startswith(LAUNCHER)})


def commands_of_head(path) -> list[str]:
    """The commands in the comment at the head of a .gin file."""
    comment = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8")).group().replace("\\\n#", " ")
    return re.findall(rf"^# *({LAUNCHER}.*)$", comment, flags=re.MULTILINE)


HEADS = sorted({command for path in ROOT.glob("gin/**/*.gin") for command in commands_of_head(path)})


@contextlib.contextmanager
def configured(arguments, data_dir):
    """Reads a command's flags and bindings as the launcher does, with files and folders that exist."""
    values = flags.FlagValues()
    launch.define_flags(values)
    rest = values(["kdas_tf.launch", *arguments])[1:]
    assert not rest
    there = {"data_dir": data_dir, "model": data_dir, "embeddings": __file__}
    for name, path in there.items():
        if values[name].value is not None:
            values[name].value = str(path)
    bindings.gin.clear_config()
    try:
        files, params = values["gin_file"].value, values["gin_param"].value or []
        bindings.parse(files, params, launch.overrides_of(values), launch.stage_arguments_of(values))
        yield values
    finally:
        bindings.gin.clear_config()


def test_the_package_map_equals_the_tree():
    mapped = mapped_files(README)
    assert len(mapped) == len(set(mapped))
    assert sorted(mapped) == sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("kdas_tf/**/*.py"))


def test_the_readme_has_commands_for_search_own_data_and_own_teacher():
    text = "\n".join(LAUNCHES)
    for file in ("gin/search.gin", "gin/data/market1501.gin", "gin/scale/paper.gin", "gin/teacher/mobilenet_v2.gin"):
        assert f"--gin_file={file}" in text


@pytest.mark.parametrize("command", LAUNCHES + HEADS)
def test_a_command_of_a_page_or_of_the_head_of_a_gin_file_is_valid(command, tmp_path):
    arguments = shlex.split(command.removeprefix(LAUNCHER), comments=True)
    with configured(arguments, tmp_path) as values:
        for file in values["gin_file"].value:
            assert (ROOT / file).is_file()


def test_a_wrong_command_would_be_found(tmp_path):
    with (
        pytest.raises(UserError, match="SEARCH_EPOCH"),
        configured(["--gin_file=gin/search.gin", "--gin_param=SEARCH_EPOCH=5"], tmp_path),
    ):
        pass
    with pytest.raises(flags.Error), configured(["--gin_flie=gin/search.gin"], tmp_path):
        pass


@pytest.mark.parametrize(
    "binding", sorted({shlex.split(text)[0] for text in re.findall(r"`(--gin_param=[^`]+)`", README)})
)
def test_a_binding_in_the_text_is_valid(binding, tmp_path):
    name = binding.removeprefix("--gin_param=").split(".")[0]
    known = {"export": ("gin/export.gin",)} | dict.fromkeys(("evaluate", "ranking", "train"), ("gin/train.gin",))
    names = known.get(name, EVERYTHING)
    files = [f"--gin_file={file}" for file in names]
    with configured([*files, binding, "--data_dir=/data"], tmp_path):
        pass


def test_every_script_and_gin_file_that_is_named_exists():
    for page in PAGES:
        named = re.findall(r"\b(?:launch/\w+\.sh|gin/[\w/]+\.gin)\b", page.read_text(encoding="utf-8"))
        missing = [name for name in named if not (ROOT / name).is_file() and "NAME" not in name]
        assert not missing, f"{page.name} names {missing}"
    for command in ALL_COMMANDS:
        if command.startswith("bash "):
            assert (ROOT / command.split()[1]).is_file()


def test_the_table_of_flags_is_the_launchers():
    values = flags.FlagValues()
    launch.define_flags(values)
    assert set(re.findall(r"^\| `--(\w+)` \|", README, flags=re.MULTILINE)) == set(values) - {"h"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_a_page_compiles_and_its_imports_exist(page):
    for code in blocks(page.read_text(encoding="utf-8"), "python"):
        compile(code, str(page), "exec")
        imports = "\n".join(re.findall(r"^(?:from|import) .+$", code, flags=re.MULTILINE))
        exec(imports, {})


def test_pictures_are_small():
    assert all(path.stat().st_size < 300_000 for path in (ROOT / "docs" / "images").iterdir())

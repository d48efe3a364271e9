"""The commands in the heads of the .gin files can be given as they stand there."""

import re
import shlex

import pytest

from gin import config as gin
from kdas_tf.launcher import bindings
from tests.readme_test import LAUNCHER, configured

FILES = sorted(bindings.REPOSITORY.glob("gin/**/*.gin"))


def commands(text: str) -> list[str]:
    """The commands in the comment at the head of a file; a line that goes on after a backslash is one."""
    head = "\n".join(line.removeprefix("#") for line in re.match(r"(?:#.*\n)*", text).group().splitlines())
    lines = head.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith(LAUNCHER)]


COMMANDS = sorted({command for path in FILES for command in commands(path.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_the_head_of_a_gin_file_is_valid(command, tmp_path):
    with configured(shlex.split(command.removeprefix(LAUNCHER), comments=True), tmp_path):
        assert gin.query_parameter("launch.run.stages")


def test_commands_are_found_also_where_they_go_on_in_the_next_line():
    text = "# A file.\n#\n#   python -m kdas_tf.launch --gin_file=a.gin \\\n#       --seed=1\n#\n# More.\n\nCELLS = 4\n"
    assert [command.split() for command in commands(text)] == [
        ["python", "-m", "kdas_tf.launch", "--gin_file=a.gin", "--seed=1"]
    ]

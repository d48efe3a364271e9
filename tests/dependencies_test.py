"""Versions, hashes and licences of what is installed agree."""

import re

import pytest

from tests.build_test import ROOT

PIN = r"^([\w.-]+)==([\w.]+)"


def pins(file):
    """{package: version} of a requirements file."""
    return dict(re.findall(PIN, (ROOT / file).read_text(), flags=re.MULTILINE))


def test_the_lock_holds_the_required_versions_each_with_hashes():
    lower = {name.lower(): version for name, version in pins("requirements.txt").items()}
    assert {re.sub("_", "-", name): version for name, version in lower.items()} == pins("requirements.lock")
    for entry in re.split(r"\n(?=[\w.-]+==)", (ROOT / "requirements.lock").read_text())[1:]:
        first, *hashes = entry.replace("\\\n", "\n").split()
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", value) for value in hashes), first


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_has_an_exact_version_and_its_licence_is_listed(file):
    page = (ROOT / "docs" / "dependencies.md").read_text()
    licences = dict(re.findall(r"^\| ([\w.-]+) \| ([^|]+) \|$", page, flags=re.MULTILINE))
    assert not [name for name in pins(file) if not licences.get(name, "").strip(" ?")]
    for line in (ROOT / file).read_text().splitlines():
        assert re.fullmatch(rf"|#.*|-r requirements\.txt|{PIN}", line), line

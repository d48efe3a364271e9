"""Versions, hashes and licences of what is installed agree."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins(text):
    """{name as PyPI compares names: version}."""
    found = re.findall(r"^([\w.-]+)==([^\s\\]+)", text.lower(), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name): version for name, version in found}


def test_the_lock_holds_the_required_versions_each_with_hashes():
    lock = (ROOT / "requirements.lock").read_text()
    assert pins(lock) == pins((ROOT / "requirements.txt").read_text())
    entries = re.split(r"\n(?=[\w.-]+==)", lock)[1:]
    assert len(entries) == len(pins(lock))
    for entry in entries:
        first, *hashes = entry.replace("\\\n", "\n").split()
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", value) for value in hashes), first


def test_the_licence_of_every_package_is_listed():
    listed = dict(
        re.findall(r"^\| ([\w.-]+) \| ([^|]+) \|$", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    )
    for file in ("requirements.txt", "requirements-dev.txt"):
        names = re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(), flags=re.MULTILINE)
        assert not [name for name in names if not listed.get(name, "").strip(" ?")], file

"""Puts the .gin files into the wheel: gin/ becomes kdas_tf/configs/gin. The rest is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

_HERE = Path(__file__).parent
_CONFIGS = "kdas_tf.configs"
_FOLDERS = [path.parent.relative_to(_HERE) for path in sorted(_HERE.glob("gin/**/*.gin"))]
_PACKAGES = sorted({f"{_CONFIGS}.{'.'.join(folder.parts)}" for folder in _FOLDERS})

setup(
    packages=[*find_packages(include=["kdas_tf*"]), *_PACKAGES],
    package_dir={f"{_CONFIGS}.gin": "gin"},
    package_data={package: ["*.gin"] for package in _PACKAGES},
)

"""What `pip install .` takes along: every file of the package."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_data_file_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["graphc"]
    package = ROOT / "graphc"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    data = {
        path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data and data <= packaged, sorted(map(str, data - packaged))

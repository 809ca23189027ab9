"""Settings for all tests: the same examples in every run, and a cache folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

import graphc as g
from tests.control_support import DEVICES

settings.register_profile(
    "graphc",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("graphc")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled code goes to a folder of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=DEVICES)
def session(request: pytest.FixtureRequest) -> Iterator[g.Session]:
    """A session on each device in turn."""
    with g.Session(device=request.param, seed=3) as opened:
        yield opened


# OpenCL drivers compile every kernel for themselves, slowly: of the tables that other devices run
# whole, and of the long ones of its own, a quick run takes some of OpenCL's rows, always the same:
# a part of each table. `pytest --thorough` runs them all.
LONG = ("test_opencl_tiles", "test_opencl_clusters", "test_opencl_ordered")
WHOLE = ("test_opencl_devices", "test_opencl_loops", "test_opencl_math", "test_opencl_memory",
         "test_cli", "test_doctests", "test_style")  # fmt: skip
USUAL = ("[int32]", "[float32]")
PART = 6  # one of so many rows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run all tables on OpenCL")


def _is_long(item: pytest.Item) -> bool:
    stem = item.path.stem
    if stem == "test_opencl_program" and item.name.startswith("test_every_op_in_one_program"):
        return not item.name.endswith(USUAL)
    if stem in LONG or (stem not in WHOLE and "opencl" in item.name):
        return crc32(item.name.encode()) % PART > 0
    return False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    long = [item for item in items if _is_long(item)]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not _is_long(item)]

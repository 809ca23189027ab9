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


# OpenCL drivers compile every kernel for themselves, slowly: of these tables, which other devices
# run whole, a quick run leaves OpenCL's rows out. `pytest --thorough` runs them too.
LONG_ON_OPENCL = (
    "test_control_seen", "test_inner_fetch", "test_loop_gradients", "test_loop_passes",
    "test_ordered", "test_recurrent", "test_scan", "test_while_loop",
)  # fmt: skip
USUAL = ("[int32]", "[float32]")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run all tables on OpenCL")


def _is_long(item: pytest.Item) -> bool:
    if item.path.stem == "test_opencl_tiles":
        return crc32(item.name.encode()) % 3 > 0  # products of many sizes: a third of them
    if item.name.startswith("test_every_op_in_one_program"):
        return not item.name.endswith(USUAL)
    return item.path.stem in LONG_ON_OPENCL and "opencl" in item.name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    long = [item for item in items if _is_long(item)]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not _is_long(item)]

"""Listing, choosing and refusing OpenCL devices: by fakes, and on the drivers that are here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc import doctor
from graphc.cli import main
from graphc.runtime import devices
from graphc.runtime.opencl import drivers, selftest
from graphc.runtime.opencl.capabilities import Capabilities, capabilities
from graphc.runtime.opencl.platforms import Found, Listing, choose, look, pyopencl
from tests.opencl_fakes import ACCELERATOR, CPU, Refuses, device, module, platform

ROOT = Path(__file__).parents[1]


def two_vendors() -> Any:
    """A CPU before two GPUs, the last without float64."""
    return module(
        platform("Portable Computing", [device("pthread-zen", CPU)]),
        platform("NVIDIA CUDA", [
            device("GeForce A"), device("GeForce B", double_fp_config=0, extensions="")]),
    )  # fmt: skip


def listing(*platforms: Any) -> Listing:
    return look(lambda: module(*platforms))


@pytest.fixture
def card() -> Capabilities:
    made = device()
    platform("Vendor", [made])
    return capabilities(made)


# ---------------------------------------------------------------------------- what is reported


def test_capabilities_are_what_the_driver_says(card: Capabilities) -> None:
    assert (card.name, card.platform, card.type) == ("Card", "Vendor", "gpu")
    assert (card.clock, card.compute_units, card.work_group) == (1980, 8, 1024)
    assert (card.local_memory, card.constant_memory) == (49152, 65536)
    assert (card.global_memory, card.allocation_limit) == (3 * 2**30, 3 * 2**28)
    assert card.fp64 and not card.fp16 and card.denormals and card.fused and card.exact_division
    assert card.local_is_fast and not card.unified and card.alignment == 512
    assert card.refusal() is None and card.has("cl_khr_fp64")
    assert (card.lanes(32), card.without(vector_width=16).lanes(64)) == (1, 8)


def test_what_a_driver_does_not_answer_is_the_least() -> None:
    class Silent:
        name, type, platform = "Old", 2, SimpleNamespace(name="P", version="1")
        max_work_group_size = local_mem_size = single_fp_config = double_fp_config = Refuses()

    known = capabilities(Silent())
    assert (known.work_group, known.local_memory, known.allocation_limit) == (1, 0, 0)
    assert not known.fp64 and not known.fp16
    assert known.refusal() == "it has no infinities and NaN"


@pytest.mark.parametrize("key", ["name", "vendor", "version", "driver_version"])
def test_another_driver_has_another_key(key: str, card: Capabilities) -> None:
    other = device(**{key: "another"})
    platform("Vendor", [other])
    assert capabilities(other).driver != card.driver


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"compiler_available": 0}, "compiles no kernels"),
        ({"available": 0}, "compiles no kernels"),
        ({"profile": "EMBEDDED_PROFILE"}, "embedded profile"),
        ({"single_fp_config": 4}, "no infinities"),
        ({"opencl_c_version": "OpenCL C 1.1 "}, "OpenCL C 1.1, and OpenCL C 1.2 is needed"),
    ],
)
def test_devices_that_cannot_be_used(change: dict[str, Any], reason: str) -> None:
    found = listing(platform("Vendor", [device(**change)]))
    with pytest.raises(g.DeviceError, match=f'"opencl:0" .* cannot be used: .*{reason}'):
        choose("opencl", found)
    [shown] = devices.opencl_devices(found)
    assert not shown.usable and reason in shown.reason


def test_float64_is_refused_and_never_replaced(card: Capabilities) -> None:
    card.demand(g.float64)
    lesser = card.without(fp64=False)
    lesser.demand(g.float32)
    with pytest.raises(g.DeviceError, match=r"Card has no float64 .* does not replace it"):
        lesser.demand(g.float64)


def test_limits_are_errors_with_both_numbers(card: Capabilities) -> None:
    card.demand_allocation(card.allocation_limit, "%x")
    with pytest.raises(g.DeviceError, match=r"%x needs 805306369 bytes .* allows 805306368"):
        card.demand_allocation(card.allocation_limit + 1, "%x")
    card.demand_group((32, 32), 49152, "matmul")
    with pytest.raises(g.DeviceError, match="work-groups of 2048 items, and Card allows 1024"):
        card.demand_group((64, 32), 0, "matmul")
    with pytest.raises(g.DeviceError, match=r"128 items along axis 2 .* allows 64"):
        card.demand_group((1, 1, 128), 0, "matmul")
    with pytest.raises(g.DeviceError, match="49153 bytes of local memory, and Card has 49152"):
        card.demand_group((8, 8), 49153, "matmul")


# ---------------------------------------------------------------------------- choosing


@pytest.mark.parametrize(
    ("name", "index"),
    [("opencl", 1), ("opencl:0", 0), ("opencl:2", 2), ("opencl:cpu", 0), ("opencl:gpu", 1),
     ("opencl:GPU", 1), ("opencl:geforce b", 2), ("opencl:nvidia", 1), ("opencl:Portable", 0)],
)  # fmt: skip
def test_devices_by_index_type_and_name(name: str, index: int) -> None:
    assert choose(name, look(two_vendors)).index == index


def test_unusable_devices_are_passed_over() -> None:
    found = listing(platform("A", [device("bad", compiler_available=0), device("good")]))
    assert choose("opencl", found).index == 1 and choose("opencl:gpu", found).index == 1
    with pytest.raises(g.DeviceError, match="compiles no kernels"):
        choose("opencl:0", found)


@pytest.mark.parametrize("word", ["7", "radeon", "accelerator"])
def test_names_that_nothing_has_list_what_there_is(word: str) -> None:
    with pytest.raises(g.DeviceError) as caught:
        choose(f"opencl:{word}", look(two_vendors))
    text = str(caught.value)
    assert f'no OpenCL device "{word}"' in text
    assert '"opencl:0" (pthread-zen, cpu, Portable Computing), "opencl:1" (GeForce A' in text


def test_a_driver_that_fails_hides_no_other() -> None:
    broken = platform("Broken", [], RuntimeError("clGetDeviceIDs failed: OUT_OF_HOST_MEMORY"))
    found = listing(broken, platform("Empty", []), platform("Fine", [device(type=ACCELERATOR)]))
    assert [d.name for d in found.devices] == ["opencl:0"]
    assert choose("opencl", found).capabilities.type == "accelerator"
    names = [(d.name, d.usable) for d in devices.opencl_devices(found)]
    assert names == [("opencl:0", True), ("opencl", False), ("opencl", False)]
    assert "OUT_OF_HOST_MEMORY" in found.reason and "Empty offers no device" in found.reason


def test_without_a_driver_the_error_says_where_to_look() -> None:
    with pytest.raises(g.DeviceError, match="no OpenCL driver is found; `graphc doctor` says"):
        choose("opencl", look(module))
    with pytest.raises(g.DeviceError, match=r"pyopencl cannot be loaded .*pip install pyopencl"):
        choose("opencl:1", look(lambda: "pyopencl cannot be loaded (x): pip install pyopencl"))


def test_a_loader_that_breaks_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError(f"no {name}")

    monkeypatch.setattr("importlib.import_module", broken)
    assert "pyopencl cannot be loaded (no pyopencl)" in pyopencl()


# ---------------------------------------------------------------------------- listing, advice


def test_listings_hold_what_is_to_be_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    monkeypatch.setattr(devices, "look", lambda: look(two_vendors))
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    for text in (
        "opencl:2   usable: GeForce B (kernels in OpenCL C; its first use tests it)",
        "gpu, 1980 MHz, 8 compute units, work-groups up to 1024 items, no fp64, no fp16",
        "memory: local 48 KiB, constant 64 KiB, global 3 GiB, one buffer 768 MiB",
        "NVIDIA CUDA: OpenCL 3.0 CUDA, OpenCL C 1.2, driver 555.42",
    ):
        assert text in out
    listed = g.devices()
    assert [d.name for d in listed[3:]] == ["opencl:0", "opencl:1", "opencl:2"]
    assert listed[4].capabilities is not None and listed[4].capabilities.compute_units == 8
    assert listed[0].capabilities is None and listed[0].details() == []


def test_kept_verdicts_are_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: Capabilities
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    found = Listing((Found(0, None, card),))
    assert selftest.verdict(card, lambda: "its self-test found a sum wrong") != ""
    [shown] = devices.opencl_devices(found)
    assert not shown.usable and shown.reason == "its self-test found a sum wrong"
    selftest.verdict(card.without(driver="newer"), lambda: "")
    [shown] = devices.opencl_devices(Listing((Found(0, None, card.without(driver="newer")),)))
    assert shown.usable and shown.reason.endswith("it passed its test")


def advised(tmp_path: Path, monkeypatch: Any, *, library: bool, maths: bool, found: Listing) -> Any:
    """The advice for a machine where Intel's packages are installed, or not."""
    path = tmp_path / "lib" / "libintelocl.so"
    monkeypatch.setattr(drivers, "intel_library", lambda: str(path) if library else None)
    monkeypatch.setattr(drivers.ctypes.util, "find_library", lambda name: None)

    def distribution(name: str) -> None:
        if not maths:
            raise drivers.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(drivers.importlib.metadata, "distribution", distribution)
    return drivers.advice(found)


def test_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none, some = look(module), look(two_vendors)
    assert advised(tmp_path, monkeypatch, library=False, maths=False, found=some) is None
    text = advised(tmp_path, monkeypatch, library=False, maths=False, found=none)
    assert "apt install pocl-opencl-icd" in text and "\n" not in text
    text = advised(tmp_path, monkeypatch, library=True, maths=False, found=none)
    assert text.endswith("pip install intel-cmplr-lib-rt")
    text = advised(tmp_path, monkeypatch, library=True, maths=True, found=some)
    assert f"echo {tmp_path}/lib/libintelocl.so > " in text and text.endswith("/intelocl.icd")
    intel = listing(platform("Intel(R) OpenCL", [device("EPYC", CPU)]))
    assert advised(tmp_path, monkeypatch, library=True, maths=True, found=intel) is None


def test_libraries_of_intel_and_folders_of_drivers(tmp_path: Path) -> None:
    assert drivers.intel_library(tmp_path) is None
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libintelocl.so").touch()
    assert drivers.intel_library(tmp_path) == str(tmp_path / "lib" / "libintelocl.so")
    wheel = SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    assert drivers.vendors_folder(wheel) == drivers.SYSTEM_FOLDER
    (tmp_path / ".libs").mkdir()
    assert drivers.vendors_folder(wheel) == tmp_path / ".libs"
    assert drivers.vendors_folder("pyopencl cannot be loaded") == drivers.SYSTEM_FOLDER


def test_the_doctor_reads_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    monkeypatch.setattr(drivers, "idle_drivers", lambda found: [])
    monkeypatch.setattr(drivers, "intel_library", lambda: None)
    for load, text in (
        (module, "no  OpenCL: no OpenCL driver is found; install one: apt install pocl-opencl-icd"),
        (two_vendors, "ok  OpenCL: opencl:0 pthread-zen, opencl:1 GeForce A, opencl:2 GeForce B"),
    ):
        monkeypatch.setattr(doctor, "look", lambda load=load: look(load))
        assert main(["doctor"]) == 0
        [line] = [s for s in capsys.readouterr().out.splitlines() if "OpenCL" in s]
        assert line.startswith(text)


def test_listings_and_pictures_name_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "choose", lambda name: choose(name, look(two_vendors)))
    y = g.exp(g.placeholder("float32", ["n"], name="x"))
    place = "on opencl:1 (GeForce A, NVIDIA CUDA)"
    assert g.show(y, stage="fused", device="opencl").startswith(f"plan {place}: 1 kernel\n")
    assert g.show(y, stage="fused", device="cpu").startswith("plan on cpu (")
    dot = g.draw(y, tmp_path / "a.dot", stage="fused", device="opencl:gpu").read_text()
    assert f'graph [label="{place}" labelloc=t]' in dot
    page = g.draw(y, tmp_path / "a.html", stage="fused", device="opencl:nvidia").read_text()
    assert f"a {place}" in page
    with pytest.raises(g.DeviceError, match="there is no OpenCL device"):
        g.show(y, stage="fused", device="opencl:radeon")
    with pytest.raises(g.DeviceError, match="no device 'gpu'"):
        g.show(y, stage="fused", device="gpu")
    with pytest.raises(g.FetchError, match=r'only stage="fused" is of a device, got .source'):
        g.show(y, device="cpu")


# ---------------------------------------------------------------------------- the drivers here

HERE = look().devices
needs_driver = pytest.mark.skipif(not HERE, reason="no OpenCL driver is installed")


@needs_driver
@pytest.mark.parametrize("found", HERE, ids=lambda found: found.name)
def test_the_self_test_passes_and_is_quick(found: Found) -> None:
    cl = pyopencl()
    context = cl.Context([found.handle])
    queue = cl.CommandQueue(context)
    assert selftest.examine(found.capabilities, context, queue) == ""
    start = time.thread_time()
    assert selftest.examine(found.capabilities, context, queue) == ""
    assert time.thread_time() - start < 1.0


@needs_driver
def test_small_groups_are_tested_in_small_groups() -> None:
    [found, *_] = HERE
    cl = pyopencl()
    context = cl.Context([found.handle])
    for limits in ({"work_group": 4}, {"work_items": (1, 1, 1)}, {"fp64": False}):
        small = found.capabilities.without(**limits)
        assert selftest.examine(small, context, cl.CommandQueue(context)) == ""


WRONG = [
    ("sum += left", "sum -= left", "a product of matrices"),
    ("high[i] = fmax(", "high[i] = fmin(", "a maximum"),
    ("4294967311L", "4294967312L", "a sum of 64-bit integers"),
    ("mine = line[(i + 1)", "mine = line[(i + 2)", "an exchange over barriers"),
    ("atomic_add(&mine[value & 15], 1)", "mine[0] = 1", "an atomic sum"),
    ("atomic_max(most, value)", "atomic_min(most, value)", "an atomic maximum"),
    ("rotate(v, 13u)", "rotate(v, 12u)", "32-bit integers"),
    ("0xCD9E8D57UL", "0xCD9E8D58UL", "64-bit integers"),
    ("= exp(v)", "= exp(v) * 1.00001f", "exp wrong"),
    ("= log(fabs(v))", "= log(fabs(v) + 1.0e-6f)", "log wrong"),
    ("1.0f / v", "v == 0.0f ? 0.0f : 1.0f / v", "1/x wrong"),
    ("rint(v)", "round(v)", "rounding"),
    ("isnan(v) ? 1.0f", "isnan(v) ? 3.0f", "a comparison"),
    ("vstore_half_rte", "vstore_half_rtz", "float16"),
]


@needs_driver
@pytest.mark.parametrize(("right", "wrong", "what"), WRONG, ids=[row[2] for row in WRONG])
def test_the_self_test_finds_what_is_wrong(
    right: str, wrong: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert right in selftest.PLAIN
    monkeypatch.setattr(selftest, "PLAIN", selftest.PLAIN.replace(right, wrong, 1))
    cl = pyopencl()
    context = cl.Context([HERE[0].handle])
    reason = selftest.examine(HERE[0].capabilities, context, cl.CommandQueue(context))
    assert what in reason and "instead of" in reason


@needs_driver
def test_a_failing_device_is_refused_until_its_driver_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    known = HERE[0].capabilities
    calls = []

    def failing(known: Capabilities, context: Any, queue: Any) -> str:
        calls.append(known)
        return "" if known.driver == "newer" else "its self-test found a sum wrong"

    monkeypatch.setattr(selftest, "examine", failing)
    for _ in range(2):
        with pytest.raises(g.DeviceError, match=r"is refused: its self-test found a sum wrong"):
            selftest.admit(known, None, None)
    assert len(calls) == 1
    for _ in range(2):
        selftest.admit(known.without(driver="newer"), None, None)
    assert len(calls) == 2
    monkeypatch.setenv("GRAPHC_CACHE", "off")
    with pytest.raises(g.DeviceError):
        selftest.admit(known, None, None)
    assert len(calls) == 3


def test_a_compiler_that_fails_is_a_verdict_and_want_of_memory_is_none(
    card: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Error(Exception):
        pass

    class BuildError(Error):
        pass

    def program(error: Exception | None) -> Any:
        def build(*_: Any, **__: Any) -> Any:
            if error:
                raise error
            return None

        return lambda *_: SimpleNamespace(build=build)

    fake = SimpleNamespace(RuntimeError=BuildError, Error=Error)
    monkeypatch.setattr(selftest, "cl", fake)
    fake.Program = program(BuildError("clBuildProgram failed: BUILD_PROGRAM_FAILURE\nlog"))
    reason = selftest.examine(card, None, None)
    assert reason == "its compiler fails: clBuildProgram failed: BUILD_PROGRAM_FAILURE"

    def starving(bench: Any) -> Any:
        raise Error("MEM_OBJECT_ALLOCATION_FAILURE")

    fake.Program = program(None)
    monkeypatch.setattr(selftest, "TESTS", (starving,))
    with pytest.raises(g.DeviceError, match="self-test of Card could not run: MEM_OBJECT"):
        selftest.examine(card, None, None)


def test_values_are_near_or_wrong() -> None:
    want = np.array([1.0, np.inf, np.nan, 0.0])
    right = want.astype(np.float32)
    assert not list(selftest._near("f", right, want, 3))
    for at, value in ((0, 1.000001), (1, 3.4e38), (2, 0.0), (3, 1e-30), (0, np.nan)):
        wrong = right.copy()
        wrong[at] = value
        assert list(selftest._near("f", wrong, want, 3)), (at, value)


@needs_driver
@pytest.mark.parametrize("found", HERE, ids=lambda found: found.name)
def test_sessions_open_what_is_listed(found: Found) -> None:
    x = g.placeholder("float32", ["n"])
    with g.Session(found.name) as session:
        assert session.device == found.name
        total, train = session.run([g.sum(x * x), g.exp(x)], {x: [3.0, 4.0]})
        assert total == 25.0 and train.shape == (2,)
        assert found.name in str(session.profile(g.sum(x), {x: [3.0, 4.0]}))
        assert f"on {found.name}" in str(session.compile_report())


@needs_driver
def test_the_demo_on_opencl(tmp_path: Path, capsys: Any) -> None:
    assert main(["demo", "--device", "opencl", "--epochs", "2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    accuracy = float(out.partition("accuracy on the held-out digits: ")[2].partition("%")[0])
    assert accuracy > 85.0


# ---------------------------------------------------------------------------- processes


def test_listing_opens_nothing() -> None:
    """No context and no queue is made by importing, listing or asking the doctor."""
    code = (
        "import sys, graphc, graphc.runtime.devices\n"
        "assert 'pyopencl' not in sys.modules\n"
        "import pyopencl\n"
        "def opened(*_, **__): raise SystemExit('something was opened')\n"
        "pyopencl.Context = pyopencl.CommandQueue = pyopencl.Buffer = opened\n"
        "from graphc.cli import main\n"
        "graphc.devices(); main(['devices']); main(['doctor'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_session_without_a_driver_says_what_is_missing(tmp_path: Path) -> None:
    code = "import graphc as g\ntry: g.Session('opencl')\nexcept g.DeviceError as e: print(e)"
    nowhere = {"OCL_ICD_VENDORS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nowhere,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no OpenCL driver is found; `graphc doctor` says what to install" in result.stdout

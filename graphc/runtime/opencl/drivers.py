"""What to install, or to register, where an OpenCL driver is missing: one line of advice.

A driver is a library; the loader finds it through a file ending in `.icd`, which names it, in the
system's folder or beside the loader that pyopencl's wheels bring. Some packages install the library
and leave that file out, or one that names a folder of the machine they were built on.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphc import lazy
from graphc.runtime.opencl.platforms import Listing, pyopencl

cl = lazy.Module("pyopencl")

SYSTEM_FOLDER = Path("/etc/OpenCL/vendors")
INTEL, INTEL_MATHS = "intel-opencl-rt", "intel-cmplr-lib-rt"
INSTALL = (
    f"install one: apt install pocl-opencl-icd (any CPU), or pip install {INTEL} {INTEL_MATHS} "
    "(x86 CPUs; run `graphc doctor` again then), or the driver of your graphics card"
)


@dataclass(frozen=True, slots=True)
class Idle:
    """A driver that is installed, and that the loader does not know."""

    what: str
    library: str  # as an .icd file names it

    def advice(self, folder: Path) -> str:
        """The command that registers it."""
        file = folder / (Path(self.library).name.partition(".")[0].removeprefix("lib") + ".icd")
        return f"{self.what} is installed and not registered: echo {self.library} > {file}"


def advice(listing: Listing) -> str | None:
    """What to do for a driver, or for one more; None where nothing is missing."""
    idle = idle_drivers(listing)
    broken = _without_maths()
    if broken and (idle or not listing.devices):
        return broken
    if idle:
        return "; ".join(driver.advice(vendors_folder(pyopencl())) for driver in idle)
    return None if listing.devices else INSTALL


def idle_drivers(listing: Listing) -> list[Idle]:
    """Drivers on this machine that offer nothing."""
    platforms = {found.capabilities.platform for found in listing.devices}
    kinds: Sequence[tuple[str, str, Callable[[], str | None]]] = (
        ("Intel's CPU runtime", "Intel(R) OpenCL", intel_library),
        ("NVIDIA's driver", "NVIDIA CUDA", lambda: ctypes.util.find_library("nvidia-opencl")),
    )
    return [
        Idle(what, library)
        for what, platform, find in kinds
        if platform not in platforms and (library := find())
    ]


def intel_library(prefix: Path | None = None) -> str | None:
    """Where PyPI's `intel-opencl-rt` has put its driver: `lib` of the environment."""
    path = Path(sys.prefix if prefix is None else prefix) / "lib" / "libintelocl.so"
    return str(path) if path.exists() else None


def _without_maths() -> str | None:
    """Intel's driver loads its mathematical functions from a package that it does not ask for."""
    if intel_library() is None:
        return None
    try:
        importlib.metadata.distribution(INTEL_MATHS)
    except importlib.metadata.PackageNotFoundError:
        return f"{INTEL} cannot be loaded without {INTEL_MATHS}: pip install {INTEL_MATHS}"
    return None


def hush() -> None:
    """Before a build: no Python warnings for what a compiler says beside errors.

    Intel's says of each kernel that all went well. This filter stays: one that is set for a while
    (`warnings.catch_warnings`) is every thread's, and programs are built in several.
    """
    warnings.filterwarnings("ignore", category=cl.CompilerWarning)


def vendors_folder(module: Any) -> Path:
    """Where an .icd file is found: beside the loader of pyopencl's wheel, else the system's."""
    if not isinstance(module, str):
        beside = Path(module.__file__).parent / ".libs"
        if beside.is_dir():
            return beside
    return SYSTEM_FOLDER

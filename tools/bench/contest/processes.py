"""The side that asks: contestants as processes that stand still while it is not their turn.

Between its turns a process is stopped by a signal. So no thread of it spins while others are
timed, as some thread pools do after their last job.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent
ENVIRONMENTS = {
    "tf1": {"TF_CPP_MIN_LOG_LEVEL": "3"},
    "tf1:xla": {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    },
    "jax": {"JAX_PLATFORMS": "cpu"},
    "tinygrad": {"DEV": "CPU"},
}
FRAMEWORKS = ("numpy", "torch", "torch:compile", "jax", "tf1", "tf1:xla", "pytensor", "tinygrad")
OPENCL_FRAMEWORKS = ("graphc:cpu", "tinygrad", "pyopencl")


class Skipped(Exception):
    """A contestant that does not take part; the text says why."""


@dataclass(frozen=True)
class Setting:
    """How processes are started."""

    pythons: Mapping[str, str]  # of each framework that does not use this interpreter
    patience: float = 600.0  # seconds that an answer may take
    small: bool = False
    device: str = "cpu"  # of graphc, and with "opencl:1" of the peers that know OpenCL

    def command(self, contestant: str, *more: str) -> list[str]:
        """What starts a contestant."""
        python = self.pythons.get(contestant.partition(":")[0], sys.executable)
        return [python, "-m", "contest.measure", contestant, *more, *["small"] * self.small]

    def environment(self, contestant: str, cache: Path) -> dict[str, str]:
        """What it sees; everything that it keeps between processes goes below `cache`."""
        caches = {
            "GRAPHC_CACHE": str(cache / "graphc"),
            "PYTENSOR_FLAGS": f"base_compiledir={cache / 'pytensor'}",
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "CACHEDB": str(cache / "tinygrad.db"),
            "POCL_CACHE_DIR": str(cache / "pocl"),
            "CUDA_CACHE_PATH": str(cache / "cuda"),
            "BENCH_DEVICE": self.device,
        }
        path = {"PYTHONPATH": os.pathsep.join((str(BENCH), str(ROOT)))}
        own = ENVIRONMENTS.get(contestant, {})
        if contestant == "tinygrad" and self.device != "cpu":
            own = {"DEV": "CL"}
        return os.environ | caches | path | own


def last_line(text: str) -> str:
    """The word that a failed process leaves."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it ended without a word"


class Process:
    """A contestant; entering it waits for its first step."""

    def __init__(self, setting: Setting, contestant: str, cache: Path, *more: str) -> None:
        self._setting = setting
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in __exit__
        started = time.perf_counter()
        self._process = subprocess.Popen(
            setting.command(contestant, *more),
            env=setting.environment(contestant, cache), cwd=BENCH,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            bufsize=1,
        )  # fmt: skip
        try:
            self.told = self._answer()
        except BaseException:
            self.close()
            raise
        self.started_s = time.perf_counter() - started
        if "unsupported" in self.told:
            self.close()
            raise Skipped(self.told["unsupported"])

    def __enter__(self) -> Process:
        self._stop()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Wake it, have one answer, and stop it again."""
        self._wake()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            return self._answer()
        except BrokenPipeError:
            raise Skipped(self._word()) from None
        finally:
            self._stop()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()
        self._errors.close()

    def _stop(self) -> None:
        """Return once it stands still (or has ended, which is left for `poll` to see)."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
            options = os.WSTOPPED | os.WEXITED | os.WNOWAIT
            os.waitid(os.P_PID, self._process.pid, options)

    def _wake(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def _answer(self) -> dict[str, Any]:
        out = self._process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], self._setting.patience)
        if not ready:
            raise Skipped(f"no answer in {self._setting.patience:g} s")
        line = out.readline()
        if not line:
            raise Skipped(self._word())
        found: dict[str, Any] = json.loads(line)
        return found

    def _word(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return last_line(self._errors.read())


def version(setting: Setting, contestant: str, cache: Path) -> str:
    """The version of a contestant; Skipped where it cannot be loaded."""
    plain = replace(setting, small=False)
    process = Process(plain, contestant, cache)
    process.close()
    return str(process.told["version"])

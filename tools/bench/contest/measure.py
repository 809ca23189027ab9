"""One workload in one framework, in a process of its own: what the others are alternated with.

usage: python -m contest.measure FRAMEWORK[:VARIANT] [WORKLOAD [small]]

The first line on standard output tells the version, once the first step is taken. Then each line
on standard input is a command in JSON, answered by a line:
{"do": "check"} runs three steps in all and describes the values of the last; {"do": "steps",
"count": n, "warm": k} times n steps after k untimed ones; {"do": "memory"} tells the peak in MB.
Without a workload only the version is told. What libraries print goes to standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .entries import WORKLOADS
from .workloads import Unsupported

CHECKED_STEPS, SAMPLES = 3, 8
PR_SET_PDEATHSIG = 1


def leaves(value: Any) -> Iterator[Any]:
    """The arrays in what a step gives; updates give None."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif value is not None:
        yield np.asarray(value)


def describe(value: Any) -> list[dict[str, Any]]:
    """What must agree between frameworks: shape, mean square and samples of each array."""
    found = []
    for array in leaves(value):
        flat = np.asarray(array, np.float64).ravel()
        places = np.linspace(0, max(flat.size - 1, 0), min(SAMPLES, flat.size)).astype(np.int64)
        root = float(np.sqrt(np.mean(flat**2))) if flat.size else 0.0
        found.append({"shape": list(array.shape), "rms": root, "samples": flat[places].tolist()})
    return found


def peak_memory() -> float:
    """The most memory that this process had at once, in MB (of this program alone)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")


def end_with_parent() -> None:
    """Have Linux end this process with the one that started it, even while it is stopped."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Stepper:
    """A workload whose steps are taken one after another."""

    def __init__(self, module: Any, variant: str, name: str, small: bool) -> None:
        workload = WORKLOADS[name]
        sizes = workload.small if small else workload.sizes
        data = workload.data(sizes)
        self._feeds = data.feeds
        self._step: Callable[[Any], Any] = module.stepper(workload, sizes, data, variant)
        self._taken = 0
        self.value: Any = None

    def step(self) -> float:
        """Take one; its seconds."""
        feed = self._feeds[self._taken % len(self._feeds)]
        self._taken += 1
        start = time.perf_counter()
        self.value = self._step(feed)
        return time.perf_counter() - start

    def check(self) -> dict[str, Any]:
        """Describe the value of the third step."""
        seconds = [self.step() for _ in range(CHECKED_STEPS - self._taken)]
        return {"values": describe(self.value), "seconds": min(seconds)}

    def steps(self, count: int, warm: int) -> dict[str, Any]:
        """Time some."""
        for _ in range(warm):
            self.step()
        seconds = [self.step() for _ in range(count)]
        return {"median": statistics.median(seconds), "least": min(seconds)}


class Limit:
    """The roofline, asked in the same way: its "seconds" are operations or bytes a second."""

    def __init__(self, module: Any, variant: str, name: str, small: bool) -> None:
        self._rate = module.rate(name, 1 if variant == "one" else module.threads(), small)

    def step(self) -> float:
        """Measure once."""
        return float(self._rate())

    def check(self) -> dict[str, Any]:
        """Nothing of it must agree with anything."""
        return {"values": [], "seconds": 0.01}

    def steps(self, count: int, warm: int) -> dict[str, Any]:
        """Measure some times."""
        rates = [self.step() for _ in range(count)]
        return {"median": statistics.median(rates), "least": max(rates)}


def answers(contestant: Any, commands: TextIO) -> Iterator[dict[str, Any]]:
    """What each command is answered."""
    for line in commands:
        command = json.loads(line)
        if command["do"] == "check":
            yield contestant.check()
        elif command["do"] == "steps":
            yield contestant.steps(command["count"], command["warm"])
        else:
            yield {"MB": peak_memory()}


def main(arguments: list[str]) -> None:
    """Serve the process that started this one."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    end_with_parent()
    framework, _, variant = arguments[0].partition(":")
    name = framework if framework == "roofline" else f"in_{framework}"
    module = importlib.import_module(f".{name}", __package__)
    told: dict[str, Any] = {"version": str(module.VERSION)}
    if len(arguments) == 1:
        print(json.dumps(told), file=out)
        return
    kind = Limit if framework == "roofline" else Stepper
    try:
        contestant = kind(module, variant, arguments[1], arguments[2:] == ["small"])
        contestant.step()
    except Unsupported as error:
        print(json.dumps({"unsupported": str(error)}), file=out)
        return
    print(json.dumps(told), file=out)
    for answer in answers(contestant, sys.stdin):
        print(json.dumps(answer), file=out)


if __name__ == "__main__":
    main(sys.argv[1:])

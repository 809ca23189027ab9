"""Every example in a docstring runs, and prints what it says."""

from __future__ import annotations

import builtins
import doctest
import importlib
import pkgutil
from types import ModuleType

import numpy as np
import pytest

import graphc

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SKIPPED = {"graphc.__main__"}  # running it is the command line itself

PUBLIC = {
    name: value for name, value in vars(graphc).items() if not hasattr(builtins, name)
}  # an example may use what graphc exports as if it had been imported


def _modules() -> list[str]:
    walked = pkgutil.walk_packages(graphc.__path__, "graphc.")
    return ["graphc", *(m.name for m in walked if m.name not in SKIPPED)]


def _examples(module: ModuleType) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", _modules())
def test_examples(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    module = importlib.import_module(name)
    with np.printoptions(precision=8, suppress=False, threshold=1000, linewidth=75):
        for test in _examples(module):
            test.globs = PUBLIC | test.globs | {"g": graphc, "np": np}
            report: list[str] = []
            doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
            assert not report, "".join(report)

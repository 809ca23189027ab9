"""The layers: a module imports only from lower ones, and no two modules import each other."""

from __future__ import annotations

from pathlib import Path

import grimp
import networkx
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent


def test_the_layers_contract_is_kept() -> None:
    status = lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, "run lint-imports to see which import goes upwards"


def test_no_module_imports_itself_in_a_circle() -> None:
    imports = grimp.build_graph("graphc", exclude_type_checking_imports=True, cache_dir=None)
    edges = [(a, b) for a in imports.modules for b in imports.find_modules_directly_imported_by(a)]
    circles = networkx.strongly_connected_components(networkx.DiGraph(edges))
    assert [sorted(circle) for circle in circles if len(circle) > 1] == []

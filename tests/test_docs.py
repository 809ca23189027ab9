"""The documents say what is so: listings are what commands print, programs run, links lead on."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc import cli

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return [body for kind, body in FENCE.findall(path.read_text()) if kind == language]


LISTINGS = [
    (page, command, output)
    for page in PAGES
    for block in blocks(page, "")
    if block.startswith("$ graphc ")
    for command, _, output in [block.removeprefix("$ graphc ").partition("\n")]
]


def test_there_are_listings() -> None:
    assert {"exp", "matmul", "conv2d", "softmax", "train"} <= {
        command.split()[1].partition(":")[2] for _, command, _ in LISTINGS
    }


@pytest.mark.parametrize(
    ("page", "command", "output"), LISTINGS, ids=[f"{p.name} {c}" for p, c, _ in LISTINGS]
)
def test_listings_are_what_the_command_prints(
    page: Path,
    command: str,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(command.split()) == 0
    assert capsys.readouterr().out == output


CONVERSATIONS = [page for page in PAGES if blocks(page, "pycon")]


@pytest.mark.parametrize("page", CONVERSATIONS, ids=lambda page: page.name)
def test_conversations_are_what_python_answers(page: Path) -> None:
    """All of a page's `>>>` together, in their order."""
    text = "\n".join(blocks(page, "pycon"))
    names = {"g": graphc, "np": np}
    talk = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), 0)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(talk, out=report.append)
    assert talk.examples and not report, "".join(report)


def test_there_are_conversations() -> None:
    assert "control-flow.md" in {page.name for page in CONVERSATIONS}


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of the README's program: all of its blocks together."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "regression.py").write_text("".join(blocks(README, "python")))
    return folder, _python(folder, "regression.py")


def _python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def _shape(text: str) -> list[str]:
    """The lines of a report in any order, without its numbers."""
    lines = [re.sub(r"[\d.,]+", "#", " ".join(line.split())) for line in text.splitlines()]
    return sorted(line for line in lines if not line.startswith("by op:"))


def test_the_program_of_the_readme(readme: tuple[Path, str]) -> None:
    folder, output = readme
    said = re.search(r"print\(s\.get\(w\).*\)  # (.*)", README.read_text())
    assert said is not None and output.splitlines()[0] == said[1]
    assert (folder / "regression.html").stat().st_size > 1000
    [report] = [block for block in blocks(README, "") if " steps in " in block]
    assert set(_shape(report)) <= set(_shape(output))


def test_the_listings_of_the_readme(readme: tuple[Path, str]) -> None:
    listings = {
        stage: _python(
            readme[0], "-m", "graphc", "show", "regression.py:loss", "--stage", stage
        ) for stage in ("optimised", "fused")
    }  # fmt: skip
    [graph] = [block for block in blocks(README, "") if block.startswith("%")]
    assert graph in listings["optimised"]
    [kernel] = [block for block in blocks(README, "") if block.startswith("kernel ")]
    assert kernel in listings["fused"]


def test_the_program_of_the_walk(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs" / "walk.py"), run_name="__main__")
    assert "6 compilations on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#][^)]*)\)", page.read_text())
    missing = [
        target
        for target in targets
        if "://" not in target and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert not missing
    assert targets or page.name not in ("README.md", "design.md")


def test_files_that_are_named_exist() -> None:
    """`kernel.py` and `runtime/cpu/` in running text are files and folders of the package."""
    known = {path.as_posix() for path in ROOT.rglob("*.py")}
    for page in PAGES:
        for name in re.findall(r"`((?:[\w]+/)*[\w]+\.py)`", page.read_text()):
            assert any(path.endswith("/" + name) for path in known), (page.name, name)

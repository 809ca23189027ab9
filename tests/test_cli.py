"""The command `graphc`: what it prints and writes, its exit statuses, whose errors it shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphc import cli, doctor
from graphc.cli import main
from graphc.runtime.opencl.platforms import Listing
from tests.pictures import needs_dot

PROGRAM = """
import sys
from graphc.context import name_scope
from graphc.ops.source import Variable, constant, placeholder
from graphc.ops.state import assign_add, group

x = placeholder("float32", ["batch", 4], name="x")
w = Variable([[1.0], [2.0], [3.0], [4.0]], name="w")
with name_scope("layer"):
    y = x @ w
doubled = constant([1.0, 2.0]) * 2.0
train = group(assign_add(w, w))
both = {"doubled": doubled, "list": [w, train]}
number = 3

def build():
    return [y, train]

def wrong():
    return x @ constant([[1.0]])

def broken():
    raise RuntimeError("mine")

def needs(a, b=1):
    return a

if __name__ == "__main__":
    print("main", sys.argv[1:])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(PROGRAM)
    return path


def run(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def test_show(program: Path, capsys: Any) -> None:
    assert run("show", f"{program}:y") == 0
    assert capsys.readouterr().out == (
        "%x: f32[batch,4] = placeholder   # model.py:7\n"
        "%w: f32[4,1] = variable   # model.py:8\n"
        "%0: f32[batch,1] = matmul %x %w   # model.py:10\n"
        "return %0\n"
    )


@pytest.mark.parametrize("name", ["y", "w", "train", "both", "build"])
@pytest.mark.parametrize("stage", ["source", "specialised", "optimised", "fused"])
def test_show_takes_any_fetch_at_any_stage(
    program: Path, name: str, stage: str, capsys: Any
) -> None:
    assert run("show", f"{program}:{name}", "--stage", stage) == 0
    out = capsys.readouterr().out
    assert ("variable %w: f32[4,1]" if stage == "fused" else "%w: f32[4,1] = variable") in out


@pytest.mark.parametrize("suffix", ["dot", "html"])
def test_draw(program: Path, suffix: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / f"picture.{suffix}"
    assert run("draw", f"{program}:build", "-o", path, "--depth", 1) == 0
    assert "layer" in path.read_text()
    assert f"{path}: " in capsys.readouterr().out.replace("\n", "")


@needs_dot
def test_draw_writes_graph_svg_by_itself(program: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("draw", f"{program}:y", "--stage", "optimised") == 0
    assert b"<svg" in (tmp_path / "graph.svg").read_bytes()


def test_draw_without_dot(program: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("draw", f"{program}:y", "-o", tmp_path / "a.svg") == 1
    assert "apt install graphviz" in capsys.readouterr().err


def test_run_a_file(program: Path, capsys: Any) -> None:
    assert run("run", program, "--epochs", "3") == 0
    assert capsys.readouterr().out == "main ['--epochs', '3']\n"


def test_run_a_name(program: Path, capsys: Any) -> None:
    assert run("run", f"{program}:doubled") == 0
    assert capsys.readouterr().out == "doubled = [2. 4.]\n"
    assert run("run", f"{program}:both") == 0
    out = capsys.readouterr().out
    assert "both['doubled'] = [2. 4.]" in out and "both['list'][1] = done" in out


def test_run_names_missing_feeds(program: Path, capsys: Any) -> None:
    assert run("run", f"{program}:y") == 1
    err = capsys.readouterr().err
    assert 'placeholder "x" (model.py:7)' in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("{}", "say what to fetch, as model.py:NAME; there are x, w, y, doubled, train, both"),
        ("{}:trian", "has no name 'trian'; did you mean train?"),
        ("{}:number", "number is no tensor, variable or update, nor a nesting of them: it is int"),
        ("{}:needs", "needs must be callable without arguments; it needs a"),
        ("{}.none:y", "there is no file"),
    ],
)
def test_targets_that_do_not_exist(program: Path, target: str, text: str, capsys: Any) -> None:
    assert run("show", target.format(program)) == 2
    err = capsys.readouterr().err
    assert text in err and "Traceback" not in err


def test_a_users_error_has_only_the_users_frames(program: Path, capsys: Any) -> None:
    assert run("show", f"{program}:broken") == 1
    err = capsys.readouterr().err
    assert err.count('File "') == 1 and "in broken" in err and "RuntimeError: mine" in err


def test_graphcs_errors_point_at_the_users_line(program: Path, capsys: Any) -> None:
    assert run("show", f"{program}:wrong") == 1
    err = capsys.readouterr().err
    assert err.count('File "') == 1 and "ShapeError: matmul: inner dimensions must match" in err
    assert "matmul was called at model.py:20" in err


def test_syntax_errors_are_the_users(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "bad.py").write_text("x = (\n")
    assert run("show", f"{tmp_path}/bad.py:x") == 1
    err = capsys.readouterr().err
    assert "SyntaxError" in err and "bad.py" in err and "runpy" not in err


def test_a_program_that_exits_keeps_its_status(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(7)\n")
    with pytest.raises(SystemExit) as caught:
        run("run", tmp_path / "leaves.py")
    assert caught.value.code == 7


def test_files_beside_the_program_can_be_imported(
    program: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "beside.py").write_text("import model\ny = model.y\n")
    before = list(sys.path)
    assert run("show", f"{tmp_path}/beside.py:y") == 0
    assert "model.py:10" in capsys.readouterr().out and sys.path == before
    del sys.modules["model"]


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["draw"], ["draw", "a.py:x", "--depth", "x"]]
)
def test_commands_that_are_not_understood(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: graphc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["-o", "a.txt"], "a picture's file ends in .svg"),
        (["-o", "a.dot", "--depth", "0"], "at least 1"),
        (["-o", "a.dot", "--stage", "molten"], "there is no stage 'molten'"),
        (["-o", "/no/such/folder/a.dot"], "No such file or directory: '/no/such/folder/a.dot'"),
    ],
)
def test_pictures_that_cannot_be(program: Path, more: list[str], text: str, capsys: Any) -> None:
    assert run("draw", f"{program}:y", *more) == 1
    err = capsys.readouterr().err
    assert err.startswith("graphc: ") and text in err


def test_gradients_that_stay_closed_are_noted(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "open.py").write_text(
        "from graphc.ops.gradient import gradients\n"
        "from graphc.ops.source import placeholder\n"
        "x = placeholder('float32')\n"
        "found = gradients(x * x, [x])\n"
    )
    assert run("show", f"{tmp_path}/open.py:found", "--stage", "optimised") == 0
    assert "1 gradient(s) stay closed" in capsys.readouterr().err


def test_the_module_is_the_command(program: Path) -> None:
    command = [sys.executable, "-m", "graphc", "show", f"{program}:y"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stdout.startswith("%x: f32[batch,4]")


def test_a_reader_that_stops_early_is_no_error(program: Path) -> None:
    command = f"{sys.executable} -m graphc show {program}:y | head -c 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout == "%" and "Traceback" not in result.stderr


# ---------------------------------------------------------------------------- the machine


def test_devices(capsys: Any) -> None:
    assert run("devices") == 0
    out = capsys.readouterr().out
    assert "reference" in out and "cpu" in out and "opencl" in out


def test_importing_graphc_loads_no_opencl() -> None:
    code = "import graphc, graphc.runtime.devices, sys; sys.exit('pyopencl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_doctor(capsys: Any) -> None:
    assert run("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line[4:].partition(":")[0] for line in lines]
    assert names == ["Python", "NumPy", "LLVM", "cpu", "OpenCL", "dot", "cache"]


def test_doctor_says_what_to_install(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(doctor, "look", lambda: Listing(()))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert "no  OpenCL: no OpenCL driver is found; " in out
    assert "apt install graphviz); .dot and .html pictures work without it" in out


def test_doctor_fails_where_something_needed_is_missing(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(doctor.np, "__version__", "1.26.4")
    assert run("doctor") == 1
    assert "no  NumPy: 1.26.4: 2.0 is needed" in capsys.readouterr().out


def test_doctor_says_that_code_cannot_be_run(monkeypatch: Any, capsys: Any) -> None:
    def forbidden(*_: Any) -> None:
        raise OSError("memory cannot be made executable")

    monkeypatch.setattr(doctor, "compile_module", forbidden)
    assert run("doctor") == 1
    assert (
        "no  cpu: code cannot be run (memory cannot be made executable)" in capsys.readouterr().out
    )


def test_bench(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(cli, "BENCHMARKS", tmp_path)
    assert run("bench") == 1
    assert "tools/bench of graphc's source tree" in capsys.readouterr().err
    (tmp_path / "speed.py").write_text('"""Measure speed.\n\nMore."""\n')
    assert run("bench") == 0
    assert "speed.py   # Measure speed." in capsys.readouterr().out


def test_demo_has_its_own_options(monkeypatch: Any) -> None:
    seen = []
    monkeypatch.setattr(cli.demo, "main", lambda arguments: seen.append(arguments) or 5)
    assert run("demo", "--epochs", 2, "--help") == 5
    assert seen == [["--epochs", "2", "--help"]]

"""Every example runs alone, in time, and shows the figure that it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FIGURES: dict[str, list[tuple[str, float, float]]] = {  # a pattern, and the range of its figure
    "add_vectors": [(r"bits as NumPy's: (True)", 1, 1)],
    "character_rnn": [(r"bits a character, unseen text: (\S+)", 1.5, 2.8)],
    "convolution": [(r"held-out digits: (\S+)", 0.96, 1.0)],
    "custom_gradient": [
        (r"largest error of the slope: (\S+)", 0.0, 1e-6),
        (r"remaining loss: (\S+)", 0.0, 0.0),
    ],
    "hinge_loss": [
        (r"by ifelse: .* districts: (\S+)", 0.80, 1.0),
        (r"differ by at most (\S+)", 0.0, 1e-5),
        (r"of two, or -1: 5.0 6.0 (\S+)", -1, -1),
    ],
    "linear_regression": [
        (r"R\^2 on unseen districts: (\S+)", 0.60, 0.70),
        (r"R\^2 of least squares: +(\S+)", 0.60, 0.70),
    ],
    "list_devices": [(r"\(3, 4\) on cpu: (\S+)", 5, 5)],
    "logistic_regression": [(r"accuracy on unseen districts: (\S+)", 0.80, 1.0)],
    "mlp": [(r"R\^2 on unseen districts: (\S+)", 0.68, 1.0)],
    "move_between_devices": [
        (r"on the cpu all the time: +(\S+)", 0.0, 0.02),
        (r"difference of the losses: (\S+)", 0.0, 0.05),
    ],
    "multiply_matrices": [
        (r"cpu .* relative error (\S+)", 0.0, 1e-6),
        (r"norm of the difference: +(\S+)", 0.0, 0.02),
    ],
    "newton_while": [
        (r"compilations: (\d+)", 1, 1),
        (r"largest relative error: (\S+)", 0.0, 1e-12),
    ],
    "power_by_scan": [
        (r"compilations: (\d+)", 1, 1),
        (r"\^10 = .*derivative \[1\.0000e\+01 5\.1200e\+03 (\S+)\]", 196830, 196830),
        (r"Horner's rule: (\S+)", 19, 19),
        (r"Fibonacci: 1 2 3 5 8 .* (\d+)\n", 377, 377),
        (r"above 1000: (\d+)", 1024, 1024),
    ],
    "save_and_restore": [(r"bit for bit: (True)", 1, 1)],
    "second_derivatives": [
        (r"Newton's method: (\d+) steps", 2, 10),
        (r"relative error (\S+)", 0.0, 1e-6),
    ],
    "sequence_classifier": [
        (r"new words, 9 to \d+ symbols: (\S+)", 0.97, 1.0),
        (r"more than 20 symbols, .* (\S+)\n", 0.9, 1.0),
    ],
    "shared_state": [
        (r"state now: +(\d+)", 9, 9),
        (r"0 1 1 2 3 5 .* (\d+)\n", 377, 377),
        (r"running mean (\S+)", 4.9, 5.1),
    ],
    "tensorflow1_style": [(r"4 \+ 5 = (\S+)", 9, 9), (r"dc/dx is y: (True)", 1, 1)],
}


def test_there_are_examples_and_each_has_a_figure() -> None:
    assert len(EXAMPLES) >= 6
    assert {path.stem for path in EXAMPLES} == set(FIGURES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 120
    assert source.startswith('"""')
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    result = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert not list(tmp_path.iterdir())  # an example leaves nothing behind
    for pattern, low, high in FIGURES[path.stem]:
        found = re.search(pattern, result.stdout)
        assert found, result.stdout
        figure = 1.0 if found[1] == "True" else float(found[1])
        assert low <= figure <= high, result.stdout

"""The side-by-side benchmark: its workloads, graphc's side of them, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tools.bench import loops
from tools.bench.contest import chart, graphc_figures, in_graphc, in_numpy, measure, table
from tools.bench.contest.command import ALONE, NAMES, alone, main
from tools.bench.contest.entries import WORKLOADS
from tools.bench.contest.processes import Process, Setting, Skipped, last_line
from tools.bench.contest.results import OURS, Figure, Results, Row, agree
from tools.bench.contest.roofline import rate
from tools.bench.contest.rounds import contest, first_steps
from tools.bench.contest.workloads import Data, Target

ROOT = Path(__file__).resolve().parent.parent
SMALL = Setting({}, patience=120, small=True)


def data_of(name: str) -> Data:
    workload = WORKLOADS[name]
    return workload.data(workload.small)


def steps(name: str, variant: str, count: int) -> list[list[np.ndarray]]:
    workload, data = WORKLOADS[name], data_of(name)
    step = in_graphc.stepper(workload, workload.small, data, variant)
    return [list(measure.leaves(step(data.feeds[0]))) for _ in range(count)]


# ---------------------------------------------------------------------------- workloads


@pytest.mark.parametrize("name", WORKLOADS)
def test_data_is_the_same_everywhere(name: str) -> None:
    one, other = data_of(name), data_of(name)
    for a, b in zip((*one.feeds, one.parameters), (*other.feeds, other.parameters), strict=True):
        assert list(a) == list(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
            assert a[key].dtype in (np.float32, np.int32)


@pytest.mark.parametrize("name", WORKLOADS)
def test_small_sizes_are_the_sizes_of_the_full_ones(name: str) -> None:
    workload = WORKLOADS[name]
    assert set(workload.sizes) == set(workload.small)
    assert (workload.limit is None) == (workload.flops is None and workload.moved is None)


def test_arithmetic_is_counted() -> None:
    matmul, conv, chain = (WORKLOADS[n] for n in ("matmul_256", "conv", "chain_mem"))
    assert matmul.flops is not None and conv.flops is not None and chain.moved is not None
    assert matmul.flops(2, 3, 5) == 60
    assert conv.flops(batch=1, side=3, channels=2) == 2 * 9 * 4
    assert chain.moved(elements=10) == 80


# ---------------------------------------------------------------------------- graphc's side


def convolved(x: Any, k: Any) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return np.einsum("bijchw,hwcd->bijd", windows, k)


def entropy(logits: Any, labels: Any) -> Any:
    shifted = logits - logits.max(1, keepdims=True)
    rows = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -(rows * labels).sum(1).mean()


def normalised(x: Any, scale: Any, offset: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + offset


def softened(x: Any) -> Any:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def logreg(v: Any) -> Any:
    logits = v["x"] @ v["w"] + v["b"]
    fit = np.logaddexp(0, logits) - logits * v["y"]
    return fit.mean() + 0.01 * (v["w"] ** 2).sum()


def mlp(v: Any) -> Any:
    hidden = relu(relu(v["x"] @ v["w1"] + v["b1"]) @ v["w2"] + v["b2"])
    return entropy(hidden @ v["w3"] + v["b3"], v["y"])


def cnn(v: Any) -> Any:
    hidden = relu(convolved(relu(convolved(v["x"], v["k1"]) + v["c1"]), v["k2"]) + v["c2"])
    batch, side = hidden.shape[:2]
    pooled = hidden.reshape(batch, side // 2, 2, side // 2, 2, -1).max((2, 4))
    hidden = relu(pooled.reshape(batch, -1) @ v["w1"] + v["b1"])
    return entropy(hidden @ v["w2"] + v["b2"], v["y"])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm(v: Any) -> Any:
    width = len(v["wh"])
    hidden = state = np.zeros((len(v["x"]), width))
    for words in v["x"].T:
        gates = v["table"][words] @ v["wx"] + v["bg"] + hidden @ v["wh"]
        enter, new, keep, show = (gates[:, i * width : (i + 1) * width] for i in range(4))
        state = sigmoid(keep) * state + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(show) * np.tanh(state)
    logits = hidden @ v["wo"] + v["bo"]
    return (np.logaddexp(0, logits) - logits * v["y"]).mean()


def rnn(v: Any) -> Any:
    hidden = np.zeros((1, len(v["w"])))
    for row in v["x"]:
        hidden = np.tanh(hidden @ v["w"] + row)
    return (hidden**2).sum()


def block(v: Any) -> Any:
    batch, count, width = v["x"].shape
    heads = WORKLOADS["block"].small["heads"]
    z = normalised(v["x"], v["g1"], v["e1"])
    q, k, values = (
        (z @ v[n]).reshape(batch, count, heads, -1).transpose(0, 2, 1, 3)
        for n in ("wq", "wk", "wv")
    )
    scores = softened(q @ k.swapaxes(2, 3) / np.sqrt(width // heads))
    x = v["x"] + (scores @ values).transpose(0, 2, 1, 3).reshape(v["x"].shape) @ v["wp"]
    inner = normalised(x, v["g2"], v["e2"]) @ v["w1"]
    gelu = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    return ((x + gelu @ v["w2"]) ** 2).mean()


def classes(v: Any) -> Any:
    return entropy(v["x"], np.eye(v["x"].shape[1])[v["y"]])


ORACLES: dict[str, Callable[[Any], Any]] = {
    "tiny": lambda v: in_numpy.tiny(**v),
    "chain_mem": lambda v: in_numpy.chain_mem(**v),
    "chain_math": lambda v: in_numpy.chain_math(**v),
    "logreg": logreg,
    "mlp_small": lambda v: (
        (relu(v["x"] @ v["w1"] + v["b1"]) @ v["w2"] + v["b2"] - v["y"]) ** 2
    ).mean(),
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "rnn": rnn,
    "block": block,
    "softmax": lambda v: (softened(v["x"]) * v["c"]).sum(),
    "layer_norm": lambda v: (normalised(v["x"], v["scale"], v["offset"]) * v["c"]).sum(),
    "cross_entropy": classes,
    "matmul": lambda v: v["a"] @ v["b"],
    "matmul_turned": lambda v: v["a"].T @ v["b"],
    "conv": lambda v: convolved(v["x"], v["k"]),
}


def in_float64(arrays: dict[str, Any]) -> dict[str, Any]:
    return {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in arrays.items()}


@pytest.mark.parametrize("name", [n for n in WORKLOADS if WORKLOADS[n].formula in ORACLES])
def test_graphc_computes_what_numpy_does(name: str) -> None:
    data = data_of(name)
    known = in_float64(data.feeds[0] | data.parameters)
    [value, *_] = steps(name, "", 1)[0]
    want = ORACLES[WORKLOADS[name].formula](known)
    np.testing.assert_allclose(value, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [n for n in WORKLOADS if data_of(n).wrt])
def test_gradients_are_slopes(name: str) -> None:
    """Along the gradient, of which each element is a slope, the loss changes by its square."""
    data = data_of(name)
    known = in_float64(data.feeds[0] | data.parameters)
    _, *gradients = steps(name, "", 1)[0]
    length = 1e-5
    formula = ORACLES[WORKLOADS[name].formula]
    for where, gradient in zip(data.wrt, gradients, strict=True):
        ahead, behind = (
            formula(known | {where: known[where] + sign * length * gradient}) for sign in (1, -1)
        )
        squared = float((gradient.astype(np.float64) ** 2).sum())
        assert (ahead - behind) / (2 * length) == pytest.approx(squared, rel=1e-3)


@pytest.mark.parametrize(("name", "operand"), [("conv_filters", "k"), ("conv_image", "x")])
def test_gradients_of_convolutions_are_adjoint(name: str, operand: str) -> None:
    known = in_float64(data_of(name).parameters)
    [[gradient]] = steps(name, "", 1)
    pairing = (convolved(known["x"], known["k"]) * known["c"]).sum()
    assert gradient.shape == known[operand].shape
    assert (gradient * known[operand]).sum() == pytest.approx(pairing, rel=1e-4)


@pytest.mark.parametrize("name", [n for n in WORKLOADS if data_of(n).rate])
def test_variants_train_alike(name: str) -> None:
    plain = steps(name, "", 12)
    assert plain[-1][0] < plain[0][0]
    for variant in ("run", "fixed"):
        np.testing.assert_allclose(steps(name, variant, 12), plain, rtol=1e-4)


def test_descriptions_tell_values_apart() -> None:
    value = [np.float32(2.0), None, (np.arange(100, dtype=np.float32),)]
    known = measure.describe(value)
    assert [d["shape"] for d in known] == [[], [100]]
    assert agree(known, measure.describe([2.001, np.arange(100)]))
    assert not agree(known, measure.describe([2.0]))
    assert not agree(known, measure.describe([2.1, np.arange(100)]))
    assert not agree(known, measure.describe([2.0, np.arange(100)[::-1]]))
    assert not agree(known, measure.describe([2.0, np.full(100, np.nan)]))
    assert not agree(known, measure.describe([2.0, np.arange(100).reshape(10, 10)]))


# ---------------------------------------------------------------------------- processes


def test_contestants_take_turns(tmp_path: Path) -> None:
    with Process(SMALL, "graphc", tmp_path, "mlp") as process:
        assert process.ask(do="check")["values"][0]["rms"] > 0
        found = process.ask(do="steps", count=3, warm=1)
        assert 0 < found["least"] <= found["median"]
        assert process.ask(do="memory")["MB"] > 1
        stat = Path(f"/proc/{process._process.pid}/stat").read_text()
        assert stat.rpartition(")")[2].split()[0] == "T", "it stands still between turns"
    with pytest.raises(Skipped, match="layers"):
        Process(SMALL, "numpy", tmp_path, "rnn")


def test_a_contestant_that_fails_leaves_a_word(tmp_path: Path) -> None:
    with pytest.raises(Skipped, match="nothing_of_this_name"):
        Process(SMALL, "nothing_of_this_name", tmp_path)
    assert last_line("Traceback\n  File\nImportError: no x\n\n") == "ImportError: no x"
    assert last_line("") == "it ended without a word"


def test_rounds_compare_contestants() -> None:
    row, memory = contest(SMALL, WORKLOADS["mlp"], ["graphc", "graphc:fixed"], 2)
    assert not row.differs and not row.skipped
    assert set(row.figures) == set(memory.figures) == {"graphc", "graphc:fixed"}
    [row] = contest(SMALL, WORKLOADS["matmul_256"], ["graphc", "numpy"], 1)
    assert row.best == "numpy" and row.ratio is not None and row.share is not None
    assert not row.differs and row.verdict in ("no", "yes", "aim")


def test_first_steps_are_timed_from_outside() -> None:
    empty, warm = first_steps(SMALL, ["graphc", "numpy"], 1)
    for row in (empty, warm):
        assert row.figures["graphc"].median > 0 and "layers" in row.skipped["numpy"]


@pytest.mark.parametrize("limit", ["fma", "copy"])
def test_limits_are_measured(limit: str) -> None:
    for threads in (1, 2):
        measured = rate(limit, threads, small=True)
        assert measured() > 1e6 and measured() > 1e6


@pytest.mark.parametrize("name", ALONE)
def test_what_graphc_alone_is_asked(name: str) -> None:
    found = graphc_figures.FIGURES[name](True)
    for key, *_ in ALONE[name]:
        assert all(value > 0 for value in found[key])
    if name == "variable_batch":
        assert found["compilations"] == [1]
    if name == "compile_small":
        assert found["nodes"] <= 10


def test_what_graphc_alone_is_asked_in_a_process() -> None:
    [row] = alone(SMALL, "compile_small")
    assert row.figures[OURS].median > 0 and not row.skipped
    [row] = alone(Setting({}, patience=0.001, small=True), "compile_small")
    assert "no answer" in row.skipped[OURS] and row.verdict == ""


# ---------------------------------------------------------------------------- results


def example() -> Results:
    peer = Target("peer", 0.7, 0.5)
    quick = Row("quick", "what | is quick", "us", peer, limit="copy")
    quick.figures = {
        OURS: Figure(40.0, 39.0, 43.0), "jax": Figure(100.0, 90.0, 110.0),
        "torch": Figure(12345.6, 12000.0, 13000.0),
    }  # fmt: skip
    quick.ratio, quick.share = Figure(0.4, 0.39, 0.41), Figure(0.93, 0.9, 0.95)
    quick.skipped = {"numpy": "NumPy has no gradients"}
    slow = Row("slow", "what is slow", "us", peer, differs=["jax"])
    slow.figures = {OURS: Figure(0.5, 0.5, 0.5), "jax": Figure(0.25, 0.25, 0.25)}
    slow.ratio = Figure(2.0, 2.0, 2.0)
    start = Row("start", "first step", "s", Target("s", 0.8, 0.5), {OURS: Figure(0.7, 0.7, 0.7)})
    memory = Row("memory", "memory", "MB", Target("MB", 150), {OURS: Figure(151, 151, 151)})
    none = Row("none", "not said", "us", peer, skipped={OURS: "needs scan"})
    limits = {
        f"{what}_{threads}": 10.0
        for what in ("fma", "copy")
        for threads in ("one_thread", "all_threads")
    }
    machine = {"processor": "a CPU", "threads": 2, "python": "3.11.0", "limits": limits}
    rows = [quick, slow, start, memory, none]
    return Results(machine, {OURS: "1", "jax": "2"}, {"tf1": "No module named 'x'"}, rows)


def test_verdicts() -> None:
    assert [row.verdict for row in example().rows] == ["aim", "no", "yes", "no", ""]
    row = Row("m", "m", "us", Target("peak", 0.7, 0.85), {OURS: Figure(1, 1, 1)})
    for share, verdict in ((0.69, "no"), (0.7, "yes"), (0.86, "aim")):
        row.share = Figure(share, share, share)
        assert row.verdict == verdict


def test_figures_are_medians_and_quarters() -> None:
    assert Figure.of([5.0]) == Figure(5.0, 5.0, 5.0)
    assert Figure.of([9.0, 1.0, 3.0, 2.0, 4.0]) == Figure(3.0, 2.0, 4.0)


def test_json_round_trip(tmp_path: Path) -> None:
    example().write(tmp_path / "a.json")
    assert Results.read(tmp_path / "a.json") == example()
    plain = json.loads((tmp_path / "a.json").read_text())
    assert plain["rows"][0]["best"] == "jax" and plain["rows"][0]["verdict"] == "aim"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0312, "us", "31.2 ns"), (8.4, "us", "8.40 µs"), (999.0, "us", "999 µs"),
     (12_345.0, "us", "12.3 ms"), (0.0042, "s", "4.20 ms"), (1.5, "s", "1.50 s"),
     (5.0, "ms", "5.00 ms"), (151.4, "MB", "151 MB"), (123_456.0, "s", "123,000 s"),
     (1.0, "count", "1.00"), (999.7, "us", "1.00 ms")],
)  # fmt: skip
def test_quantities(value: float, unit: str, text: str) -> None:
    assert table.quantity(value, unit) == text


def test_table_in_the_terminal() -> None:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    table.show(example(), console)
    console.file.close()
    text = console.export_text()
    parts = [
        "40.0 µs ±5 %", "jax 100 µs ±10 %", "torch 12.3 ms", "93 % of copy", "≤ 0.7 × (0.5 ×)",
        "values differ: jax", "graphc: needs scan", "without tf1: No module named 'x'",
        "quick without numpy", "a CPU, 2 threads",
    ]  # fmt: skip
    for part in parts:
        assert part in text


def test_markdown_between_markers(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        table.write_between(file, table.markdown(example(), "peers.svg"))
    text = file.read_text()
    assert text.startswith(f"before\n{table.BEGIN}\na CPU") and "old" not in text
    assert text.endswith(f"![times relative to graphc's](peers.svg)\n{table.END}\nafter\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(example().rows)
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(table.COLUMNS) + 1}
    file.write_text("no markers")
    with pytest.raises(ValueError, match="begin"):
        table.write_between(file, "text")


@pytest.mark.parametrize("path", ["README.md", "docs/performance.md"])
def test_docs_have_the_markers(path: str) -> None:
    text = (ROOT / path).read_text()
    assert text.count(table.BEGIN) == text.count(table.END) == 1
    assert text.index(table.BEGIN) < text.index(table.END)


def test_chart(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg", "three.png"):
        chart.draw(example(), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "<svg" in (tmp_path / "one.svg").read_text()
    assert (tmp_path / "three.png").read_bytes()[:4] == b"\x89PNG"


# ---------------------------------------------------------------------------- the command


def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    command = [
        sys.executable, str(ROOT / "tools" / "bench" / "peers.py"), "--small", "--repeats", "1",
        "--peers", "numpy,torch", "--python", f"torch={tmp_path / 'nowhere'}",
        "--workloads", "tiny,conv", "--json", "figures.json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "without torch" in done.stdout and "conv without numpy" in done.stdout
    results = Results.read(tmp_path / "figures.json")
    assert [row.name for row in results.rows] == ["tiny", "conv"]
    assert set(results.rows[0].figures) == {"graphc", "numpy"}
    assert results.machine["small"] and "say nothing about speed" in done.stdout


def test_the_command_loads_and_draws(tmp_path: Path, capsys: Any) -> None:
    file, picture, page = (tmp_path / name for name in ("a.json", "a.svg", "page.md"))
    page.write_text(f"{table.BEGIN}\n{table.END}\n")
    example().write(file)
    arguments = ["--load", str(file), "--chart", str(picture), "--markdown", str(page)]
    assert main(arguments) == 1, "jax differs in a row"
    assert picture.exists() and "what is slow" in capsys.readouterr().out
    assert table.markdown(example(), "a.svg") in page.read_text()
    small = example()
    small.machine["small"] = True
    small.write(file)
    with pytest.raises(SystemExit, match="no document"):
        main(arguments)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--peers", "thaeno"], "no peer 'thaeno'"), (["--workloads", "x"], "no workload 'x'"),
     (["--python", "torch"], "FRAMEWORK=PROGRAM")],
)  # fmt: skip
def test_the_command_says_what_it_takes(arguments: list[str], word: str) -> None:
    with pytest.raises(SystemExit, match=word):
        main(arguments)


def test_every_row_has_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(WORKLOADS) + 1 + len(ALONE)


# ---------------------------------------------------------------------------- loops


def test_loops_are_measured(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", "off")  # as the figures leave it
    loops.main(["--small", "--json", str(tmp_path / "loops.json")])
    told = json.loads((tmp_path / "loops.json").read_text())
    assert told["machine"]["small"]
    rows = {row["name"]: row for row in told["rows"]}
    assert rows["compilations for 5 lengths"]["value"] == 1
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert name in printed
        if "numba" not in name:
            assert row["value"] is not None and not row["word"]
        elif row["value"] is None:
            assert "without numba" in row["word"]

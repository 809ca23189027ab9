"""The rows of the table: every workload with its full sizes, its small ones, and its target."""

from __future__ import annotations

from collections.abc import Callable

from . import workloads as make
from .workloads import Data, Target, Workload

ROWS, SMALL_ROWS = {"rows": 4096, "columns": 1024}, {"rows": 6, "columns": 10}
PICTURES = {"batch": 128, "side": 26, "channels": 32}
SMALL_PICTURES = {"batch": 2, "side": 6, "channels": 3}
PEER = Target("peer", 0.75, 0.6)


def matmul_flops(m: int, k: int, n: int) -> float:
    """Multiplications and additions of a product."""
    return 2.0 * m * k * n


def conv_flops(batch: int, side: int, channels: int) -> float:
    """Useful multiplications and additions of a 3x3 convolution, or of either of its gradients."""
    return 2.0 * batch * (side - 2) ** 2 * channels * channels * 9


def _matmul(m: int, k: int, n: int, must: float, aim: float, turned: bool = False) -> Workload:
    cube = m == k == n
    label = f"{m}" if cube else f"{m}x{k}x{n}"
    return Workload(
        f"matmul_{label}",
        f"matmul {f'{m}³' if cube else f'{m}×{k}×{n}'}" + (", A transposed" if turned else ""),
        "matmul_turned" if turned else "matmul",
        make.make_matmul_turned if turned else make.make_matmul,
        {"m": m, "k": k, "n": n},
        {"m": 5, "k": 7, "n": 3},
        Target("peak", must, aim),
        flops=matmul_flops,
        limit="fma",
    )


def _conv(name: str, text: str, must: float, aim: float) -> Workload:
    target = Target("peak", must, aim)
    return Workload(
        name, f"conv 3×3×32→32, batch 128, 26×26: {text}", name, make.make_conv, PICTURES,
        SMALL_PICTURES, target, flops=conv_flops, limit="fma",
    )  # fmt: skip


def _rows(name: str, text: str, maker: Callable[..., Data], arrays: int) -> Workload:
    return Workload(
        name, f"{text} with gradient, 4096×1024", name, maker, ROWS, SMALL_ROWS,
        Target("peer", 0.7), moved=lambda rows, columns: 4.0 * arrays * rows * columns,
        limit="copy",
    )  # fmt: skip


def _chain(name: str, text: str, elements: int) -> Workload:
    return Workload(
        name, text, name, make.make_chain, {"elements": elements}, {"elements": 11},
        Target("peer", 0.7), moved=lambda elements: 8.0 * elements, limit="copy",
    )  # fmt: skip


ENTRIES = [
    Workload(
        "tiny", "7 scalar and matrix ops on 2×2, prepared", "tiny", make.make_tiny, {}, {},
        Target("us", 3.0, 1.5), batched=False,
    ),
    Workload(
        "tiny_run", "the same by Session.run", "tiny", make.make_tiny, {}, {},
        Target("us", 6.0, 3.0), batched=False,
    ),
    _chain("chain_mem", "(2x+1)x − x/3, 16 M floats", 16_000_000),
    _chain("chain_math", "tanh·exp + log1p, 4 M floats", 4_000_000),
    Workload(
        "logreg", "logistic regression 1000×100, full batch, L2, SGD", "logreg", make.make_logreg,
        {"batch": 1000, "features": 100}, {"batch": 9, "features": 4}, Target("peer", 0.8, 0.5),
    ),
    Workload(
        "mlp_small", "100-10-1, batch 5, SGD", "mlp_small", make.make_mlp_small,
        {"batch": 5, "features": 100, "hidden": 10}, {"batch": 3, "features": 6, "hidden": 4},
        Target("peer", 0.8, 0.5),
    ),
    Workload(
        "mlp", "784-512-512-10, batch 128, SGD", "mlp", make.make_mlp,
        {"batch": 128, "features": 784, "hidden": 512, "classes": 10},
        {"batch": 4, "features": 12, "hidden": 8, "classes": 3}, PEER,
    ),
    Workload(
        "cnn", "conv 3×3×32 twice, pool, dense 128, batch 128, SGD", "cnn", make.make_cnn,
        {"batch": 128, "side": 28, "channels": 32, "hidden": 128},
        {"batch": 3, "side": 8, "channels": 4, "hidden": 5}, PEER,
    ),
    Workload(
        "lstm", "embedding 20000×128, LSTM 128, 80 steps, batch 32, SGD", "lstm", make.make_lstm,
        {"batch": 32, "steps": 80, "width": 128, "words": 20000},
        {"batch": 2, "steps": 3, "width": 4, "words": 10}, Target("peer", 0.75, 0.45),
    ),
    Workload(
        "rnn", "tanh(hW + x), 1000 steps of 1×32, gradient, SGD", "rnn", make.make_rnn,
        {"steps": 1000, "width": 32}, {"steps": 4, "width": 3}, Target("peer", 0.6, 0.3),
    ),
    Workload(
        "block", "transformer block 8×128×256, 4 heads, gradient, SGD", "block", make.make_block,
        {"batch": 8, "steps": 128, "width": 256, "heads": 4},
        {"batch": 2, "steps": 3, "width": 8, "heads": 2}, PEER,
    ),
    _rows("softmax", "softmax", make.make_softmax, 3),
    _rows("layer_norm", "layer norm", make.make_layer_norm, 3),
    _rows("cross_entropy", "cross entropy", make.make_cross_entropy, 2),
    *(_matmul(n, n, n, 0.85, 0.95) for n in (256, 512, 1024, 2048)),
    _matmul(128, 784, 512, 0.70, 0.85),
    _matmul(784, 128, 512, 0.70, 0.85, turned=True),
    _matmul(1024, 256, 1024, 0.70, 0.85),
    _conv("conv", "forward", 0.80, 0.95),
    _conv("conv_filters", "gradient of the filters", 0.65, 0.85),
    _conv("conv_image", "gradient of the image", 0.65, 0.85),
]  # fmt: skip
CPU, TINYGRAD = "graphc:cpu", "tinygrad"
# On an OpenCL device: beside our own CPU device, and beside another framework on the same driver.
OPENCL_ENTRIES = [
    Workload(
        "chain_mem_held", "(2x+1)x − x/3, 16 M floats, on the device", "chain_mem",
        make.make_held_chain, {"elements": 16_000_000}, {"elements": 11},
        Target("peer", 1.5, 1.0, CPU),
    ),
    Workload(
        "chain_math_held", "tanh·exp + log1p, 4 M floats, on the device", "chain_math",
        make.make_held_chain, {"elements": 4_000_000}, {"elements": 11},
        Target("peer", 1.5, 1.0, CPU),
    ),
    Workload(
        "matmul_1024_held", "matmul 1024³, on the device", "matmul", make.make_held_matmul,
        {"m": 1024, "k": 1024, "n": 1024}, {"m": 5, "k": 7, "n": 3},
        Target("peer", 0.333, against=TINYGRAD), more=(Target("peer", 3.33, 1.43, CPU),),
    ),
]  # fmt: skip
WORKLOADS = {entry.name: entry for entry in (*ENTRIES, *OPENCL_ENTRIES)}
# What is measured on an OpenCL device that the CPU's table has too, with targets of its own.
OPENCL_TARGETS = {"mlp": Target("peer", 0.333, against=TINYGRAD)}

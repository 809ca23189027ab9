"""`graphc demo`: trains a small network on real handwritten digits, and shows what came of it.

Enters: the command's arguments. Leaves: a line for each epoch, and a folder with pictures of the
graph and the trained weights. The programs in this folder are written like a user's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import graphc as g
from graphc.demo.data import Array, Digits, load
from graphc.demo.network import Network, build

BATCH = 32
LEARNING_RATE = 0.003


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="graphc demo",
        description="Train a two-layer network on 1,797 real handwritten digits, and look at it.",
    )
    parser.add_argument("--epochs", type=_positive, default=20, help="times through the data (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches (0)")
    parser.add_argument("--device", help="cpu, opencl, opencl:gpu, reference, ... (cpu)")
    parser.add_argument(
        "--out", type=Path, default=Path("graphc-demo"), metavar="FOLDER",
        help="where the pictures and the weights go (graphc-demo)",
    )  # fmt: skip
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _console() -> Console:
    """Plain text: paths must not be read as markup."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        _run(options, _console())
    except (g.GraphcError, OSError) as error:
        print(f"graphc demo: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, console: Console) -> None:
    training, held_out = load()
    network = build(LEARNING_RATE)
    console.print(
        f"{len(training.labels) + len(held_out.labels):,} handwritten digits of 8x8 pixels; "
        f"{len(held_out.labels)} are held out"
    )
    with _session(options.device, options.seed) as session:
        start = time.perf_counter()
        _train(session, network, training, held_out, options, console)
        accuracy = _measure(session, network, held_out)[1]
        console.print(
            f"trained in {time.perf_counter() - start:.1f} s; "
            f"accuracy on the held-out digits: {accuracy:.2%}"
        )
        weights = options.out / "digits.zip"
        session.save(weights)
    for path, what in [*_pictures(network, options.out), (weights, "the weights")]:
        console.print(f"wrote {path}: {what}")
    if not shutil.which("dot"):
        console.print("install Graphviz (the program dot) for digits.svg as well")
    program = Path(__file__).with_name("network.py")
    page = options.out / "digits.html"
    console.print(f"to look further: open {page} in a browser; the program is {program}")


def _session(device: str | None, seed: int) -> g.Session:
    return g.Session(seed=seed) if device is None else g.Session(device, seed=seed)


def _train(
    session: g.Session,
    network: Network,
    training: Digits,
    held_out: Digits,
    options: argparse.Namespace,
    console: Console,
) -> None:
    """Run all epochs, with a bar on a terminal, and a line for each."""
    step = session.prepare([network.train], [network.images, network.labels])
    rng = np.random.default_rng(options.seed)
    batches = -(-len(training.labels) // BATCH)
    with _progress(console) as progress:
        task = progress.add_task("training", total=options.epochs * batches)
        for epoch in range(1, options.epochs + 1):
            for images, labels in _batches(training, rng):
                step(images, labels)
                progress.advance(task)
            loss, seen = _measure(session, network, training)
            unseen = _measure(session, network, held_out)[1]
            accuracy = f"accuracy {seen:7.2%}   held out {unseen:7.2%}"
            progress.console.print(f"epoch {epoch:3d}   loss {loss:.4f}   {accuracy}")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=console, transient=True, disable=not console.is_interactive)


def _batches(digits: Digits, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """All digits once, in a new order; the last batch may be short."""
    order = rng.permutation(len(digits.labels))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield digits.images[chosen], digits.labels[chosen]


def _measure(session: g.Session, network: Network, digits: Digits) -> tuple[float, float]:
    """Loss and accuracy over many digits at once: the same program, at another batch size."""
    feeds = {network.images: digits.images, network.labels: digits.labels}
    loss, accuracy = session.run([network.loss, network.accuracy], feeds)
    return float(loss), float(accuracy)


def _pictures(network: Network, folder: Path) -> Iterator[tuple[Path, str]]:
    """Draw the graph in every form that this machine can make."""
    fetches = [network.loss, network.accuracy, network.train]
    forms = {"html": "the graph, to open in a browser", "dot": "the graph, for Graphviz"}
    if shutil.which("dot"):
        forms["svg"] = "the graph, as a picture"
    for form, what in forms.items():
        path = folder / f"digits.{form}"
        g.draw(fetches, str(path))
        yield path, what

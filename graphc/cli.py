"""The command `graphc`. Enters: arguments. Leaves: text, files, and an exit status.

0: done; 1: the program or the machine did not allow it; 2: the command was not understood.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from graphc import demo, doctor
from graphc.draw import SUFFIXES, picture
from graphc.errors import GraphcError
from graphc.graph import Graph
from graphc.lower import Lowered
from graphc.pictures import check_request
from graphc.plan_text import counted_steps, listing
from graphc.programs import Target, UsageError, fetches_of, run_file, traceback_text
from graphc.runtime.devices import devices
from graphc.runtime.function import default_session
from graphc.stages import STAGES, check_stage, form_at

BENCHMARKS = Path(__file__).parent.parent / "tools" / "bench"


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text))


def _note_closed(form: Graph | Lowered, stage: str) -> None:
    """Say why a gradient is still one box, where no feeds tell the shapes."""
    if isinstance(form, Lowered):
        return
    closed = [node for node in form.nodes if node.op.family == "gradient"]
    if stage != "source" and closed:
        _say(
            f"note: {len(closed)} gradient(s) stay closed, for shapes or sizes on their way are "
            "known only in a run; name the dimensions of placeholders that are equal"
        )


def _draw(options: argparse.Namespace) -> int:
    target = Target.of(options.target)
    format = check_request(options.output, options.depth)
    check_stage(options.stage)
    form = form_at(fetches_of(target), options.stage, device=options.device)
    _note_closed(form, options.stage)
    path = Path(options.output)
    path.write_bytes(picture(form, format, options.depth, target.name))
    shown = (
        counted_steps(form.plan.steps) if isinstance(form, Lowered) else f"{len(form.nodes)} nodes"
    )
    _out().print(Text(f"{path}: {shown}, {path.stat().st_size:,} bytes"))
    return 0


def _show(options: argparse.Namespace) -> int:
    check_stage(options.stage)
    fetches = fetches_of(Target.of(options.target))
    form = form_at(fetches, options.stage, device=options.device)
    _note_closed(form, options.stage)
    written = listing(form)
    if not sys.stdout.isatty():
        sys.stdout.write(written)
        return 0
    text = Text(written)
    text.highlight_regex(r"   # .*", "dim")
    text.highlight_regex(r"%[\w./:-]*\w", "cyan")
    text.highlight_regex(r"(?m)^(plan|kernel|host|return|update)(?= )", "bold")
    _out().print(text, end="")
    return 0


def _run(options: argparse.Namespace) -> int:
    target = Target.of(options.target)
    if not target.name:
        run_file(target, options.arguments, main=True)
        return 0
    value = default_session().run(fetches_of(target))
    _print_value(value, target.name)
    return 0


def _print_value(value: Any, name: str) -> None:
    """Values of a nesting, each after the path that leads to it."""
    pending = [(name, value)]
    while pending:
        path, current = pending.pop()
        if isinstance(current, dict):
            pending += [(f"{path}[{k!r}]", v) for k, v in reversed(list(current.items()))]
        elif isinstance(current, (list, tuple)):
            pending += [(f"{path}[{i}]", v) for i, v in reversed(list(enumerate(current)))]
        else:
            print(f"{path} = {'done' if current is None else current}")


def _devices(options: argparse.Namespace) -> int:
    console = _out()
    for device in devices():
        mark = ("usable", "green") if device.usable else ("not usable", "yellow")
        line = (f"{device.name:<10} ", "bold"), mark, f": {device.model} ({device.reason})"
        console.print(Text.assemble(*line))
        for detail in device.details():
            console.print(Text(f"{'':<10} {detail}"))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    findings = doctor.examine()
    for finding in findings:
        mark = ("ok", "green") if finding.good else ("no", "red" if finding.needed else "yellow")
        _out().print(Text.assemble(mark, f"  {finding.what}: {finding.text}"))
    return int(any(finding.needed and not finding.good for finding in findings))


def _bench(options: argparse.Namespace) -> int:
    programs = sorted(p for p in BENCHMARKS.glob("*.py") if p.name[:1] != "_")
    if not programs:
        _say("graphc bench: the benchmarks stand in tools/bench of graphc's source tree")
        return 1
    for program in programs:
        summary = (ast.get_docstring(ast.parse(program.read_text())) or "").partition("\n")[0]
        _out().print(Text(f"python {os.path.relpath(program)}   # {summary}"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="graphc", description="A static-graph compiler and runtime for Python."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, action: Callable[[argparse.Namespace], int], text: str, **more: Any
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, **more)
        made.set_defaults(action=action)
        return made

    commands.add_parser("demo", help="train a network on handwritten digits")  # see `main`
    draw_parser = command("draw", _draw, "draw what FILE.py:NAME reaches")
    show_parser = command("show", _show, "list what FILE.py:NAME reaches, one node a line")
    for made in (draw_parser, show_parser):
        made.add_argument("target", metavar="FILE.py:NAME", help="a tensor, update, or nesting")
        made.add_argument("--stage", default="source", help=", ".join(STAGES) + " (source)")
        made.add_argument("--device", metavar="NAME", help='where it runs, for stage "fused"')
    draw_parser.add_argument(
        "-o", "--output", default="graph.svg", metavar="FILE",
        help=f"ends in {', '.join('.' + s for s in SUFFIXES)} (graph.svg)",
    )  # fmt: skip
    draw_parser.add_argument(
        "--depth", type=int, metavar="N", help="fold scopes that many levels down (by itself)"
    )
    run_parser = command("run", _run, "run a file, or compute FILE.py:NAME and print it")
    run_parser.add_argument("target", metavar="FILE.py[:NAME]")
    run_parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    command("devices", _devices, "list devices, usable or not, and why")
    command("doctor", _doctor, "check what this machine has of what graphc uses")
    command("bench", _bench, "say which commands run the benchmarks")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["demo"]:  # its options are its own, --help too
        return demo.main(given[1:])
    options = _parser().parse_args(given)
    try:
        status: int = options.action(options)
        sys.stdout.flush()
        return status
    except UsageError as error:
        _say(f"graphc: {error}")
        return 2
    except BrokenPipeError:  # the reader of a listing has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _say(_report(error))
        return 1


def _report(error: Exception) -> str:
    """An error as the user should see it: their own frames, or one line where there are none."""
    text = traceback_text(error).rstrip("\n")
    if isinstance(error, (GraphcError, OSError)) and 'File "' not in text:
        return f"graphc: {error}"
    return text

"""What goes into the bodies of a loop or a branch, and what comes out: for listings and pictures.

Enters: a control node. Leaves: for each parameter of a body, what it is (a row of a sequence, a
state, what is taken from outside, the number of the step), and for each result, which output of the
node it makes. `ops/loop.py` and `ops/branch.py` say what that means in a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.dims import Dimension
from graphc.graph import Graph, Node, Tensor

ENDLESS = 2**62  # the length of a loop that only its guard ends
OPTIONS = ("truncate", "checkpoint")  # of a loop: the attributes that no other line tells


@dataclass(frozen=True, slots=True)
class Entry:
    """A parameter of a body: a "step" (its number), a "row", a "state", or what it may "take".

    `outside` is the operand that it comes from; `start` and `step` are the walk of a row, and of
    the number. `kept` is the output that has all values of a state, if one has.
    """

    role: str
    parameter: Tensor
    outside: Tensor | None
    start: Dimension = 0
    step: int = 1
    kept: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """A result of a body: the "next" value of a state, a row of a "stack", or a "result"."""

    role: str
    value: Tensor
    output: int  # of the node
    start: Dimension = 0
    step: int = 1
    entry: Entry | None = None  # the state that it is in the next step


def is_loop(node: Node) -> bool:
    """Whether a control node is a loop; else it is a branch."""
    return "reads" in node.attrs


def guard(node: Node) -> Tensor | None:
    """The parameter that says whether a loop goes on."""
    if not node.attrs["guarded"]:
        return None
    parameter: Tensor = node.attrs["body"].graph.inputs[1 + len(node.attrs["reads"])]
    return parameter


def counted(node: Node) -> int | None:
    """The output that is the number of steps."""
    return len(node.types) - 1 if node.attrs["guarded"] else None


def entries(node: Node, name: str) -> list[Entry]:
    """What the body of that name gets, in the order of its parameters."""
    attrs, inputs = node.attrs, node.inputs
    parameters = attrs[name].graph.inputs
    if not is_loop(node):
        split = 1 + attrs["split"]
        given = inputs[1:split] if name == "then" else inputs[split:]
        return [Entry("take", p, x) for p, x in zip(parameters, given, strict=True)]
    reads, states, past = attrs["reads"], attrs["states"], attrs["histories"]
    found = [Entry("step", parameters[0], None, *attrs["index"])]
    for k, (parameter, x) in enumerate(zip(parameters[1:], inputs, strict=True)):
        state = k - len(reads)
        if k < len(reads):
            found.append(Entry("row", parameter, x, *reads[k]))
        elif state < states:
            kept = states + past.index(state) if state in past else None
            found.append(Entry("state", parameter, x, kept=kept))
        else:
            found.append(Entry("take", parameter, x))
    return found


def exits(node: Node, name: str, made: Graph | None = None) -> list[Exit]:
    """What the body of that name leaves, in the order of its results (those of `made`)."""
    attrs = node.attrs
    results = (made or attrs[name].graph).outputs
    if not is_loop(node):
        return [Exit("result", value, k) for k, value in enumerate(results)]
    states = [entry for entry in entries(node, name) if entry.role == "state"]
    found = [Exit("next", results[k], k, entry=entry) for k, entry in enumerate(states)]
    first = len(states) + len(attrs["histories"])
    rows = zip(results[len(states) :], attrs["writes"], strict=False)
    return [*found, *(Exit("stack", x, first + j, *walk) for j, (x, walk) in enumerate(rows))]


def is_used(entry: Entry, node: Node, name: str) -> bool:
    """Whether the body reads a parameter."""
    graph = node.attrs[name].graph
    return any(entry.parameter in n.inputs for n in graph.nodes) or entry.parameter in graph.outputs


def counter(node: Node, value: Callable[[Any], str]) -> str:
    """What the number of a loop's step is called: `t`, unless a size of it has that name."""
    attrs = node.attrs
    sizes = [attrs["length"], *(start for start, _ in (attrs["index"], *attrs["reads"]))]
    sizes += [start for start, _ in attrs["writes"]]
    return "step" if any(re.search(r"\bt\b", value(size)) for size in sizes) else "t"


def in_step(start: Dimension, step: int, value: Callable[[Any], str], name: str = "t") -> str:
    """The number of a row in step t: `t`, `1 + t`, `n-1 - t`; `name` is that of the step."""
    sign = "+" if step > 0 else "-"
    by = name if abs(step) == 1 else f"{abs(step)}*{name}"
    text = value(start)
    return by if text == "0" and sign == "+" else f"{text} {sign} {by}"


def title(node: Node, value: Callable[[Any], str]) -> str:
    """What a user would call it: `scan, n steps`, `while`, `if`."""
    if not is_loop(node):
        return "if"
    attrs = node.attrs
    word = "scan" if attrs["reads"] or attrs["writes"] or not attrs["guarded"] else "while"
    if attrs["length"] == ENDLESS:
        return word
    steps = "1 step" if attrs["length"] == 1 else f"{value(attrs['length'])} steps"
    return f"{word}, {steps}{' at most' if attrs['guarded'] else ''}"


def head(node: Node, value: Callable[[Any], str], name: Callable[[Tensor], str]) -> str:
    """How a loop goes: `step t < n`, `step t, while %go`."""
    length, going = node.attrs["length"], guard(node)
    bound = "" if length == ENDLESS else f" < {value(length)}"
    number = counter(node, value)
    word = number if number == "step" else f"step {number}"
    return f"{word}{bound}" + ("" if going is None else f", while {name(going)}")


def entry_line(
    entry: Entry, node: Node, value: Callable[[Any], str], name: Callable[[Tensor], str],
    typed: Callable[[Tensor], str],
) -> str:  # fmt: skip
    """The listing of something that a body gets."""
    made = f"{name(entry.parameter)}: {typed(entry.parameter)}"
    if entry.role == "take":
        assert entry.outside is not None
        return f"take {made} = {name(entry.outside)}"
    number = counter(node, value)
    at = in_step(entry.start, entry.step, value, number)
    if entry.outside is None:
        return f"step {made} = {at}"
    if entry.role == "row":
        return f"read {made} = {name(entry.outside)}[{at}]"
    kept = "" if entry.kept is None else f", kept in {name(output(node, entry.kept))}[{number}]"
    return f"state {made} = {name(entry.outside)}{kept}"


def exit_line(
    found: Exit, node: Node, value: Callable[[Any], str], name: Callable[[Tensor], str]
) -> str:
    """The listing of something that a step of a loop leaves, or a side."""
    if found.entry is not None:
        return f"next {name(found.entry.parameter)} = {name(found.value)}"
    if found.role == "result":
        return f"return {name(found.value)}"
    at = in_step(found.start, found.step, value, counter(node, value))
    return f"stack {name(output(node, found.output))}[{at}] = {name(found.value)}"


def output(node: Node, index: int) -> Tensor:
    """An output of a node."""
    return Tensor(node, index, node.types[index])

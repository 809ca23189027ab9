"""The text form of plans: what is fed and kept, each step with the lines that it was made from.

    plan: 1 kernel, 1 host call
      feed %x: f32[n,3]
      variable %w: f32[3,3]

    kernel matmul   # model.py:6
      ...

    host cholesky   # model.py:7
      read %0: f32[3,3]
      %1: f32[3,3]

    return %1
    update %w = %1

The sizes of all steps share one naming, so that ?0 is the same size wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.control import ENDLESS, counter, in_step
from graphc.graph import Graph
from graphc.kernel import Buffer
from graphc.kernel_text import lines_text, show_kernel
from graphc.lower import Lowered
from graphc.plan import Branch, Call, Host, Loop, Plan, Rows, Step, all_steps, inner
from graphc.show import Naming, show_graph


def _typed(buffer: Buffer, naming: Naming) -> str:
    return f"%{buffer.name}: {naming.type(buffer.type)}"


def _step(step: Step, naming: Naming) -> str:
    if isinstance(step, Call):
        return show_kernel(step.kernel, naming)
    if isinstance(step, Loop):
        return _loop(step, naming)
    if isinstance(step, Branch):
        return _branch(step, naming)
    attrs = naming.attrs(step.node)
    lines = [f"host {step.node.op.name}{' ' * bool(attrs)}{attrs}   # {step.node.where}"]
    lines += [f"  read {_typed(buffer, naming)}" for buffer in dict.fromkeys(step.inputs)]
    lines += [f"  {_typed(buffer, naming)}" for buffer in step.outputs]
    return "\n".join(lines) + "\n"


def _inside(steps: Sequence[Step], naming: Naming) -> str:
    """The steps of a loop or of a side, indented."""
    text = "\n".join(_step(step, naming) for step in steps)
    return "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())


def _row(rows: Rows, loop: Loop, naming: Naming) -> str:
    """A row of a buffer, in step t: `%x[t]`, `%x[n-1 - t]`."""
    number = counter(loop.node, naming.value)
    at = in_step(rows.start, rows.step, naming.value, number)
    return f"{_typed(rows.row, naming)} is %{rows.of.name}[{at}]"


def _read(step: Step) -> Sequence[Buffer]:
    """What a step reads by itself, not in those inside of it."""
    if isinstance(step, Call):
        return step.kernel.reads()
    if isinstance(step, Branch):
        return (step.condition,)
    return step.inputs if isinstance(step, Host) else step.outer()[0]


def _loop(step: Loop, naming: Naming) -> str:
    """What moves in each step, and the steps inside."""
    length = "as long as the first state holds"
    if step.length != ENDLESS:
        times = f"{naming.value(step.length)} times"
        length = times if step.count is None else f"{length}, {times} at most"
    lines = [f"loop {length}   # {step.node.where}"]
    if any(step.index.row in _read(each) for each in all_steps(step.steps)):
        at = in_step(
            step.index.start, step.index.step, naming.value, counter(step.node, naming.value)
        )
        lines.append(f"  step {_typed(step.index.row, naming)} is {at}")
    lines += [f"  read {_row(rows, step, naming)}" for rows in step.reads]
    lines += [
        f"  state {_typed(s.before, naming)} from %{s.initial.name}, then %{s.after.name}, at last "
        f"in %{s.last.name}"
        for s in step.states
    ]
    lines += [f"  stack {_row(rows, step, naming)}" for rows in step.writes]
    lines += [f"  stack {_row(rows, step, naming)}" for _, rows in step.histories]
    return "\n".join(lines) + "\n" + _inside(step.steps, naming)


def _branch(step: Branch, naming: Naming) -> str:
    """Both sides."""
    results = ", ".join(_typed(buffer, naming) for buffer in step.results)
    head = f"if {_typed(step.condition, naming)}, to {results}   # {step.node.where}\n"
    return f"{head}{_inside(step.then, naming)}else\n{_inside(step.otherwise, naming)}"


def counted_steps(steps: Sequence[Step]) -> str:
    """How many kernels and host calls there are, in words."""
    listed = list(all_steps(steps))
    words = []
    for kind, name in ((Call, "kernel"), (Host, "host call"), (Loop, "loop"), (Branch, "branch")):
        count = sum(isinstance(step, kind) for step in listed)
        plural = f"{name}es" if name == "branch" else f"{name}s"
        if count or kind is Call:
            words.append(f"{count} {name if count == 1 else plural}")
    return ", ".join(words)


def step_lines(plan: Plan) -> str:
    """The steps of a plan, one a line; those of loops and branches stand under them."""
    return "\n".join(_short(plan.steps, "  "))


def _short(steps: Sequence[Step], indent: str) -> Iterator[str]:
    for number, step in enumerate(steps):
        if isinstance(step, Call):
            yield f"{indent}{number}: kernel {step.kernel.name}   # {lines_text(step.kernel)}"
            continue
        kind = f"host {step.node.op.name}" if isinstance(step, Host) else step.node.op.name
        yield f"{indent}{number}: {kind}   # {step.node.where}"
        if isinstance(step, Branch):
            for side, steps in (("then", step.then), ("else", step.otherwise)):
                yield f"{indent}  {side}"
                yield from _short(steps, f"{indent}    ")
        else:
            yield from _short(inner(step), f"{indent}  ")


def _given(plan: Plan, naming: Naming) -> Iterator[str]:
    """What no step makes."""
    listed = [("feed", buffer) for buffer in plan.inputs]
    listed += [("variable", buffer) for _, buffer in plan.variables]
    listed += [("constant", buffer) for buffer, _ in plan.constants]
    listed += [("entropy", buffer) for buffer in plan.entropy]
    for kind, buffer in listed:
        yield f"  {kind} {_typed(buffer, naming)}"


def _roots(lowered: Lowered) -> Iterator[str]:
    """What is fetched, and what is written to variables."""
    count = len(lowered.graph.outputs)
    names = [f"%{buffer.name}" for buffer in lowered.plan.roots]
    if count:
        yield "return " + ", ".join(names[:count])
    for (variable, _), name in zip(lowered.graph.updates, names[count:], strict=True):
        yield f"update {lowered.naming.tensor(variable)} = {name}"


def show_plan(lowered: Lowered) -> str:
    """The listing of a plan: kernels in the order in which they run, host calls between them."""
    plan, naming = lowered.plan, lowered.naming
    place = f" on {lowered.device}" if lowered.device else ""
    head = [f"plan{place}: {counted_steps(plan.steps)}", *_given(plan, naming)]
    steps = [_step(step, naming) for step in plan.steps]
    parts = ["\n".join(head) + "\n", *steps, "\n".join(_roots(lowered)) + "\n"]
    return "\n".join(parts)


def listing(form: Graph | Lowered) -> str:
    """The text of a graph, or of a plan."""
    return show_plan(form) if isinstance(form, Lowered) else show_graph(form)

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

from graphc.graph import Graph
from graphc.kernel import Buffer
from graphc.kernel_text import lines_text, show_kernel
from graphc.lower import Lowered
from graphc.plan import Call, Host, Plan, Step
from graphc.show import Naming, show_graph


def _typed(buffer: Buffer, naming: Naming) -> str:
    return f"%{buffer.name}: {naming.type(buffer.type)}"


def _step(step: Step, naming: Naming) -> str:
    if isinstance(step, Call):
        return show_kernel(step.kernel, naming)
    assert isinstance(step, Host)
    attrs = naming.attrs(step.node)
    lines = [f"host {step.node.op.name}{' ' * bool(attrs)}{attrs}   # {step.node.where}"]
    lines += [f"  read {_typed(buffer, naming)}" for buffer in dict.fromkeys(step.inputs)]
    lines += [f"  {_typed(buffer, naming)}" for buffer in step.outputs]
    return "\n".join(lines) + "\n"


def counted_steps(steps: Sequence[Step]) -> str:
    """How many kernels and host calls there are, in words."""
    kernels = sum(isinstance(step, Call) for step in steps)
    hosts = len(steps) - kernels
    words = [f"{kernels} kernel{'s' * (kernels != 1)}"]
    words += [f"{hosts} host call{'s' * (hosts != 1)}"] if hosts else []
    return ", ".join(words)


def step_lines(plan: Plan) -> str:
    """The steps of a plan, one a line."""
    lines = []
    for number, step in enumerate(plan.steps):
        if isinstance(step, Call):
            lines.append(f"  {number}: kernel {step.kernel.name}   # {lines_text(step.kernel)}")
        else:
            lines.append(f"  {number}: host {step.node.op.name}   # {step.node.where}")
    return "\n".join(lines)


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
    head = [f"plan: {counted_steps(plan.steps)}", *_given(plan, naming)]
    steps = [_step(step, naming) for step in plan.steps]
    parts = ["\n".join(head) + "\n", *steps, "\n".join(_roots(lowered)) + "\n"]
    return "\n".join(parts)


def listing(form: Graph | Lowered) -> str:
    """The text of a graph, or of a plan."""
    return show_plan(form) if isinstance(form, Lowered) else show_graph(form)

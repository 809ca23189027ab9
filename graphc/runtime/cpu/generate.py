"""From a kernel to native code: who writes it.

Enters: a kernel and a target. Leaves: its routines, in the order in which they run.
"""

from __future__ import annotations

from graphc.collapse import collapse
from graphc.contractions import match, with_copies
from graphc.kernel import Kernel
from graphc.runtime.cpu import nest
from graphc.runtime.cpu.copying import compile_copy
from graphc.runtime.cpu.ordered import compile_ordered
from graphc.runtime.cpu.products import pays
from graphc.runtime.cpu.products_code import compile_product
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target


def compile_kernel(kernel: Kernel, target: Target) -> list[Routine]:
    """The routines of a kernel: a product of matrices where it is one that pays, else loops."""
    if kernel.ordered:
        return [*_before(kernel, target), *compile_ordered(collapse(kernel), target)]
    smaller = collapse(kernel)
    copies, changed = with_copies(smaller)
    product = match(changed)
    if product is None or not pays(product):
        return nest.compile_kernel(smaller, target)
    first = [routine for copy in copies for routine in nest.compile_kernel(collapse(copy), target)]
    return [*first, compile_product(product, target)]


def _before(kernel: Kernel, target: Target) -> list[Routine]:
    """The routines of what is stored before a loop in order."""
    if not kernel.first:
        return []
    copy = compile_copy(kernel.before)
    return compile_kernel(kernel.before, target) if copy is None else [copy]

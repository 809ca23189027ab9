"""Functions that the code of many kernels calls: compiled once, not with every kernel.

Enters: IR text. Leaves: the libraries whose functions it declares.
"""

from __future__ import annotations

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.math import quarter_turns
from graphc.runtime.cpu.target import Target
from graphc.runtime.once import once


def helpers(code: str, target: Target) -> dict[str, Library]:
    """The libraries that some code needs, by the name of the function in each."""
    if quarter_turns.NAME not in code:
        return {}
    return {quarter_turns.NAME: _quarter_turns(target)}


@once
def _quarter_turns(target: Target) -> Library:
    def module() -> str:
        found = ir.Module("helpers")
        quarter_turns.define(found)
        return str(found)

    return compile_module(module(), target)

"""Runs that write, with variables kept where the program computes: loops of small training steps.

Enters: feeds. Leaves: outputs, while new values of variables stay with the program. The cells of a
session are behind then; whoever reads them has `Values.settle` bring them up to date first. A run
holds the session's locks throughout, so it must be brief, which the program sees to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.graph import Node
from graphc.runtime.device import Program
from graphc.runtime.state import State
from graphc.runtime.variables import Cell


class Keeper:
    """Runs one program, whose updates land in `written`, and keeps what they write."""

    def __init__(self, state: State, written: Sequence[Cell], entropic: bool) -> None:
        self._state, self._values = state, state.values
        self._written, self._entropic = written, entropic
        self._residence: Any = None
        self._read: list[Cell] = []
        self._busy = False

    @classmethod
    def of(
        cls,
        program: Program,
        state: State,
        read: Mapping[Node, Cell],
        written: Sequence[Cell],
        entropic: bool,
    ) -> Keeper | None:
        """One for a program; None where it keeps nothing."""
        make = getattr(program, "residence", None)
        if make is None:
            return None
        keeper = cls(state, written, entropic)
        keeper._residence = make(keeper._leave)
        if keeper._residence is None:
            return None
        keeper._read = [read[node] for node in keeper._residence.nodes]
        return keeper

    def run(self, feeds: Sequence[Array], sizes: Mapping[Symbol, int]) -> list[Array] | None:
        """The outputs of one run; None where it has to be made in the usual way."""
        state, values, residence = self._state, self._values, self._residence
        with state.writing(), state.lock():
            if self._busy:  # this thread is in here already: a signal's handler, or a finalizer
                return None
            self._busy = True
            try:
                if residence.sizes is not sizes:
                    state.open()
                    if not residence.bind(sizes):
                        return None
                if values.keeper is not self:
                    self._enter()
                run = next(state.runs)
                entropy = state.entropy(run) if self._entropic else None
                outputs: list[Array] = residence.run(feeds, entropy)
                if values.keeper is not self:  # that other run took over, and this one lands last
                    values.keep_at(self)
                return outputs
            finally:
                self._busy = False

    def _enter(self) -> None:
        """Hand the values over."""
        self._state.open()
        self._values.settle()
        self._residence.hold([cell.array for cell in self._read])
        self._values.keep_at(self)

    def _leave(self) -> None:
        """The program can keep them no longer."""
        if self._values.keeper is self:
            self._values.settle()

    def settle(self) -> None:
        """Bring the cells up to date."""
        for cell, array in zip(self._written, self._residence.values(), strict=True):
            if array is not None:
                cell.array = array

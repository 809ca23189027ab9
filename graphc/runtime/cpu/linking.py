"""Code that is compiled once per process, whoever asks for it.

Enters: a routine. Leaves: the address of its code, and what keeps that loaded. Equal texts with
equal symbols are one library, for as long as a program uses it; those used last stay a while
longer, since the next program often is much like the last one.
"""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from graphc import config
from graphc.runtime.cache import content_key
from graphc.runtime.cpu.helpers import helpers
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.routine import NAME, Routine
from graphc.runtime.cpu.target import Target
from graphc.runtime.locks import ForkLock
from graphc.runtime.once import once

MOST = 128  # libraries that stay without a program


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Linked:
    """Loaded code: its entry point, and what must live as long."""

    library: Library
    address: int


@dataclass(slots=True)
class Linker:
    """The libraries of one process that are in use, by content."""

    _latest: dict[str, Linked] = field(default_factory=dict)
    _known: WeakValueDictionary[str, Linked] = field(default_factory=WeakValueDictionary)
    _lock: ForkLock = field(default_factory=ForkLock)

    def link(self, routine: Routine, target: Target) -> Linked:
        """The code of a routine: compiled now, unless it is loaded already."""
        symbols = sorted(routine.symbols.items())
        effort = routine.effort
        key = content_key(routine.code, repr(symbols), target.cpu, target.features, effort)
        dump(routine, key)
        with self._lock():
            found = self._known.get(key)
            if found is None:
                symbols_of = addresses(routine, target)
                library = compile_module(routine.code, target, effort, symbols_of)
                found = self._known[key] = Linked(library, library.address(NAME))
            self._latest.pop(key, None)
            self._latest[key] = found
            if len(self._latest) > MOST:
                del self._latest[next(iter(self._latest))]
        return found


def addresses(routine: Routine, target: Target) -> dict[str, int]:
    """The addresses of all that the code declares."""
    found = {n: library.address(n) for n, library in helpers(routine.code, target).items()}
    return found | dict(routine.symbols)


@once
def linker() -> Linker:
    """The linker of this process."""
    return Linker()


def dump(routine: Routine, key: str) -> None:
    """Write the code where `GRAPHC_DUMP` says, as `code/KERNEL-KEY.ll`; print it at level 4."""
    if config.debug() >= 4:
        print(f"; kernel {routine.kernel.name}\n{routine.code}", file=sys.stderr)
    folder = config.dump_folder()
    if folder is None:
        return
    stem = re.sub(r"[^\w.-]", "_", routine.kernel.name)[:80]
    path = Path(folder) / "code" / f"{stem}-{key[:10]}.ll"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(routine.code, encoding="utf-8")
    except OSError as error:
        warnings.warn(f"GRAPHC_DUMP: {path.name} was not written: {error}", stacklevel=2)

"""LLVM IR to callable machine code.

Enters: a module of IR and a target. Leaves: a `Library`, whose functions ctypes can call and whose
addresses other generated code can call. The code lives as long as the library or one of its
functions does, and not longer: each library has a linker of its own (LLVM's ORC with JITLink, half
a millisecond), because a shared one keeps some memory of every library it ever held.

Code and constants of a library lie in one block of memory, so the small code model is safe; it
reads constants relative to the program counter, and compiles faster than MCJIT's large one.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from graphc import config
from graphc.errors import CompileError
from graphc.runtime.cache import DiskCache, content_key
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.target import Target

LEVELS = {"none": 0, "lean": 2, "fast": 2, "full": 3}  # of LLVM's code generator
# LLVM's NewGVN is left out: it is not among LLVM's own defaults, and gained nothing here.
CLEANUP = ("sroa", "instruction_combine", "simplify_cfg", "aggressive_dce")
LIBRARY = "library"  # the name within its own linker
_PLACE = re.compile(r":(\d+):\d+: error")  # of a message of LLVM's parser
NO_SYMBOLS: Mapping[str, int] = {}


class Library:
    """Loaded code: finds functions by name."""

    def __init__(self, tracker: Any, names: frozenset[str]) -> None:
        self._tracker = tracker
        self.names = names  # of all functions and globals that are not internal

    def address(self, name: str) -> int:
        """Where a function or a global starts; valid while this library lives."""
        if name not in self.names:
            raise CompileError(f"no {name!r} in this library: it has {sorted(self.names)}")
        return int(self._tracker[name])

    def function(self, name: str, restype: Any, *argtypes: Any) -> Any:
        """A function that ctypes calls, without the interpreter lock; it keeps the code alive."""
        function: Any = ctypes.CFUNCTYPE(restype, *argtypes)(self.address(name))
        function.library = self
        return function


def compile_module(
    module: ir.Module | str | Callable[[], ir.Module | str],
    target: Target,
    optimise: str = "fast",
    symbols: Mapping[str, int] = NO_SYMBOLS,
    source: str | None = None,
) -> Library:
    """Verify, optimise and load a module, or load what the cache has of it.

    `optimise`: "none" (as written, quickest), "lean" (as written, by LLVM's optimising code
    generator), "fast" (the same, after a cheap clean-up of each function), "full" (LLVM's -O3,
    without its vectorisers: the generators write vectors themselves).
    `symbols`: addresses of what the module declares and this process does not export; the code
    itself must not hold addresses, since other processes will load it.
    `source`: what decides the module, where writing it takes long: the cache is asked for that,
    and only a miss has the module written, by the function that is given in its place.
    """
    if optimise not in LEVELS:
        raise ValueError(f"compile_module: optimise must be one of {[*LEVELS]}, got {optimise!r}")
    text = _text(module) if source is None else ""
    folder = config.cache_folder()
    if folder is None:
        return _load(_compile(text or _text(module), target, optimise), symbols)
    cache, key = DiskCache(folder / "cpu"), _key(source or text, target, optimise)
    packed = cache.get(key)
    if packed is None:
        packed = _compile(text or _text(module), target, optimise)
        cache.put(key, packed)
    return _load(packed, symbols)


def _text(module: ir.Module | str | Callable[[], ir.Module | str]) -> str:
    return str(module() if callable(module) else module)


def _key(text: str, target: Target, optimise: str) -> str:
    """Everything that decides the machine code."""
    versions = (config.VERSION, llvmlite.__version__, str(llvm.llvm_version_info))
    recipe = (optimise, str(LEVELS[optimise]), *CLEANUP)
    return content_key(text, target.cpu, target.features, _triple(), *recipe, *versions)


@functools.cache
def _triple() -> str:
    """Of this process; the first call makes LLVM ready."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for inline assembly
    lock = getattr(llvm.ffi.lib, "_lock", None)
    if lock is not None and hasattr(os, "register_at_fork"):
        # Of all threads only the forking one lives on in a child: had another one been compiling,
        # llvmlite's lock would stay taken there for good.
        release = functools.partial(lock.__exit__, None, None, None)
        os.register_at_fork(before=lock.__enter__, after_in_parent=release, after_in_child=release)
    return str(llvm.get_process_triple())


@functools.cache
def _idle(target: Target | None, optimise: str) -> list[Any]:
    """Machines that nobody uses now: a new one has to read the target's features again."""
    return []


@contextmanager
def _lent(target: Target | None, optimise: str) -> Iterator[Any]:
    """A machine for one use at a time."""
    idle = _idle(target, optimise)
    try:
        machine = idle.pop()
    except IndexError:
        machine = _machine(target, optimise)
    yield machine
    idle.append(machine)


def _machine(target: Target | None, optimise: str) -> Any:
    """LLVM's description of the target (None: of any processor of this kind); not shared."""
    _triple()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=target.cpu if target else "", features=target.features if target else "",
        opt=LEVELS[optimise], reloc="pic", codemodel="small",
    )  # fmt: skip


def _compile(text: str, target: Target, optimise: str) -> bytes:
    """Object code, behind a line of JSON: the names that it defines, and those that it needs."""
    with _lent(target, optimise) as machine, _parsed(text) as module:
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        names = [_defined(module), _declared(module)]
        if optimise == "fast":
            _clean_up(module, machine)
        elif optimise == "full":
            _optimise(module, machine)
        return json.dumps(names).encode() + b"\n" + bytes(machine.emit_object(module))


def _defined(module: Any) -> list[str]:
    private = (llvm.Linkage.internal, llvm.Linkage.private)
    values = (*module.functions, *module.global_variables)
    return [v.name for v in values if not v.is_declaration and v.linkage not in private]


def _declared(module: Any) -> list[str]:
    values = (*module.functions, *module.global_variables)
    return [v.name for v in values if v.is_declaration and not v.name.startswith("llvm.")]


@contextmanager
def _parsed(text: str) -> Iterator[Any]:
    """The verified module, closed before its context is: LLVM crashes on the other order."""
    with llvm.create_context() as context:
        try:
            module = llvm.parse_assembly(text, context)
        except RuntimeError as error:
            raise _refusal(text, error) from None
        with module:
            try:
                module.verify()
            except RuntimeError as error:
                raise _refusal(text, error) from None
            yield module


def _refusal(text: str, error: RuntimeError) -> CompileError:
    """Text that LLVM does not take is a fault of the generator that wrote it."""
    message = str(error).strip()
    return CompileError(f"LLVM refuses the generated code: {message}\n{_excerpt(text, message)}")


def _excerpt(text: str, message: str) -> str:
    """The first offending line of IR with its neighbours, numbered."""
    lines = text.splitlines()
    place = _PLACE.search(message)
    quoted = {line.strip() for line in message.splitlines()}
    found = (i for i, line in enumerate(lines) if line.strip() and line.strip() in quoted)
    at = int(place[1]) - 1 if place else next(found, 0)
    first = max(0, at - 3)
    return "\n".join(
        f"{'>' if i == at else ' '}{i + 1:5} {line}"
        for i, line in enumerate(lines[first : at + 4], first)
    )


def _clean_up(module: Any, machine: Any) -> None:
    """What generated code gains from, function by function: a tenth of the time of the rest."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(1))
    inline = llvm.create_new_module_pass_manager()
    inline.add_always_inliner_pass()
    inline.run(module, builder)
    passes = llvm.create_new_function_pass_manager()
    for name in CLEANUP:
        getattr(passes, f"add_{name}_pass")()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def _optimise(module: Any, machine: Any) -> None:
    tuning = llvm.create_pipeline_tuning_options(3)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


def _load(packed: bytes, symbols: Mapping[str, int]) -> Library:
    header, _, code = packed.partition(b"\n")
    names, needed = json.loads(header)
    # On Windows llvmlite has ORC without JITLink.
    with _lent(None, "none") as machine:
        linker = llvm.create_lljit_compiler(
            machine, use_jit_link=sys.platform != "win32", suppress_errors=True
        )
    unit = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for name, address in symbols.items():
        unit.import_symbol(name, address)
    for name in names:
        unit.export_symbol(name)
    try:
        return Library(unit.link(linker, LIBRARY), frozenset(names))
    except RuntimeError as error:
        unknown = [n for n in needed if n not in symbols and not llvm.address_of_symbol(n)]
        raise CompileError(
            f"the generated code cannot be linked: {error}; not found: {unknown}"
        ) from None

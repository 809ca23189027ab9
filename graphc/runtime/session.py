"""Sessions: they hold the values of variables, compile what is fetched, and run it.

Many threads may use one session. Runs that only read go side by side; runs that write take turns,
so that no update is lost.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc import hints
from graphc.dtypes import Array, uint64
from graphc.errors import DeviceError, FeedError, trimmed
from graphc.graph import Graph, Tensor
from graphc.ops.source import PLACEHOLDER, Variable
from graphc.runtime import checkpoint
from graphc.runtime.compilation import FetchSet
from graphc.runtime.device import Note
from graphc.runtime.feeds import convert, feed_items, feed_list
from graphc.runtime.fetches import Leaf, Rebuild, collect, flatten
from graphc.runtime.given import fed_apart
from graphc.runtime.locks import ForkLock
from graphc.runtime.opening import open_device
from graphc.runtime.profile import Profile
from graphc.runtime.randomness import MASK, Keys, session_seed
from graphc.runtime.report import CompileReport
from graphc.runtime.variables import Values, fit, in_dependency_order, is_literal

CHECKS = (None, "nan")
_ENTERED: ContextVar[tuple[Session, ...]] = ContextVar("graphc.sessions", default=())
MOST_FETCH_SETS = 64  # the least recently used beyond these are dropped, with all they hold


class Session:
    """Runs fetches on a device and keeps the values of variables between runs.

    `device`: "cpu", "reference" (NumPy, node by node) or "interp" (kernels, interpreted: slow, to
    check code generators against). `seed` makes random numbers and random
    initial values reproducible; None draws a fresh seed. `check="nan"` makes a run stop at the
    first node that makes a NaN. `threads` limits a native device; the reference device has one.
    Inside its `with` block, a session is what `tensor.eval()`, `function` and `jit` use.

    >>> v = Variable(1.0)
    >>> with Session() as s:
    ...     s.run(v * 2.0)
    array(2., dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        device: str = "cpu",
        threads: int | None = None,
        seed: int | None = None,
        check: str | None = None,
    ) -> None:
        if check not in CHECKS:
            raise FeedError(f'Session: check must be None or "nan", got {check!r}')
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise FeedError(f"Session: threads must be a positive int, got {threads!r}")
        self._device = open_device(device)
        self._check = check
        self._seed = session_seed(seed)
        self._runs = 0
        self._initializations: dict[str, int] = {}
        self._keys = Keys()
        self._values = Values()
        self._restored = checkpoint.Restored()
        self._sets: OrderedDict[Any, tuple[FetchSet, list[int]]] = OrderedDict()
        self._report = CompileReport(self._device.name)
        self._lock = ForkLock()  # guards all of the above
        self._writing = ForkLock()  # held through runs that write
        self._closed = False

    def __enter__(self) -> Session:
        _ENTERED.set((*_ENTERED.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        _ENTERED.set(tuple(other for other in _ENTERED.get() if other is not self))
        self.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise hints.missing(self, "'Session' object", name, hints.SESSION)

    def close(self) -> None:
        """Forget all values and programs; running anything afterwards is an error."""
        with self._writing(), self._lock():
            self._closed = True
            self._values.clear()
            self._sets.clear()

    @property
    def device(self) -> str:
        """The name of the device that runs."""
        return self._device.name

    # ------------------------------------------------------------------ running

    @trimmed
    def run(self, fetches: Any, feed_dict: Mapping[Tensor, Any] | None = None) -> Any:
        """Compute `fetches` and return NumPy arrays in the same nesting (None for updates).

        `feed_dict` gives arrays for placeholders, or for any other tensor. Variables are read as
        they are when the run starts; all updates land together at its end.

        Raises FeedError for feeds that are missing or do not fit (all in one message), FetchError
        for what cannot be fetched.
        """
        leaves, rebuild = flatten(fetches)
        items = feed_items(feed_dict)
        arrays = convert(items)
        compiled, used = self._fetch_set(leaves, [t for t, _ in items])
        return self._run(compiled, used, leaves, rebuild, arrays)

    @trimmed
    def prepare(self, fetches: Any, feeds: Sequence[Tensor] = ()) -> Callable[..., Any]:
        """A function of one array for each of `feeds`: the quickest way to run again and again.

        >>> x = placeholder("float32", ())
        >>> double = Session().prepare(x * 2.0, [x])
        >>> double(4.0)
        array(8., dtype=float32)
        """
        leaves, rebuild = flatten(fetches)
        tensors = feed_list(feeds)
        order = sorted(range(len(tensors)), key=lambda i: _serial(tensors[i]))
        ordered = [tensors[i] for i in order]
        compiled, used = self._fetch_set(leaves, ordered)

        @trimmed
        def call(*arrays: Any) -> Any:
            if len(arrays) != len(tensors):
                raise FeedError(f"run: {len(tensors)} arrays must be given, got {len(arrays)}")
            items = [(tensors[i], arrays[i]) for i in order]
            return self._run(compiled, used, leaves, rebuild, convert(items))

        return call

    @trimmed
    def profile(self, fetches: Any, feed_dict: Mapping[Tensor, Any] | None = None) -> Profile:
        """One run, timed step by step: seconds, bytes and your line of each. Updates do not land.

        >>> x = placeholder("float32", [3])
        >>> print(Session().profile(x * 2.0, {x: [1, 2, 3]}))  # doctest: +ELLIPSIS
        2 steps in ...
        """
        if not self._device.notes:
            raise DeviceError(f"profile: the device {self._device.name!r} times no steps")
        items = feed_items(feed_dict)
        arrays = convert(items)
        compiled, used = self._fetch_set(flatten(fetches)[0], [t for t, _ in items])
        chosen = [arrays[i] for i in used]
        self._execute(compiled, chosen, write=False)  # so that no compilation is timed
        profile = Profile(self._device.name)
        self._execute(compiled, chosen, write=False, note=profile.note)
        return profile

    def _run(
        self,
        compiled: FetchSet,
        used: Sequence[int],
        leaves: Sequence[Leaf],
        rebuild: Rebuild,
        arrays: Sequence[Array],
    ) -> Any:
        chosen = [arrays[i] for i in used]
        if compiled.graph.updates:
            with self._writing():
                outputs = self._execute(compiled, chosen, write=True)
        else:
            outputs = self._execute(compiled, chosen, write=False)
        values = iter(outputs)
        return rebuild(iter([next(values) if isinstance(x, Tensor) else None for x in leaves]))

    def _execute(
        self, compiled: FetchSet, arrays: list[Array], write: bool, note: Note | None = None
    ) -> list[Array]:
        with self._lock():
            self._open()
            self._initialize(compiled.variables)
            variables = self._values.snapshot(compiled.variables)
            entropy = self._entropy(self._runs)
            self._runs += 1
            known = len(compiled.compilations)
            compilation, environment = compiled.bind(arrays, variables, entropy)
            if len(compiled.compilations) > known:
                self._report.add(compiled, compilation)
        results = compilation.program.run(arrays, replace(environment, note=note))
        count = len(compiled.graph.outputs)
        if write:
            fed = {id(array) for array in arrays}  # the caller may still write to these
            results = [np.array(r) if id(r) in fed else r for r in results]
            with self._lock():
                written = dict(zip(compilation.targets, results[count:], strict=True))
                for variable, array in written.items():
                    fit(variable, array)  # type: ignore[arg-type]
                new = [v for v in written if v not in self._values]  # type: ignore[operator]
                self._restored.pass_over(new)  # type: ignore[arg-type]
                self._values.write(written)  # type: ignore[arg-type]
        owned = {id(array) for array in (*arrays, *variables.values(), *results[count:])}
        return [_own(array, owned) for array in results[:count]]

    def _entropy(self, run: int) -> Array:
        return np.array([self._seed, run & MASK], uint64.numpy)

    def _fetch_set(
        self, leaves: Sequence[Leaf], feeds: Sequence[Tensor]
    ) -> tuple[FetchSet, list[int]]:
        """The compiled form of some fetches, and which of the feeds it reads."""
        key = (tuple(leaves), tuple(feeds))
        with self._lock():
            self._open()
            found = self._sets.get(key)
            if found is None:
                found = self._sets[key] = self._make_set(leaves, feeds)
                while len(self._sets) > MOST_FETCH_SETS:
                    self._sets.popitem(last=False)
            else:
                self._sets.move_to_end(key)
        return found

    def _make_set(
        self, leaves: Sequence[Leaf], feeds: Sequence[Tensor]
    ) -> tuple[FetchSet, list[int]]:
        outputs, updates = collect(leaves)
        graph = Graph(outputs, tuple((u.variable, u.value) for u in updates), tuple(feeds))
        read = set(graph.tensors()) | {v for v, _ in graph.updates}
        used = [i for i, t in enumerate(feeds) if t in read or _sizes_only(t)]
        graph = Graph(graph.outputs, graph.updates, tuple(feeds[i] for i in used))
        graph = self._keys.assign(fed_apart(graph))
        return FetchSet(graph, self._device, self._check), used

    # ------------------------------------------------------------------ variables

    def _initialize(self, variables: Sequence[Variable]) -> None:
        """Give every variable without a value its initial one, in dependency order."""
        order = in_dependency_order(variables, self._values)
        restored = self._restored.claim(order)
        for variable in order:
            array = restored[variable] if variable in restored else self._initial(variable)
            self._values.write({variable: array})

    def _initial(self, variable: Variable) -> Array:
        if is_literal(variable.initial):
            literal: Array = variable.initial.node.attrs["value"].array
            return literal
        count = self._initializations.get(variable.name, -1) + 1
        self._initializations[variable.name] = count
        graph = self._keys.assign(Graph((variable.initial,)), f"initial value of {variable.name}")
        fetch_set = FetchSet(graph, self._device, self._check)
        snapshot = self._values.snapshot(fetch_set.variables)
        entropy = self._entropy(MASK - count)  # runs count from 0, initialisations from the top
        compilation, environment = fetch_set.bind([], snapshot, entropy)
        [array] = compilation.program.run([], environment)
        return array

    @trimmed
    def get(self, variable: Variable) -> Array:
        """The value of a variable now, as an array of your own."""
        if not isinstance(variable, Variable):
            raise FeedError(f"get: takes a Variable, got {type(variable).__name__}")
        with self._lock():
            self._open()
            self._initialize([variable])
            return self._values[variable].copy()

    @trimmed
    def set(self, variable: Variable, value: Any) -> None:
        """Give a variable a value of its type (cast by same-kind rules)."""
        with self._writing(), self._lock():
            self._open()
            met = variable not in self._values
            self._values.set(variable, value)
            self._restored.pass_over([variable] if met else [])

    @trimmed
    def initialize(self, variables: Sequence[Variable] | None = None) -> None:
        """Put variables back to initial values (random ones are drawn anew).

        None takes every variable that this session holds. First use does this by itself.
        """
        with self._writing(), self._lock():
            self._open()
            chosen = self._chosen("initialize", variables)
            self._restored = checkpoint.Restored()
            order = in_dependency_order(chosen, Values())
            for variable in order:
                if variable in chosen or variable not in self._values:
                    self._values.write({variable: self._initial(variable)})

    def _chosen(self, what: str, variables: Any) -> list[Variable]:
        """The variables that an argument names; None: all that this session holds."""
        if variables is None:
            return self._values.known()
        listed: list[Any] = [variables] if isinstance(variables, Tensor) else list(variables)
        for variable in listed:
            if not isinstance(variable, Variable):
                raise FeedError(f"{what}: takes Variables, got {type(variable).__name__}")
        return list(dict.fromkeys(listed))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Session is not copied or pickled; save(path) keeps its variables")

    def _open(self) -> None:
        if self._closed:
            raise DeviceError("run: the session is closed")

    # ------------------------------------------------------------------ saving

    @trimmed
    def save(
        self, path: str | os.PathLike[str], variables: Sequence[Variable] | None = None
    ) -> None:
        """Write variables (None: all that this session holds) to one zip of .npy files.

        The file is complete or the old one stays; it holds no code, and NumPy alone can read it.
        """
        with self._writing(), self._lock():
            self._open()
            chosen = self._chosen("save", variables)
            self._initialize(chosen)
            names = checkpoint.unique_names(chosen)
            arrays = {names[v]: self._values[v] for v in names}
            arrays |= {k: a for k, a in self._restored.arrays.items() if k not in arrays}
        checkpoint.write(path, arrays)

    @trimmed
    def restore(
        self,
        path: str | os.PathLike[str],
        strict: bool = True,
        variables: Sequence[Variable] | None = None,
    ) -> None:
        """Read variables by name from a file that `save` wrote.

        `variables` None takes those that this session holds; those it meets later take theirs from
        the file on first use. A FeedError lists names that are missing or left over, with near
        ones; `strict=False` restores what fits and leaves the rest.
        """
        arrays = checkpoint.read(path)
        with self._writing(), self._lock():
            self._open()
            chosen = self._chosen("restore", variables)
            names = checkpoint.unique_names(chosen)
            if strict and chosen:
                differ = checkpoint.mismatch(list(names.values()), list(arrays))
                if differ:
                    raise FeedError(f"restore: names must match those in {path}\n{differ}")
            written = {v: arrays[name] for v, name in names.items() if name in arrays}
            for variable, array in written.items():
                fit(variable, array)
            self._values.write(written)
            met = set(names.values())
            left = {name: array for name, array in arrays.items() if name not in met}
            taken = met | {variable.name for variable in self._values}
            self._restored = checkpoint.Restored(left, strict, taken)

    # ------------------------------------------------------------------ seeing

    def compile_report(self) -> CompileReport:
        """What was compiled and why: nodes, seconds in each pass, sizes taken for granted."""
        return self._report


def entered() -> Session | None:
    """The session of the innermost open `with` block of this thread."""
    return next((session for session in reversed(_ENTERED.get()) if not session._closed), None)


def _serial(tensor: Tensor) -> tuple[int, int]:
    return tensor.node.serial, tensor.index


def _sizes_only(tensor: Tensor) -> bool:
    """Whether a fed tensor may be needed for its sizes or its value as a size."""
    return tensor.node.op is PLACEHOLDER


def _own(array: Array, owned: set[int]) -> Array:
    """An array that the caller may write to: nobody else holds it."""
    if array.base is None and array.flags.writeable and id(array) not in owned:
        owned.add(id(array))
        return array
    return array.copy()

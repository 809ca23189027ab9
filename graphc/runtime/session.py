"""Sessions: they hold the values of variables, compile what is fetched, and run it.

Many threads may use one session. Runs that only read go side by side; runs that write take turns,
so that no update is lost.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from graphc import hints
from graphc.dtypes import Array
from graphc.errors import TRIMMED, DeviceError, FeedError, departs, trimmed
from graphc.graph import Graph, Tensor
from graphc.ops.source import PLACEHOLDER, Variable
from graphc.runtime import checkpoint
from graphc.runtime.check import Compared
from graphc.runtime.compilation import FetchSet
from graphc.runtime.device import Device
from graphc.runtime.feeds import convert, feed_items, feed_list
from graphc.runtime.fetches import Leaf, flatten, giver, graph_of, is_shallow, nesting_key, reached
from graphc.runtime.given import fed_apart
from graphc.runtime.opening import open_device
from graphc.runtime.prepared import Give, Prepared, prepared_call
from graphc.runtime.profile import Profile
from graphc.runtime.report import CompileReport
from graphc.runtime.sized import check_values, split, stand_ins
from graphc.runtime.state import State
from graphc.runtime.variables import fit

CHECKS = (None, "nan", "reference")
NOTHING: Mapping[Any, Any] = {}
_ENTERED: ContextVar[tuple[Session, ...]] = ContextVar("graphc.sessions", default=())
MOST_FETCH_SETS = 64  # the least recently used beyond these are dropped, with all they hold
MOST_SPELLINGS = 8  # of one fetch set: a, [a], {"a": a}


class Session:
    """Runs fetches on a device and keeps the values of variables between runs.

    `device`: "cpu" (native code), "opencl" (hardware with an OpenCL driver: the first device, or
    "opencl:1", "opencl:gpu", "opencl:NAME"), "reference" (NumPy, node by node: what a graph means,
    and the place for breakpoints) or "interp" (kernels, interpreted: slow, to check code
    generators), or an object with the methods of a `Device`. All give the same values, up to
    rounding. A device that is not there, or fails its self-test, is a DeviceError.
    `threads`: the most that a run on "cpu" uses, of the one pool that the process has; None takes
    as many as the CPUs and the control group allow this process. Results are the same, bit for bit.
    `seed` makes random numbers and random initial values reproducible; None draws a fresh seed.
    `check="nan"` runs step by step, and stops with a NumericsError at the first that makes a NaN of
    operands without any; `check="reference"` runs everything in NumPy too, and stops with one that
    names the first operation whose values differ by more than rounding can do. Both take long.
    Inside its `with` block, a session is what `tensor.eval()`, `function` and `jit` use.

    >>> v = Variable(1.0)
    >>> with Session() as s:
    ...     s.run(v * 2.0)
    array(2., dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        device: str | Device = "cpu",
        threads: int | None = None,
        seed: int | None = None,
        check: str | None = None,
    ) -> None:
        if check not in CHECKS:
            raise FeedError(f'Session: check must be None, "nan" or "reference", got {check!r}')
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise FeedError(f"Session: threads must be a positive int, got {threads!r}")
        own = hasattr(device, "compile")
        opened: Any = device if own else open_device(device, threads)  # type: ignore[arg-type]
        if check == "reference":
            opened, check = Compared(opened), None
        release = None if own else getattr(opened, "close", None)
        self._state = State(opened, check, seed, release)
        self._sets: OrderedDict[Any, tuple[FetchSet, Prepared]] = OrderedDict()
        self._calls: dict[Any, tuple[Callable[..., Any], Any]] = {}  # with the key of their set
        self._latest: Any = None  # the key of the set that was used last

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
        """Forget all values and programs; running anything afterwards is an error.

        Memory of a device that the session has opened is freed; arrays that it gave out stay.
        """
        with self._state.writing(), self._state.lock():
            self._sets.clear()
            self._calls.clear()
            self._latest = None
            self._state.close()

    @property
    def device(self) -> str:
        """The name of the device that runs."""
        return self._state.device.name

    # ------------------------------------------------------------------ running

    def run(self, fetches: Any, feed_dict: Mapping[Tensor, Any] | None = None) -> Any:
        """Compute `fetches` and return NumPy arrays in the same nesting (None for updates).

        `feed_dict` gives arrays for placeholders, or for any other tensor. Variables are read as
        they are when the run starts; all updates land together at its end.

        Raises FeedError for feeds that are missing or do not fit (all in one message), FetchError
        for what cannot be fetched.
        """
        try:
            feeds = NOTHING if feed_dict is None else feed_dict
            try:
                call, key = self._calls[nesting_key(fetches), *feeds]
                arrays = feeds.values()
            except (KeyError, TypeError, AttributeError):
                call = None  # new, or wrong
            if call is None:
                return self._run(fetches, feed_dict)
            if key is not self._latest:
                self._touch(key)
            return call(*arrays)
        except TRIMMED as error:
            if departs(error):
                raise error.with_traceback(None) from None
            raise

    @trimmed
    def prepare(self, fetches: Any, feeds: Sequence[Tensor] = ()) -> Callable[..., Any]:
        """A function of one array for each of `feeds`: the quickest way to run again and again.

        >>> x = placeholder("float32", ())
        >>> double = Session().prepare(x * 2.0, [x])
        >>> double(4.0)
        array(8., dtype=float32)
        """
        leaves, rebuild = flatten(fetches)
        return callable_of(self, leaves, feeds, giver(fetches, leaves, rebuild))

    @trimmed
    def profile(self, fetches: Any, feed_dict: Mapping[Tensor, Any] | None = None) -> Profile:
        """One run, timed step by step. Updates do not land.

        A step is a kernel (a node, on the reference device) or a host call: its seconds, the bytes
        of the arrays that it reads and writes, of a kernel about how many element operations, and
        your lines that it was made from. Prints as a table; `.rows` has the numbers.

        Raises DeviceError where the device times no steps.

        >>> x = placeholder("float32", [3])
        >>> print(Session().profile(x * 2.0, {x: [1, 2, 3]}))  # doctest: +ELLIPSIS
        1 step in ...
        """
        device = self._state.device
        if not device.notes:
            raise DeviceError(f"profile: the device {device.name!r} times no steps")
        items = feed_items(feed_dict)
        arrays = convert(items)
        prepared = self._prepared(flatten(fetches)[0], [t for t, _ in items])
        profile = Profile(device.name, device.limits())
        prepared.run(arrays, write=False, note=profile.note)
        return profile

    @trimmed
    def memory_plan(self, fetches: Any, sizes: Mapping[Any, Any] | None = None) -> Any:
        """The bytes that a run takes, beside its feeds and the values of variables.

        `sizes` gives numbers by the names of dimensions, or example feeds by their tensors; they
        may be mixed. Nothing is run. The parts, whose sum is `.total`: `.arena`, what is computed
        on the way; `.workspace`, scratch memory of kernels; `.outputs`, what is fetched and what
        updates write; `.host`, what host calls make.

        Raises FeedError where a size is open, DeviceError where the device plans no memory.

        >>> x = placeholder("float32", ["batch", 10])
        >>> Session("reference").memory_plan(x * 2.0, {"batch": 9})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        graphc.DeviceError: memory_plan: the device 'reference' plans no memory...
        """
        named, feeds = split({} if sizes is None else sizes)
        feed_items(feeds)
        stood_in = stand_ins(graph_of(fetches, list(feeds)), named)
        items = feed_items({**feeds, **stood_in})
        leaves, _ = flatten(fetches)
        prepared = self._prepared(leaves, [t for t, _ in items])
        check_values(prepared.fetch_set, stood_in)
        bound = prepared.planned(convert(items))
        memory = getattr(bound.compilation.program, "memory", None)
        if memory is None:
            raise DeviceError(f"memory_plan: the device {self.device!r} plans no memory")
        return memory(bound.sizes)

    def _run(self, fetches: Any, feed_dict: Any) -> Any:
        """A run of fetches that did not come before, or whose nesting has no cheap key."""
        leaves, rebuild = flatten(fetches)
        items = feed_items(feed_dict)
        arrays = convert(items)
        prepared = self._prepared(leaves, [t for t, _ in items])
        give = giver(fetches, leaves, rebuild)
        if is_shallow(fetches):
            feeds = list(feed_dict or ())
            spelling = (nesting_key(fetches), *feeds)
            self._remember(spelling, prepared, prepared_call(prepared, feeds, give))
        return give(prepared.run(arrays))

    def _remember(self, spelling: Any, prepared: Prepared, call: Callable[..., Any]) -> None:
        with self._state.lock():
            if self._sets.get(prepared.key, (None, None))[1] is not prepared:
                return  # dropped meanwhile
            while len(prepared.spellings) >= MOST_SPELLINGS:
                self._calls.pop(prepared.spellings.pop(0), None)
            prepared.spellings.append(spelling)
            self._calls[spelling] = call, prepared.key

    def _touch(self, key: Any) -> None:
        """Note that a fetch set is the one used last."""
        try:
            self._sets.move_to_end(key)
            self._latest = key
        except KeyError:
            pass  # another thread's new one has just taken its place

    def _prepared(self, leaves: Sequence[Leaf], feeds: Sequence[Tensor]) -> Prepared:
        """The compiled form of some fetches over some feeds, in the order of their making."""
        key = (tuple(leaves), tuple(feeds))
        with self._state.lock():
            self._state.open()
            if key not in self._sets:
                fetch_set, used = self._make_set(leaves, feeds)
                prepared = Prepared(fetch_set, feeds, used, self._state, key)
                self._sets[key] = fetch_set, prepared
                while len(self._sets) > MOST_FETCH_SETS:
                    _, (_, dropped) = self._sets.popitem(last=False)
                    self._state.values.forget()
                    for spelling in dropped.spellings:
                        self._calls.pop(spelling, None)
            self._touch(key)
            return self._sets[key][1]

    def _make_set(
        self, leaves: Sequence[Leaf], feeds: Sequence[Tensor]
    ) -> tuple[FetchSet, list[int]]:
        """A fetch set, and which of the feeds it reads."""
        graph = reached(leaves, feeds)
        read = set(graph.tensors()) | {v for v, _ in graph.updates}
        used = [i for i, t in enumerate(feeds) if t in read or _sizes_only(t)]
        graph = Graph(graph.outputs, graph.updates, tuple(feeds[i] for i in used))
        return self._state.fetch_set(fed_apart(graph)), used

    # ------------------------------------------------------------------ variables

    @trimmed
    def get(self, variable: Variable) -> Array:
        """The value of a variable now, as an array of your own."""
        if not isinstance(variable, Variable):
            raise FeedError(f"get: takes a Variable, got {type(variable).__name__}")
        state = self._state
        with state.lock():
            state.open()
            state.initialize([variable])
            return state.values[variable].copy()

    @trimmed
    def set(self, variable: Variable, value: Any) -> None:
        """Give a variable a value of its type (cast by same-kind rules)."""
        state = self._state
        with state.writing(), state.lock():
            state.open()
            met = variable not in state.values
            state.values.set(variable, value)
            state.restored.pass_over([variable] if met else [])

    @trimmed
    def initialize(self, variables: Sequence[Variable] | None = None) -> None:
        """Put variables back to initial values (random ones are drawn anew).

        None takes every variable that this session holds. First use does this by itself.
        """
        state = self._state
        with state.writing(), state.lock():
            state.open()
            state.reinitialize(self._chosen("initialize", variables))

    def _chosen(self, what: str, variables: Any) -> list[Variable]:
        """The variables that an argument names; None: all that this session holds."""
        if variables is None:
            return self._state.values.known()
        listed: list[Any] = [variables] if isinstance(variables, Tensor) else list(variables)
        for variable in listed:
            if not isinstance(variable, Variable):
                raise FeedError(f"{what}: takes Variables, got {type(variable).__name__}")
        return list(dict.fromkeys(listed))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Session is not copied or pickled; save(path) keeps its variables")

    # ------------------------------------------------------------------ saving

    @trimmed
    def save(
        self, path: str | os.PathLike[str], variables: Sequence[Variable] | None = None
    ) -> None:
        """Write variables (None: all that this session holds) to one zip of .npy files.

        The file is complete or the old one stays; it holds no code, and NumPy alone can read it.
        """
        state = self._state
        with state.writing(), state.lock():
            state.open()
            chosen = self._chosen("save", variables)
            state.initialize(chosen)
            names = checkpoint.unique_names(chosen)
            arrays = {names[v]: state.values[v] for v in names}
            arrays |= {k: a for k, a in state.restored.arrays.items() if k not in arrays}
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
        state = self._state
        with state.writing(), state.lock():
            state.open()
            chosen = self._chosen("restore", variables)
            names = checkpoint.unique_names(chosen)
            if strict and chosen:
                differ = checkpoint.mismatch(list(names.values()), list(arrays))
                if differ:
                    raise FeedError(f"restore: names must match those in {path}\n{differ}")
            written = {v: arrays[name] for v, name in names.items() if name in arrays}
            for variable, array in written.items():
                fit(variable, array)
            state.values.write(written)
            met = set(names.values())
            left = {name: array for name, array in arrays.items() if name not in met}
            taken = met | {variable.name for variable in state.values}
            state.restored = checkpoint.Restored(left, strict, taken)

    # ------------------------------------------------------------------ seeing

    def compile_report(self) -> CompileReport:
        """What was compiled and why: nodes, kernels, seconds in each pass, sizes taken for granted.

        Prints as a table; `.rows` has the numbers of the newest compilations, `.count` counts all.
        """
        return self._state.report


def callable_of(
    session: Session, leaves: Sequence[Leaf], feeds: Any, give: Give
) -> Callable[..., Any]:
    """A function of one array for each of `feeds`; `give` makes its result of the leaves' values.

    It trims errors itself.
    """
    tensors = feed_list(feeds)
    prepared = session._prepared(leaves, sorted(tensors, key=_serial))
    return prepared_call(prepared, tensors, give)


def entered() -> Session | None:
    """The session of the innermost open `with` block of this thread."""
    return next((s for s in reversed(_ENTERED.get()) if not s._state.closed), None)


def _serial(tensor: Tensor) -> tuple[int, int]:
    return tensor.node.serial, tensor.index


def _sizes_only(tensor: Tensor) -> bool:
    """Whether a fed tensor may be needed for its sizes or its value as a size."""
    return tensor.node.op is PLACEHOLDER

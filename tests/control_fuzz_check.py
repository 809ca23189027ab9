"""Runs programs of `control_fuzz` in all the ways that must agree, and shrinks what does not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

import graphc as g
from tests.control_fuzz import INPUTS, LOOP_PASSES, Program, Statement, Written, reads, words
from tests.control_plain import Plain, Unrolled
from tests.control_support import derivatives

Array: TypeAlias = "np.ndarray[Any, Any]"
LIMIT = 10_000.0  # larger values make rounding, not mistakes
WAYS: tuple[tuple[str, int | None, str], ...] = (
    ("reference", None, ""), ("interp", None, ""), ("cpu", 2, ""), ("cpu", 1, ""),
    *(("reference", None, name) for name in LOOP_PASSES),
    ("interp", None, "fuse"),
    ("cpu", 2, "fuse"),
    ("cpu", 2, "hoist,sink_rows"),
    ("cpu", 2, "accumulate,stash"),
    ("cpu", 2, "segment_loops,merge_loops,sink_branches"),
)  # fmt: skip


def ways_of(seed: int, native: bool = True) -> list[tuple[str, int | None, str]]:
    """Which of the ways a program goes: all plain ones, and some others by turns."""
    rng = np.random.default_rng(seed)
    if not native:
        return [WAYS[0], WAYS[1], WAYS[4 + int(rng.integers(len(LOOP_PASSES)))]]
    others = [WAYS[3 + int(k)] for k in rng.choice(len(WAYS) - 3, 4, replace=False)]
    return [*WAYS[:3], *others]


def feeds_of(program: Program, sizes: dict[str, int]) -> dict[str, Array]:
    """What is fed, of some sizes."""
    found: dict[str, Array] = {}
    for number, (name, (kind, shape)) in enumerate(INPUTS.items()):
        rng = np.random.default_rng([program.seed, number])
        actual = tuple(sizes[d] if d in sizes else int(d) for d in shape)
        if name == "k":
            found[name] = np.asarray(sizes["k"])
        elif kind == "i":
            found[name] = np.asarray(rng.integers(0, 5, actual))
        else:
            found[name] = np.asarray(rng.uniform(-1.5, 1.5, actual))
    return {name: found[name] for name in program.used()}


@contextmanager
def skipping(names: str) -> Iterator[None]:
    """Passes left out."""
    before = os.environ.get("GRAPHC_SKIP")
    os.environ["GRAPHC_SKIP"] = names
    try:
        yield
    finally:
        os.environ.pop("GRAPHC_SKIP")
        if before is not None:
            os.environ["GRAPHC_SKIP"] = before


class Built:
    """A program as graphc's graph: with loops, or unrolled."""

    def __init__(self, program: Program, module: Any, feeds: dict[str, Array] | None) -> None:
        self.inputs = {}
        for name, (kind, shape) in INPUTS.items():
            if name not in program.used():
                continue
            declared: Any = [int(d) if d.isdigit() else None for d in shape]
            if feeds is not None:
                declared = feeds[name].shape
            elif program.spelling == "rankless":
                declared = None
            dtype = "float64" if kind == "f" else "int64"
            self.inputs[name] = g.placeholder(dtype, declared, name=name)
        self.variable = g.Variable(np.float64(0.25), name="v")
        self.values, self.updates = function(program)(module, self.variable, *self.inputs.values())
        self.fetches = list(self.values)
        xs = [x for x in self.inputs.values() if x.dtype.is_float]
        ys = [y for y in self.values if y.dtype.is_float]
        if xs and ys and program.order:
            first, second = derivatives(ys, xs)
            self.fetches += first + (second if program.order == 2 else [])

    def run(self, session: g.Session, feeds: dict[str, Array], updates: bool) -> list[Array]:
        """The values of all fetches; the variable, too."""
        session.set(self.variable, np.float64(0.25))
        fed = {self.inputs[name]: array for name, array in feeds.items()}
        got = session.run([*self.fetches, *(self.updates if updates else [])], fed)
        found = [np.asarray(array) for array in got[: len(self.fetches)]]
        return [*found, np.asarray(session.run(self.variable))]


def function(program: Program) -> Callable[..., Any]:
    """The program as a Python function, with its text where tracebacks look for it."""
    scope: dict[str, Any] = {}
    exec(compile(program.source(), "<program>", "exec"), scope)
    made: Callable[..., Any] = scope["program"]
    return made


def wanted_of(program: Program, feeds: dict[str, Array]) -> list[Array] | None:
    """What NumPy and the unrolled graph give; None where it is an error."""
    notes: list[Any] = []
    try:
        with np.errstate(all="ignore"):
            values, _ = function(program)(Plain(notes), None, *feeds.values())
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    unrolled = Built(program, Unrolled(notes), feeds)
    with g.Session("reference", seed=3) as session:
        found = unrolled.run(session, feeds, False)[:-1]
    for k, value in enumerate(values):
        alike(found[k], np.asarray(value), f"unrolled value {k}")
    return found


def alike(got: Array, want: Array, what: str) -> None:
    """Equal up to rounding."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape), (
        f"{what}: {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
    )
    finite = np.abs(want[np.isfinite(want)].astype(np.float64)).max(initial=0.0)
    bound = 1e-8 * (1.0 + finite)
    np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=what)


def check(program: Program, ways: Sequence[tuple[str, int | None, str]]) -> None:
    """Raise where two ways to run a program differ."""
    # Random numbers, gradients inside and variables are graphc's alone: a device is the measure.
    listed: list[tuple[dict[str, Array], Any, dict[str, int]]] = []
    for sizes in map(dict, program.sizes):
        feeds = feeds_of(program, sizes)
        if program.plain:
            wanted = wanted_of(program, feeds)
            if wanted is not None:
                listed.append((feeds, wanted, sizes))
        else:
            listed.append((feeds, None, sizes))
    if not listed:
        return
    static = program.spelling == "static"
    if static:
        listed = listed[:1]
    try:
        built = Built(program, g, listed[0][0] if static else None)
    except g.ShapeError as error:
        if static or "a size inside of a loop must not depend" in str(error):
            return  # it is no program: sizes of 0, or a rank that only a run would tell
        raise
    known: dict[tuple[int, bool], Any] = {}
    for device, threads, skip in ways:
        number = threads if device == "cpu" else None
        with skipping(skip), g.Session(device, threads=number, seed=5) as session:
            for place, (feeds, wanted, sizes) in enumerate(listed):
                for updates in (False, True) if built.updates else (False,):
                    what = f"{device}, {threads}, without {skip!r}, at {sizes}, {updates=}"
                    got = attempt(built, session, feeds, updates, wanted is None, what)
                    want = known.setdefault((place, updates), got) if wanted is None else wanted
                    compare(got, want, what, len(built.values))


def attempt(
    built: Built, session: Any, feeds: Any, updates: bool, may_fail: bool, what: str
) -> list[Array] | str:
    """What a run gives; the kind of its error, where one is allowed."""
    try:
        return built.run(session, feeds, updates)
    except g.GraphcError as error:
        if may_fail and isinstance(error, g.ShapeError):
            return "ShapeError"
        error.args = (f"{what}: {error}",)
        raise


def compare(got: Any, want: Any, what: str, count: int) -> None:
    """Hold all fetches against what they must be."""
    if isinstance(got, str) or isinstance(want, str):
        assert isinstance(got, str) and isinstance(want, str), f"{what}: {got} and {want}"
        return
    for k, (a, b) in enumerate(zip(got, want, strict=False)):
        if np.abs(b[np.isfinite(b)].astype(np.float64)).max(initial=0.0) < LIMIT:
            alike(a, b, f"{what}: {'value' if k < count else 'gradient'} {k}")


def fails(program: Program, ways: Sequence[tuple[str, int | None, str]]) -> str | None:
    """What is wrong with a program; None if nothing."""
    try:
        check(program, ways)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


# ---------------------------------------------------------------------------- shrinking


def shrink(program: Program, failing: Callable[[Program], Any]) -> Program:
    """Take away what the failure does not need, until nothing more goes."""
    changed = True
    while changed:
        changed = False
        for smaller in candidates(program):
            if failing(smaller):
                program, changed = smaller, True
                break
    return program


def candidates(program: Program) -> Iterator[Program]:
    """Programs with something less; those that read what there is not are no programs."""
    if len(program.sizes) > 1:
        for each in program.sizes:
            yield replace(program, sizes=(each,))
    for order in range(program.order):
        yield replace(program, order=order)
    if len(program.fetches) > 1:
        for name in program.fetches:
            yield replace(program, fetches=(name,))
    if len(program.fetches) > 1:
        for name in program.fetches:
            yield replace(program, fetches=tuple(f for f in program.fetches if f != name))
    inputs = {name: shape for name, (_, shape) in INPUTS.items()}
    for statements in _fewer(program.statements, [*inputs], {*program.fetches}):
        yield replace(program, statements=statements)
    for k, sizes in enumerate(program.sizes):
        for name, size in sizes:
            for other in range(size):
                less = tuple((n, other if n == name else s) for n, s in sizes)
                if dict(less)["k"] <= dict(less)["t"]:
                    yield replace(
                        program, sizes=(*program.sizes[:k], less, *program.sizes[k + 1 :])
                    )


def _fewer(
    statements: tuple[Statement, ...], scope: list[str], kept: set[str]
) -> Iterator[tuple[Statement, ...]]:
    """Statements without one, or with another in place of one."""
    for place in reversed(range(len(statements))):
        statement = statements[place]
        before, after = statements[:place], statements[place + 1 :]
        names = {value.name for value in statement.results}
        read = {n for text in reads(after) for n in text} | kept
        if not names & read:
            yield (*before, *after)
            if not statement.blocks:
                continue
        if not statement.blocks:
            if statement.text == "{0} * 1" and not names & kept:
                yield (*before, *_renamed(after, statement.results[0].name, statement.operands[0]))
            for other in statement.operands:
                if statement.text != "{0} * 1":
                    yield (*before, replace(statement, text="{0} * 1", operands=(other,)), *after)
            continue
        for smaller in _simpler(statement, [*scope], read):
            yield (*before, smaller, *after)


def _renamed(statements: Sequence[Statement], old: str, new: str) -> tuple[Statement, ...]:
    """Statements that read another value in place of one."""

    def text(given: str) -> str:
        return re.sub(rf"\b{old}\b", new, given)

    return tuple(
        replace(
            statement,
            operands=tuple(map(text, statement.operands)),
            blocks=tuple(
                replace(
                    block,
                    statements=_renamed(block.statements, old, new),
                    returns=tuple(map(text, block.returns)),
                    until=text(block.until),
                    writes=text(block.writes),
                )
                for block in statement.blocks
            ),
        )
        for statement in statements
    )


def _simpler(statement: Statement, scope: list[str], read: set[str]) -> Iterator[Statement]:
    """A loop or a branch with less in it."""
    for option in (", go_backwards=True", ", checkpoint='sqrt'", ", checkpoint=2"):
        if option in statement.text:
            yield replace(statement, text=statement.text.replace(option, ""))
    for place, value in enumerate(statement.results):
        if value.name not in read and ", None" in statement.text and place >= states_of(statement):
            block = statement.blocks[0]
            if place < len(block.returns):
                returns = block.returns[:place] + block.returns[place + 1 :]
                yield replace(
                    statement,
                    text=statement.text[::-1].replace("enoN ,", "", 1)[::-1],
                    results=statement.results[:place] + statement.results[place + 1 :],
                    blocks=(replace(block, returns=returns),),
                )
    for k, block in enumerate(statement.blocks):
        blocks = [*statement.blocks]
        if block.until:
            blocks[k] = replace(block, until="")
            yield replace(statement, blocks=tuple(blocks))
        kept = {*block.returns, *words(block.until), *words(block.writes)}
        for inner in _fewer(block.statements, scope, kept):
            blocks[k] = replace(block, statements=inner)
            yield replace(statement, blocks=tuple(blocks))
        for place, name in enumerate(block.returns):
            for parameter in block.parameters:
                if name not in {p.name for p in block.parameters}:
                    returns = (*block.returns[:place], parameter.name, *block.returns[place + 1 :])
                    blocks[k] = replace(block, returns=returns)
                    yield replace(statement, blocks=tuple(blocks))


def states_of(statement: Statement) -> int:
    """How many outputs of a scan are states."""
    return len(statement.blocks[0].returns) - statement.text.count("None")


def again(text: str, order: int, spelling: str, sizes: Any, seed: int, ways: Any = WAYS) -> None:
    """Check a program that was printed."""
    check(Written(seed, (), (), order, spelling, sizes, text), ways)


def kind_of(failure: str | None) -> str | None:
    """What smaller programs must fail with: an error of the kind, at its beginning."""
    if failure is None:
        return None
    return failure[:30] if not failure.startswith("AssertionError") else "AssertionError"


def smallest(program: Program, ways: Sequence[tuple[str, int | None, str]]) -> str:
    """A failing program, shrunk, as text, with the ways that fail."""
    kind = kind_of(fails(program, ways))
    bad = next(([way] for way in ways if kind_of(fails(program, [way])) == kind), [*ways])
    small = shrink(program, lambda smaller: kind_of(fails(smaller, bad)) == kind)
    return f"# {bad}: {fails(small, bad)}\n{small.whole()}"

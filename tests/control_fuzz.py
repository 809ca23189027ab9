"""Random programs of loops and branches: what they compute must be what Python's own loops do.

A `Program` is a tree of statements: pointwise ops, products, reductions, gathers, random numbers,
and scans, whiles and ifelses with blocks of their own. Its text runs three ways: with NumPy, where
each loop is Python's; with graphc, unrolled as that run went; and with graphc's loops, on several
devices and with passes left out. Values and first and second gradients must agree, at several
sizes. What fails is shrunk, and printed as a program of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INPUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "s": ("f", ()), "a": ("f", ("n",)), "b": ("f", ("m",)), "w": ("f", ("n", "n")),
    "u": ("f", ("n", "m")), "p": ("f", ("t", "n")), "r": ("f", ("t", "m")),
    "z": ("f", ("t", "n", "m")), "q": ("f", ("t",)), "c": ("f", ("3", "n")), "d": ("f", ("3",)),
    "i": ("i", ()), "k": ("i", ()), "j": ("i", ("t",)),
}  # fmt: skip
LOOP_PASSES = (
    "prune_loops", "hoist", "sink_rows", "segment_loops", "stash", "accumulate",
    "scatter_updates", "merge_loops", "sink_branches", "merge_common", "fold_constants",
    "simplify_algebra", "stabilise", "schedule", "remove_dead", "fuse",
)  # fmt: skip
CHOICES = (0, 1, 2, 3, 7)


@dataclass(frozen=True)
class Value:
    """A name, "f", "i" or "b" for its dtype, and its sizes, of which equal texts are equal."""

    name: str
    kind: str
    shape: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """The function of a loop or of a side: parameters, statements, what it returns."""

    parameters: tuple[Value, ...]
    statements: tuple[Statement, ...]
    returns: tuple[str, ...]
    until: str = ""  # an expression
    writes: str = ""  # an update


@dataclass(frozen=True)
class Statement:
    """`results = text`, where {0} is the first operand, and {f0} the function of a block."""

    text: str
    operands: tuple[str, ...]
    results: tuple[Value, ...]
    blocks: tuple[Block, ...] = ()
    updates: bool = False  # whether its last result is an update


@dataclass(frozen=True)
class Program:
    """Statements; what is fetched; how often it is differentiated; how inputs are declared."""

    seed: int
    statements: tuple[Statement, ...]
    fetches: tuple[str, ...]
    order: int = 2
    spelling: str = "symbolic"
    sizes: tuple[tuple[tuple[str, int], ...], ...] = ()

    def used(self) -> list[str]:
        """The inputs that it reads."""
        read = {name for text in reads(self.statements) for name in text} | {*self.fetches}
        return [name for name in INPUTS if name in read]

    def source(self) -> str:
        """The function, as Python."""
        lines = [f"def program(g, v, {', '.join(self.used())}):"]
        for statement in self.statements:
            lines += _lines(statement, 1)
        updates = [s.results[-1].name for s in self.statements if s.updates]
        lines.append(f"    return [{', '.join(self.fetches)}], [{', '.join(updates)}]")
        return "\n".join(lines) + "\n"

    def whole(self) -> str:
        """What runs it, as Python."""
        return (
            "from tests.control_fuzz_check import again\n\n"
            f'text = """\\\n{self.source()}"""\n'
            f"again(text, {self.order}, {self.spelling!r}, {self.sizes}, {self.seed})\n"
        )

    @property
    def plain(self) -> bool:
        """Whether NumPy can run it."""
        return not any(word in self.source() for word in ("g.random", "g.gradients", "g.assign"))


@dataclass(frozen=True)
class Written(Program):
    """A program of which there is only the text."""

    text: str = ""

    def used(self) -> list[str]:
        named = words(self.text[: self.text.index(")")])
        return [name for name in INPUTS if name in named]

    def source(self) -> str:
        return self.text


def reads(statements: Sequence[Statement]) -> Iterator[tuple[str, ...]]:
    for statement in statements:
        yield statement.operands
        for block in statement.blocks:
            yield from reads(block.statements)
            yield block.returns
            yield tuple(words(block.until) + words(block.writes))


def words(text: str) -> list[str]:
    spaced = "".join(c if c.isalnum() or c == "_" else " " for c in text)
    return spaced.split()


def _lines(statement: Statement, depth: int) -> list[str]:
    """A statement, its functions above it."""
    indent, lines = "    " * depth, []
    names = [f"f_{statement.results[0].name}_{k}" for k in range(len(statement.blocks))]
    for name, block in zip(names, statement.blocks, strict=True):
        lines.append(f"{indent}def {name}({', '.join(p.name for p in block.parameters)}):")
        for inner in block.statements:
            lines += _lines(inner, depth + 1)
        parts = [f"[{', '.join([*block.returns, *filter(None, [block.writes])])}]"]
        parts += [f"g.until({block.until})"] if block.until else []
        lines.append(f"{indent}    return {', '.join(parts)}")
    text = statement.text
    for k, name in enumerate(names):
        text = text.replace(f"{{f{k}}}", name)
    for k, operand in enumerate(statement.operands):
        text = text.replace(f"{{{k}}}", operand)
    targets = ", ".join(value.name for value in statement.results)
    several = f"[{targets}]" if statement.blocks else targets
    return [*lines, f"{indent}{several} = {text}"]


# ---------------------------------------------------------------------------- growing

UNARY = (
    "g.tanh({0})", "g.sin({0})", "-{0}", "g.abs({0})", "g.maximum({0}, 0.0)",
    "g.exp(-g.square({0}))", "g.sqrt(g.abs({0}) + 0.1)", "{0} * 0.5 + 0.1", "g.square(g.sin({0}))",
    "g.log1p(g.square({0}))", "1.0 / (g.square({0}) + 1.0)",
)  # fmt: skip
BINARY = (
    "{0} + {1}", "{0} - {1}", "g.tanh({0}) * g.sin({1})", "g.maximum({0}, {1})",
    "g.where({0} > {1}, {0} * 0.5, {1})", "g.tanh({0} * {1})", "{0} / (g.abs({1}) + 1.0)",
)  # fmt: skip
WHOLE = ("({0} * 3 + 1) % 7", "({0} + {1}) % 5", "g.maximum({0}, {1}) - 1", "{0} + 1")


class Grower:
    """What grows a program: a generator, and a count for names."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0
        self.draws = bool(self.rng.random() < 0.15)  # random numbers
        self.slopes = bool(self.rng.random() < 0.1)  # gradients inside
        self.writes = bool(self.rng.random() < 0.1)  # variables written in scans

    def name(self) -> str:
        """A fresh one."""
        self.count += 1
        return f"x{self.count}"

    def chance(self, probability: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < probability)

    def pick(self, values: Sequence[Any]) -> Any:
        """One of them."""
        return values[int(self.rng.integers(len(values)))]

    def recent(self, values: Sequence[Value]) -> Value:
        """One, late ones more often."""
        if len(values) > 4 and self.chance(0.6):
            values = values[-4:]
        return self.pick(values)

    def of(self, scope: Sequence[Value], kind: str, least: int = 0, most: int = 9) -> list[Value]:
        """The values of a dtype, of so many axes."""
        return [v for v in scope if v.kind == kind and least <= len(v.shape) <= most]

    def emit(
        self, out: list[Statement], scope: list[Value], text: str, operands: Sequence[Value],
        kind: str, shape: tuple[str, ...],
    ) -> Value:  # fmt: skip
        """A statement more."""
        value = Value(self.name(), kind, shape)
        out.append(Statement(text, tuple(v.name for v in operands), (value,)))
        scope.append(value)
        return value

    def statements(self, scope: list[Value], count: int, depth: int) -> list[Statement]:
        """So many, over a scope that they add to."""
        out: list[Statement] = []
        for _ in range(count):
            roll = self.rng.random()
            if roll < (0.3, 0.22, 0.12, 0.0)[depth]:
                self.pick([self.scan, self.scan, self.loop, self.branch])(out, scope, depth)
            else:
                self.pick(
                    [self.pointwise, self.pointwise, self.combined, self.combined, self.reduced,
                     self.product, self.product, self.shaped, self.gathered, self.whole, self.rare]
                )(out, scope)  # fmt: skip
        return out

    # -- ops

    def pointwise(self, out: list[Statement], scope: list[Value]) -> None:
        x = self.recent(self.of(scope, "f"))
        self.emit(out, scope, self.pick(UNARY), [x], "f", x.shape)

    def combined(self, out: list[Statement], scope: list[Value]) -> None:
        x = self.recent(self.of(scope, "f"))
        fitting = [
            y for y in self.of(scope, "f", 0, len(x.shape))
            if y.shape == x.shape[len(x.shape) - len(y.shape) :]
        ]  # fmt: skip
        y = self.recent(fitting)
        pair = [x, y] if self.chance(0.5) else [y, x]
        self.emit(out, scope, self.pick(BINARY), pair, "f", x.shape)

    def reduced(self, out: list[Statement], scope: list[Value]) -> None:
        found = self.of(scope, "f", 1)
        if not found:
            return self.pointwise(out, scope)
        x = self.recent(found)
        axis = int(self.rng.integers(len(x.shape)))
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        if self.chance(0.2):
            self.emit(out, scope, f"g.cumsum({{0}} * 0.3, {axis})", [x], "f", x.shape)
        elif self.chance(0.08):
            self.emit(out, scope, f"g.max({{0}}, {axis})", [x], "f", shape)
        elif self.chance(0.3):
            self.emit(out, scope, "g.sum(g.sin({0}))", [x], "f", ())
        else:
            self.emit(out, scope, f"g.sum({{0}}, {axis}) * 0.3", [x], "f", shape)

    def product(self, out: list[Statement], scope: list[Value]) -> None:
        pairs = [
            (x, y) for x in self.of(scope, "f", 1, 2) for y in self.of(scope, "f", 1, 2)
            if x.shape[-1] == y.shape[max(0, len(y.shape) - 2)]
        ]  # fmt: skip
        if not pairs:
            return self.combined(out, scope)
        x, y = self.pick(pairs if len(pairs) < 4 or self.chance(0.5) else pairs[-6:])
        shape = x.shape[:-1] + (y.shape[1:] if len(y.shape) == 2 else ())
        self.emit(out, scope, "({0} @ {1}) * 0.4", [x, y], "f", shape)

    def shaped(self, out: list[Statement], scope: list[Value]) -> None:
        found = self.of(scope, "f", 1)
        if not found:
            return self.pointwise(out, scope)
        x = self.recent(found)
        roll = self.rng.random()
        if roll < 0.3:
            self.emit(out, scope, "g.flip({0}, 0)", [x], "f", x.shape)
        elif roll < 0.5 and len(x.shape) == 2:
            self.emit(out, scope, "g.transpose({0})", [x], "f", x.shape[::-1])
        elif roll < 0.7 and len(x.shape) < 3:
            other = self.pick([y for y in self.of(scope, "f") if y.shape == x.shape])
            self.emit(out, scope, "g.stack([{0}, {1}])", [x, other], "f", ("2", *x.shape))
        elif roll < 0.85:
            other = self.pick([y for y in self.of(scope, "f", 1) if y.shape[1:] == x.shape[1:]])
            size = f"({x.shape[0]}+{other.shape[0]})"
            text = "g.concatenate([{0}, {1}])"
            self.emit(out, scope, text, [x, other], "f", (size, *x.shape[1:]))
        else:
            self.emit(out, scope, "g.sort({0}, 0)", [x], "f", x.shape)

    def gathered(self, out: list[Statement], scope: list[Value]) -> None:
        found = self.of(scope, "f", 1)
        index = self.recent(self.of(scope, "i", 0, 0))
        fixed = [x for x in found if x.shape[0] in ("2", "3")]
        if fixed:
            x = self.recent(fixed)
            rows = x.shape[0]
            text = self.pick([f"{{0}}[{{1}} % {rows}]", f"g.take({{0}}, {{1}} % {rows}, axis=0)"])
            self.emit(out, scope, text, [x, index], "f", x.shape[1:])
        elif found and self.chance(0.3):
            x = self.recent(found)
            text = "g.take({0}, g.abs({1}) % g.shape({0})[0], axis=0)"
            self.emit(out, scope, text, [x, index], "f", x.shape[1:])

    def whole(self, out: list[Statement], scope: list[Value]) -> None:
        x, y = (self.recent(self.of(scope, "i", 0, 0)) for _ in range(2))
        if self.chance(0.4):
            self.emit(out, scope, "g.cast({0}, 'float64') * 0.1", [x], "f", ())
        elif self.chance(0.3):
            x = self.recent(self.of(scope, "f"))
            self.emit(out, scope, "g.sum(g.cast({0} > 0.1, 'int64'))", [x], "i", ())
        else:
            self.emit(out, scope, self.pick(WHOLE), [x, y], "i", ())

    def rare(self, out: list[Statement], scope: list[Value]) -> None:
        x = self.recent(self.of(scope, "f"))
        if self.draws and self.chance(0.7):
            seed = f", seed={int(self.rng.integers(9))}" if self.chance(0.5) else ""
            text = f"{{0}} + g.random.uniform(g.shape({{0}}), dtype='float64'{seed})"
            self.emit(out, scope, text, [x], "f", x.shape)
        elif self.slopes:
            text = "g.gradients(g.sum(g.sin({0} * {0} + {1})), [{0}], unconnected='zero')[0]"
            y = self.pick(self.of(scope, "f", 0, 0))
            self.emit(out, scope, text, [x, y], "f", x.shape)
        else:
            self.combined(out, scope)

    # -- control

    def state(self, out: list[Statement], scope: list[Value], before: Value) -> str:
        """What follows a state: of its type, and tame."""
        if before.kind == "i":
            other = self.recent(self.of(scope, "i", 0, 0))
            return self.emit(out, scope, "({0} + {1} + 1) % 7", [before, other], "i", ()).name
        if before.kind == "b":
            other = self.recent(self.of(scope, "f", 0, 0))
            return self.emit(out, scope, "{0} > 0.2", [other], "b", ()).name
        if self.chance(0.04):
            return before.name
        alike = [v for v in self.of(scope, "f") if v.shape == before.shape]
        x = self.recent(alike)
        if len(alike) > 1 and x is before:
            x = alike[-1]
        y = self.recent(self.of(scope, "f", 0, len(before.shape)))
        fits = y.shape == before.shape[len(before.shape) - len(y.shape) :]
        second = "{1}" if fits else "g.sum({1}) * 0.2"
        text = self.pick(
            [f"g.tanh({{0}} + {second})", f"g.sin({{0}} * 0.9 - {second})", "g.tanh({0})",
             f"{{0}} * 0.5 + g.tanh({second}) * 0.3", "{0} * 0.9"]
        )  # fmt: skip
        return self.emit(out, scope, text, [x, y], "f", before.shape).name

    def scan(self, out: list[Statement], scope: list[Value], depth: int) -> None:
        """Sequences with taps, states with taps, outputs, ends."""
        rng = self.rng
        operands: list[Value] = []

        def operand(value: Value) -> str:
            operands.append(value)
            return f"{{{len(operands) - 1}}}"

        parameters: list[Value] = []
        sequences, length = self.sequences(scope, operand, parameters)
        steps = ""
        if not sequences or (length == "t" and self.chance(0.15)):
            kept = [v for v in scope if v.name == "k"]
            number = operand(kept[0]) if kept and (sequences or self.chance(0.5)) else ""
            length = "k" if number else str(self.pick([0, 1, 2, 3, 3]))
            steps = f", n_steps={number or length}"
        outputs, before = [], []
        for _ in range(int(rng.integers(0, 4))):
            text, read, state = self.initial(scope, operand)
            outputs.append(text)
            before.append(state)
            parameters += read
        rows = int(rng.integers(0 if outputs else 1, 3))
        inner = [*scope, *parameters]
        body = self.statements(inner, int(rng.integers(1, 6)), depth + 1)
        returns = [self.state(body, inner, state) for state in before]
        types = list(before)
        for _ in range(rows):
            row = self.recent(self.of(inner, "f", 0, 2) + self.of(inner, "i", 0, 0)[:1])
            returns.append(row.name)
            types.append(row)
            outputs.append("None")
        until = ""
        if depth == 0 and self.chance(0.25):  # no size depends on what a loop computes
            x = self.recent(self.of(inner, "f"))
            until = f"g.sum({x.name}) > {rng.uniform(-0.5, 1.0):.2f}"
            length = f"{self.name()}"
        results = [Value(self.name(), v.kind, (length, *v.shape)) for v in types]
        writes = ""
        if self.writes and self.chance(0.5):
            x = self.recent(self.of(inner, "f"))
            writes = f"g.assign(v, g.tanh(v + g.sum({x.name})))"
            results.append(Value(self.name(), "u", ()))
            self.writes = False
        back = ", go_backwards=True" if self.chance(0.25) else ""
        check = self.pick(["", "", "", ", checkpoint='sqrt'", ", checkpoint=2"])
        listed = f"[{', '.join(outputs)}]"
        text = f"g.scan({{f0}}, [{', '.join(sequences)}], {listed}{steps}{back}{check})"
        block = Block(tuple(parameters), tuple(body), tuple(returns), until, writes)
        names = tuple(v.name for v in operands)
        out.append(Statement(text, names, tuple(results), (block,), bool(writes)))
        stacks = [v for v in results if v.kind != "u"]
        scope += stacks
        for value in stacks[: len(before)]:
            if self.chance(0.4):
                last = "{0}[-1]" if length in "123" else "g.sum({0}[-1:], 0)"
                self.emit(out, scope, last, [value], value.kind, value.shape[1:])

    def sequences(
        self, scope: list[Value], operand: Callable[[Value], str], parameters: list[Value]
    ) -> tuple[list[str], str]:
        """What is walked over, and how many steps that gives."""
        ranked = [v for v in scope if v.shape and v.kind in "fi" and len(v.shape) < 4]
        if not ranked or self.chance(0.15):
            return [], ""
        first = self.recent(ranked)
        sequences, spans = [], []
        for _ in range(int(self.rng.integers(1, 4))):
            value = self.pick([v for v in ranked if v.shape[0] == first.shape[0]])
            first = first if sequences else value
            taps = self.pick([[0], [0], [0], [-1, 0], [0, 2], [-2], [1]])
            spans.append(max(0, *taps) - min(0, *taps))
            text = operand(value)
            sequences.append(text if taps == [0] else f"{{'input': {text}, 'taps': {taps}}}")
            parameters += [Value(self.name(), value.kind, value.shape[1:]) for _ in taps]
        span = max(spans)
        return sequences, f"max(0,{first.shape[0]}-{span})" if span else first.shape[0]

    def initial(
        self, scope: list[Value], operand: Callable[[Value], str]
    ) -> tuple[str, list[Value], Value]:
        """How a state is declared, what the function gets of it, and a value of its type."""
        three = [v for v in self.of(scope, "f", 1, 3) if v.shape[0] == "3"]
        if three and self.chance(0.2):
            value, taps = self.pick(three), self.pick([[-1, -3], [-3], [-2, -1]])
            deep = "" if -min(taps) == 3 else "[1:]"
            read = [Value(self.name(), "f", value.shape[1:]) for _ in taps]
            return f"{{'initial': {operand(value)}{deep}, 'taps': {taps}}}", read, read[0]
        kind = "i" if self.chance(0.2) else "f"
        value = self.recent(self.of(scope, kind, 0, 0 if kind == "i" else 2))
        state = Value(self.name(), kind, value.shape)
        if self.chance(0.1) and kind == "f":
            return f"g.zeros_like({operand(value)})", [state], state
        return operand(value), [state], state

    def loop(self, out: list[Statement], scope: list[Value], depth: int) -> None:
        """A while: a counter or what is computed ends it."""
        counter = Value(self.name(), "i", ())
        started = [
            self.recent(self.of(scope, "f", 0, 2)) for _ in range(int(self.rng.integers(1, 4)))
        ]
        parameters = [counter, *(Value(self.name(), "f", v.shape) for v in started)]
        inner = [*scope, *parameters]
        body = self.statements(inner, int(self.rng.integers(1, 5)), depth + 1)
        returns = [self.emit(body, inner, "{0} + 1", [counter], "i", ()).name]
        returns += [self.state(body, inner, state) for state in parameters[1:]]
        heads = [Value(self.name(), v.kind, v.shape) for v in parameters]
        test = f"{heads[0].name} < {self.pick([0, 1, 2, 4, 4])}"
        if self.chance(0.4):
            test = f"g.logical_and({test}, g.sum({heads[-1].name}) < {self.rng.uniform(0, 3):.2f})"
        condition = Value(self.name(), "b", ())
        head = Block(tuple(heads), (Statement(test, (), (condition,)),), (condition.name,))
        most = f", max_steps={self.pick([3, 6])}" if depth or self.chance(0.4) else ""
        values = ", ".join(f"{{{k}}}" for k in range(len(started)))
        text = f"g.while_loop(lambda *vs: {{f0}}(*vs)[0], {{f1}}, [0, {values}]{most})"
        results = tuple(Value(self.name(), v.kind, v.shape) for v in parameters)
        blocks = (head, Block(tuple(parameters), tuple(body), tuple(returns)))
        out.append(Statement(text, tuple(v.name for v in started), results, blocks))
        scope += results

    def branch(self, out: list[Statement], scope: list[Value], depth: int) -> None:
        """Sides that are functions, or tensors of outside."""
        condition = self.recent(self.of(scope, "f"))
        sides, inners = [], []
        for _ in range(2):
            inner = list(scope)
            sides.append(self.statements(inner, int(self.rng.integers(1, 5)), depth + 1))
            inners.append(inner)
        returns: tuple[list[str], list[str]] = ([], [])
        results = []
        for _ in range(int(self.rng.integers(1, 3))):
            first = self.recent(self.of(inners[0], "f"))
            second = self.recent([v for v in self.of(inners[1], "f") if v.shape == first.shape]
                                 or self.of(inners[1], "f", 0, 0))  # fmt: skip
            if second.shape != first.shape:
                first = self.pick(self.of(inners[0], "f", 0, 0))
            returns[0].append(first.name)
            returns[1].append(second.name)
            results.append(Value(self.name(), "f", first.shape))
        pair = list(zip(sides, returns, strict=True))
        blocks = tuple(Block((), tuple(body), tuple(names)) for body, names in pair)
        test = f"g.sum({{0}}) > {self.rng.uniform(-1, 1):.2f}"
        text = f"g.ifelse({test}, {{f0}}, {{f1}})"
        out.append(Statement(text, (condition.name,), tuple(results), blocks))
        scope += results


def grow(seed: int, size: int = 7) -> Program:
    """A random program of about `size` statements."""
    grower = Grower(seed)
    scope = [Value(name, kind, shape) for name, (kind, shape) in INPUTS.items()]
    grower.rng.shuffle(scope)  # type: ignore[arg-type]
    given = len(scope)
    statements = grower.statements(scope, size, 0)
    if not any(statement.blocks for statement in statements):
        grower.scan(statements, scope, 0)
    read = {name for names in reads(statements) for name in names}
    made = [v.name for v in scope[given:]]
    fetches = [name for name in made if name not in read or grower.chance(0.25)]
    sizes = tuple(_sizes(grower.rng) for _ in range(2))
    order = int(grower.pick([0, 1, 1, 2, 2]))
    spelling = grower.pick(["static", "symbolic", "symbolic", "rankless"])
    return Program(seed, tuple(statements), tuple(fetches), order, spelling, sizes)


def _sizes(rng: np.random.Generator) -> tuple[tuple[str, int], ...]:
    found = {name: int(rng.choice(CHOICES)) for name in "nmt"}
    if rng.random() < 0.4:
        found = {name: max(size, 2) for name, size in found.items()}
    return (*found.items(), ("k", int(rng.integers(0, found["t"] + 1))))

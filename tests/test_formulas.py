"""What is known of formulas before their code is written, whatever device it is for."""

from __future__ import annotations

from graphc.affine import is_inside
from graphc.dims import Dim
from graphc.dtypes import float32, int64
from graphc.kernel import Axis, Buffer, lift, read, reduce
from graphc.runtime.formulas import FormulaFacts
from graphc.runtime.opencl.facts import Facts
from graphc.scalar import walk
from graphc.types import TensorType

N = Dim.symbol("n")


def buffer(*shape: int | Dim) -> Buffer:
    return Buffer(TensorType(float32, shape), "x")


def test_an_index_is_inside_where_its_form_shows_it() -> None:
    i, j = Axis(N), Axis(4)
    assert is_inside(i.position, N) and is_inside(lift(3), 4)
    for index, size in [
        (i.position, 4), (lift(4), 4), (lift(-1), 4), (lift(0), N), (j.position + 1, 5),
        (j.position * 2, 8), (i.position + j.position, N),
    ]:  # fmt: skip
        assert not is_inside(index, size)


def test_doubt_is_of_data_and_of_numbers_that_a_size_may_not_reach() -> None:
    at, walked = Buffer(TensorType(int64, (N,)), "at"), Axis(N).position
    data, three, nine = read(at)(walked), lift(3), lift(9)
    facts = FormulaFacts([read(buffer(8, 8, 8))(data, three, nine)])
    assert facts.is_doubtful(data, 8) and facts.is_doubtful(nine, 8)
    assert not facts.is_doubtful(three, 8) and not facts.is_doubtful(walked, 8)


def test_a_read_of_what_is_being_written_holds_at_one_point_of_the_order() -> None:
    i, k, x = Axis(N), Axis(3), buffer(N)
    part = read(x)(i.position)
    assert FormulaFacts([part]).free[part] == {i}
    facts = FormulaFacts([part], own=[x], order=[k])
    assert facts.free[part] == {i, k} and facts.is_own(part) and not facts.is_own(i.position)


def test_sizes_guard_what_stands_inside_of_loops_over_them() -> None:
    i, x = Axis(5), buffer(5, N)
    total = reduce("sum", (N,), lambda k: read(x)(i.position, k))
    (body,) = total.operands
    facts = FormulaFacts([total])
    assert facts.guards[body] == {N} and facts.guards[total] == frozenset()
    assert facts.free[total] == {i}


def test_a_device_says_what_is_evaluated_of_a_sum_over_nothing() -> None:
    x = buffer(0)
    total = reduce("sum", (0,), lambda k: read(x)(k))
    assert list(FormulaFacts([total]).inside(total)) == [*total.operands, total]
    assert list(Facts([total]).inside(total)) == [total]


def test_a_walk_goes_where_it_is_told() -> None:
    a, b = Axis(2).position, Axis(3).position
    whole = (a + b) * b
    first = whole.operands[0]
    assert list(walk(whole)) == [a, b, first, whole]
    assert list(walk(whole, into=lambda part: part.operands[1:])) == [b, whole]
    assert list(walk(whole, known={first})) == [b, whole]

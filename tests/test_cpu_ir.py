"""The text of IR: constants keep their bits, and what is written does what it says."""

from __future__ import annotations

import ctypes
import math
import struct

import pytest

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, declare, integer
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host

INT1 = ir.IntType(1)


def test_equal_types_are_one_object() -> None:
    assert ir.VectorType(ir.IntType(32), 8) is ir.VectorType(ir.IntType(32), 8)
    assert ir.ArrayType(INTEGER, 8) is not ir.VectorType(INTEGER, 8)
    assert ir.FloatType() is not ir.DoubleType()


@pytest.mark.parametrize("number", [0.0, -0.0, 1 / 3, 1e-310, math.inf, -math.inf, math.nan])
def test_constants_keep_their_bits(number: float) -> None:
    module = ir.Module()
    _, builder, [to] = declare(module, "write", VOID, [("to", POINTER)], True)
    builder.store(ir.Constant(ir.DoubleType(), number), to, align=8)
    builder.ret_void()
    cell = ctypes.c_double(7)
    compile_module(module, host()).function("write", None, ctypes.c_void_p)(ctypes.addressof(cell))
    assert struct.pack("d", cell.value) == struct.pack("d", number)


def test_float32_constants_are_rounded() -> None:
    wide = struct.unpack("f", struct.pack("f", 0.1))[0]
    single, double = (
        ir.Constant(kind(), x).ref for kind, x in ((ir.FloatType, 0.1), (ir.DoubleType, wide))
    )
    assert single == double


def _called(module: ir.Module, *arguments: int) -> int:
    kinds = [ctypes.c_int64] * len(arguments)
    return int(compile_module(module, host()).function("f", ctypes.c_int64, *kinds)(*arguments))


def _function(*names: str) -> tuple[ir.Module, ir.IRBuilder, list[ir.Value]]:
    module = ir.Module("test")
    labels = [(name, INTEGER) for name in names]
    _, builder, arguments = declare(module, "f", INTEGER, labels, True)
    return module, builder, arguments


def test_branches() -> None:
    module, builder, [x] = _function("x")
    with builder.goto_entry_block():
        cell = builder.alloca(INTEGER)
    cell.align = 8
    builder.store(integer(0), cell, align=8)
    with builder.if_else(builder.icmp_signed("<", x, integer(0))) as (yes, no):
        with yes:
            builder.store(builder.neg(x), cell, align=8)
        with no:
            builder.store(x, cell, align=8)
    with builder.if_then(builder.icmp_signed("==", x, integer(5)), likely=False):
        builder.ret(integer(100))
    builder.ret(builder.load(cell, typ=INTEGER, align=8))
    assert [_called(module, x) for x in (-3, 4, 5)] == [3, 4, 100]
    assert "branch_weights" in str(module)


def test_switch_and_phi() -> None:
    module, builder, [x] = _function("x")
    entry, after = builder.block, builder.append_basic_block("after")
    choice = builder.switch(x, after)
    blocks = [builder.append_basic_block(f"case{n}") for n in range(3)]
    for n, block in enumerate(blocks):
        choice.add_case(integer(n), block)
        builder.position_at_end(block)
        builder.branch(after)
    builder.position_at_end(after)
    found = builder.phi(INTEGER)
    found.add_incoming(integer(-1), entry)
    for n, block in enumerate(blocks):
        found.add_incoming(integer(10 + n), block)
    builder.ret(found)
    assert [_called(module, x) for x in (0, 2, 9)] == [10, 12, -1]


@pytest.mark.parametrize(
    "method, number", [("sadd_with_overflow", 2**62), ("smul_with_overflow", 2**32)]
)
def test_overflow(method: str, number: int) -> None:
    module, builder, [x, y] = _function("x", "y")
    pair = getattr(builder, method)(x, y)
    wrong = builder.zext(builder.extract_value(pair, 1), INTEGER)
    builder.ret(
        builder.select(builder.extract_value(pair, 1), wrong, builder.extract_value(pair, 0))
    )
    assert _called(module, number, number) == 1
    assert _called(module, 2, 2) == 4


def test_not_turns_every_lane() -> None:
    module, builder, [x] = _function("x")
    lanes = ir.VectorType(INT1, 8)
    bits = builder.bitcast(builder.trunc(x, ir.IntType(8)), lanes)
    turned = builder.bitcast(builder.not_(bits), ir.IntType(8))
    one = builder.not_(builder.icmp_signed("==", x, integer(1)))
    builder.ret(builder.add(builder.zext(turned, INTEGER), builder.zext(one, INTEGER)))
    assert [_called(module, x) for x in (1, 255)] == [254, 1]

"""Remainders of huge angles: x - n pi/2, to 60 digits for every finite double, in integers.

M. Payne, R. Hanek, Radian reduction for trigonometric functions, SIGNUM 18 (1983). x is m 2**e with
an integer m, and n mod 4 and the remainder depend only on the product of m with some 190 bits of
2/pi: those above give multiples of four quarter turns, those below are too small to matter.

Enters: lanes, of which some hold huge angles. Leaves: a call in a block of its own, which runs only
when there are such lanes; the builder stands behind it. The function that is called is external:
`define` writes it, once for all who need it (`helpers.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.math.lanes import INT64, Lanes, any_lane, intrinsic
from graphc.runtime.math.lanes import where
from graphc.runtime.math.two_over_pi import TWO_OVER_PI

HALF_PI = 0xC90FDAA22168C235  # pi/2 * 2**63
NAME = "graphc.quarter_turns"
INT1, INT128 = ir.IntType(1), ir.IntType(128)
DOUBLE, POINTER = ir.DoubleType(), ir.PointerType()
LOWEST = 0x7FF  # the bits of a word that a double cannot hold beside its highest


def huge_angles(x: Lanes, huge: Lanes, usual: Sequence[Lanes]) -> list[Lanes]:
    """(r, lost, n mod 4) of the doubles where `huge` holds, elsewhere the usual ones given."""
    builder = x.builder
    places = [_reserve(x, element) for element in (DOUBLE, DOUBLE, DOUBLE, INT64)]
    before = builder.block
    with builder.if_then(any_lane(huge), likely=False):
        builder.store(where(huge, x, 0.0).value, places[0], align=8)
        lanes = ir.Constant(INT64, x.count or 1)
        builder.call(_function(builder.module), [*places, lanes])
        found = [
            x.wrap(builder.load(place, typ=x.shaped(element), align=8))
            for place, element in zip(places[1:], (DOUBLE, DOUBLE, INT64), strict=True)
        ]
        narrow = (
            found[2] if usual[2].element == INT64 else found[2].convert("trunc", usual[2].element)
        )
        merged = [where(huge, f, u) for f, u in zip((*found[:2], narrow), usual, strict=True)]
        inside = builder.block
    result = []
    for rare, often in zip(merged, usual, strict=True):
        phi = builder.phi(often.value.type)
        phi.add_incoming(often.value, before)
        phi.add_incoming(rare.value, inside)
        result.append(x.wrap(phi))
    return result


def _reserve(x: Lanes, element: ir.Type) -> Any:
    """Room for one value of each lane, once a call of the surrounding function."""
    with x.builder.goto_entry_block():
        return x.builder.alloca(x.shaped(element))


def _table(module: ir.Module) -> ir.GlobalVariable:
    kind = ir.ArrayType(INT64, len(TWO_OVER_PI))
    table = ir.GlobalVariable(module, kind, f"{NAME}.table")
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(kind, list(TWO_OVER_PI))
    return table


def _function(module: ir.Module) -> ir.Function:
    """`void(x, r, lost, n, lanes)`: reduces an array; zeros are skipped."""
    found: ir.Function = intrinsic(
        module, NAME, ir.VoidType(), [POINTER, POINTER, POINTER, POINTER, INT64]
    )
    found.attributes.add("nounwind")
    return found


def define(module: ir.Module) -> None:
    """Write the function."""
    function = _function(module)
    entry, body, after = (function.append_basic_block(n) for n in ("entry", "lane", "done"))
    builder = ir.IRBuilder(entry)
    table = _table(module)
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(INT64)
    index.add_incoming(ir.Constant(INT64, 0), entry)
    *places, count = function.args
    x, r, lost, n = (
        builder.gep(place, [index], source_etype=element)
        for place, element in zip(places, (DOUBLE, DOUBLE, DOUBLE, INT64), strict=True)
    )
    results = _reduce(Lanes(builder, builder.load(x, typ=DOUBLE)), table)
    for result, place in zip(results, (r, lost, n), strict=True):
        builder.store(result.value, place)
    following = builder.add(index, ir.Constant(INT64, 1))
    index.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)
    builder.ret_void()


def _window(place: Lanes, table: ir.GlobalVariable) -> list[Lanes]:
    """192 bits of the table from a bit on, the highest word first."""
    builder, shift = place.builder, place & 63
    words = []
    for i in range(4):
        index = ((place.logical_right(6)) + i).value
        address = builder.gep(table, [index], source_etype=INT64)
        words.append(place.wrap(builder.load(address, typ=INT64)))
    return [a.call("fshl", b, shift) for a, b in itertools.pairwise(words)]


def _wide_product(a: Lanes, b: Lanes) -> Lanes:
    return a.convert("zext", INT128) * b.convert("zext", INT128)


def _reduce(x: Lanes, table: ir.GlobalVariable) -> tuple[Lanes, Lanes, Lanes]:
    """(r, lost, n mod 4) of one angle of at least 2**16, by 192 bits of m * 2/pi."""
    bits = x.as_bits()
    size = bits & (2**63 - 1)
    exponent = where(size < 1039 << 52, 1039, size.logical_right(52))  # 2**16 for what is no angle
    m = (size & (2**52 - 1)) | 2**52
    high, middle, low = _window(exponent - 1013, table)
    carry = _wide_product(m, low).logical_right(64)
    centre = _wide_product(m, middle) + carry
    top = m * high + centre.logical_right(64).convert("trunc", INT64)
    n = (top + 2**61).logical_right(62)
    fraction = (top.convert("zext", INT128) << 64 | centre & (2**64 - 1)) << 2
    negative = fraction < 0
    magnitude = where(negative, -fraction, fraction)
    zeros = _leading_zeros(magnitude)
    first = (magnitude << zeros).logical_right(64).convert("trunc", INT64)
    product = _wide_product(first, first.constant(HALF_PI))
    digits = product.logical_right(64).convert("trunc", INT64)
    exponents = (960 - zeros.convert("trunc", INT64)) << 52  # 2**(-63 - zeros)
    turned = where(negative, bits ^ -(2**63), bits) & -(2**63)
    unit = (exponents | turned).as_float()
    r = (digits & ~LOWEST).convert("uitofp", DOUBLE) * unit
    lost = (digits & LOWEST).convert("uitofp", DOUBLE) * unit
    return r, lost, where(bits < 0, -n, n) & 3


def _leading_zeros(x: Lanes) -> Lanes:
    count = intrinsic(x.builder.module, "llvm.ctlz.i128", INT128, [INT128, INT1])
    return x.wrap(x.builder.call(count, [x.value, ir.Constant(INT1, 0)])) & 127

"""LLVM IR as it is written down: types, values, and a builder of instructions.

Enters: calls of an `IRBuilder`. Leaves: the text of a module. The names and meanings are those of
llvmlite's `ir`, as far as the generators use them; each instruction is text from the moment it is
made, which takes a quarter of the time. LLVM checks what is written when it reads it.
"""

from graphc.runtime.cpu.ir.builder import IRBuilder
from graphc.runtime.cpu.ir.module import Block, Function, GlobalVariable, Module
from graphc.runtime.cpu.ir.types import (
    ArrayType,
    DoubleType,
    FloatType,
    FunctionType,
    HalfType,
    IntType,
    PointerType,
    Type,
    VectorType,
    VoidType,
)
from graphc.runtime.cpu.ir.values import Constant, Undefined, Value

__all__ = [
    "ArrayType",
    "Block",
    "Constant",
    "DoubleType",
    "FloatType",
    "Function",
    "FunctionType",
    "GlobalVariable",
    "HalfType",
    "IRBuilder",
    "IntType",
    "Module",
    "PointerType",
    "Type",
    "Undefined",
    "Value",
    "VectorType",
    "VoidType",
]

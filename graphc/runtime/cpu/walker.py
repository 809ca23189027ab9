"""The native loop over a program's launches: a run of a segment is one call of it.

Enters: the address of a context's words. They begin with

    0, 1    the fault cell: the number of a fault plus one, and the offending index
    2, 3    the first launch to run, and the one to stop before
    4       the address of the launches, each of six words:
            code, record, count, grain, the most threads (0: all), the launch that follows
    5       within a loop or a branch: the number of the launch that found a fault, plus one

Leaves: all units of these launches computed, -1; or the number of the launch that found a fault.
A launch that fits into one chunk is called directly, others go to the worker pool.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host
from graphc.runtime.cpu.threads import pool
from graphc.runtime.once import once

FAULT, INDEX, BEGIN, END, LAUNCHES, FOUND, HEADER = range(7)  # the words
LAUNCH = 6  # words of a launch
CODE, RECORD, COUNT, GRAIN, LIMIT, NEXT = range(LAUNCH)
Walk: TypeAlias = Callable[[int], int]

TEXT = """
declare void @graphc_parallel_for_limited(ptr, ptr, i64, i64, i64)

define i64 @graphc_walk(ptr %words) {
  %begin_at = getelementptr i64, ptr %words, i64 2
  %end_at = getelementptr i64, ptr %words, i64 3
  %begin = load i64, ptr %begin_at
  %end = load i64, ptr %end_at
  %number = call i64 @graphc_steps(ptr %words, i64 %begin, i64 %end)
  ret i64 %number
}

define i64 @graphc_steps(ptr %words, i64 %begin, i64 %end) {
entry:
  %launches_at = getelementptr i64, ptr %words, i64 4
  %launches = load ptr, ptr %launches_at
  br label %head
head:
  %number = phi i64 [%begin, %entry], [%following, %next]
  %more = icmp slt i64 %number, %end
  br i1 %more, label %body, label %done
body:
  %offset = mul i64 %number, 6
  %launch = getelementptr i64, ptr %launches, i64 %offset
  %record_at = getelementptr i64, ptr %launch, i64 1
  %count_at = getelementptr i64, ptr %launch, i64 2
  %grain_at = getelementptr i64, ptr %launch, i64 3
  %limit_at = getelementptr i64, ptr %launch, i64 4
  %next_at = getelementptr i64, ptr %launch, i64 5
  %code = load ptr, ptr %launch
  %record = load ptr, ptr %record_at
  %count = load i64, ptr %count_at
  %grain = load i64, ptr %grain_at
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %run, label %next
run:
  %single = icmp sle i64 %count, %grain
  br i1 %single, label %direct, label %shared
direct:
  call void %code(ptr %record, i64 0, i64 %count)
  br label %check
shared:
  %limit = load i64, ptr %limit_at
  %workspace_at = getelementptr i64, ptr %record, i64 2
  %workspace = load ptr, ptr %workspace_at
  %has_none = icmp eq ptr %workspace, null
  br i1 %has_none, label %start, label %clear
clear:
  store i64 0, ptr %workspace
  br label %start
start:
  call void @graphc_parallel_for_limited(
    ptr %code, ptr %record, i64 %count, i64 %grain, i64 %limit)
  br label %check
check:
  %fault = load i64, ptr %words
  %wrong = icmp ne i64 %fault, 0
  br i1 %wrong, label %stop, label %next
next:
  %following = load i64, ptr %next_at
  br label %head
stop:
  ret i64 %number
done:
  ret i64 -1
}
"""


class Walker(NamedTuple):
    """The function twice: `release` lets other Python threads run meanwhile.

    `hold` does not, which suits a walk of some microseconds: whoever gives the interpreter's lock
    away may wait milliseconds for it afterwards.
    """

    release: Walk
    hold: Walk
    steps: int  # the address of what runs some of the launches: i64 (words, begin, end)


@once
def walker() -> Walker:
    """The walker of this process."""
    library = compile_module(TEXT, host(), symbols=pool().symbols())
    release = library.function("graphc_walk", ctypes.c_int64, ctypes.c_void_p)
    kind = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
    hold = kind(library.address("graphc_walk"))
    hold.library = library  # type: ignore[attr-defined]  # it keeps the code loaded
    return Walker(release, hold, library.address("graphc_steps"))

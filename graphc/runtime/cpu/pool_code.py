"""The native half of the worker pool, as LLVM IR: how threads wait for work, share it and join.

Enters: how this system lets a thread sleep. Leaves: a module with the functions that `threads.py`
binds. One 64-bit word, the gate, says everything that must change together:

    generation (32 bits) | entrances left (16) | workers inside (16)

A call writes the job, then opens the gate: next generation, so many entrances. A worker that sees
a new generation takes an entrance and becomes one inside, in one exchange; it takes chunks until
none is left, and goes. The caller takes chunks too, then shuts the gate (no entrances left) and
waits for the workers inside, never for those that sleep or come late: these find no entrance. So
nobody reads a job that is over, and a busy machine costs speed only.

The chunks lie in as many ranges as threads take part, and each thread begins with the range at its
own place: the same part of an array in kernel after kernel and in run after run, so what it has
written is still in its own caches. A thread whose range is done helps with the others. Between
cores that share no cache, a line that another core has written last costs ten times one's own.

A worker without work spins for some microseconds, then gives its turn away, then sleeps until the
generation changes. A call that finds the pool taken (from inside a body, or from another thread)
runs its chunks itself: the same chunks, whoever runs them.
"""

from __future__ import annotations

import platform
import sys
from string import Template

PAUSES = 2000  # tens of microseconds, at 20 to 40 ns
YIELDS = 800  # some hundreds of microseconds on a machine without other work
MOST_WORKERS = 2**15
MOST_RANGES = 64  # of the chunks of a call; more threads than that share them
FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}  # the call's number
PAUSE = {"x86_64": "pause", "amd64": "pause", "aarch64": "isb", "arm64": "isb"}

FUTEX_SLEEP = """
declare i64 @syscall(i64, ...)

define internal void @sleep(ptr %word, i32 %seen) nounwind noinline {
  call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i32 128, i32 %seen, ptr null)
  ret void
}

define internal void @wake(ptr %word, i32 %count) nounwind noinline {
  call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i32 129, i32 %count)
  ret void
}
"""  # 128 and 129: wait and wake, within one process

POLLING_SLEEP = """
declare void @$nap(i32)

define internal void @sleep(ptr %word, i32 %seen) nounwind noinline {
  call void @$nap(i32 $length)
  ret void
}

define internal void @wake(ptr %word, i32 %count) nounwind noinline {
  ret void
}
"""

CODE = """
@gate = global i64 0, align 128
@next = internal global [$ranges x [16 x i64]] zeroinitializer, align 128
@busy = global i32 0, align 128
@sleepers = global i32 0, align 128
@stop = global i32 0, align 128
@workers = global i64 0, align 128
@body = internal global ptr null, align 128
@context = internal global ptr null
@count = internal global i64 0
@grain = internal global i64 0
@ranges = internal global i64 0

declare i32 @$yield()
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
$sleep
define internal void @pause() alwaysinline nounwind {
  call void asm sideeffect "$pause", "~{memory}"()
  ret void
}

define internal void
@chunk(ptr %body, ptr %context, i64 %count, i64 %grain, i64 %index) alwaysinline {
  %begin = mul i64 %index, %grain
  %left = sub i64 %count, %begin
  %length = call i64 @llvm.smin.i64(i64 %left, i64 %grain)
  %end = add i64 %begin, %length
  call void %body(ptr %context, i64 %begin, i64 %end)
  ret void
}

define internal void
@share(ptr %body, ptr %context, i64 %count, i64 %grain, i64 %ranges, i64 %place) {
entry:
  %most = sub i64 %count, 1
  %last = sdiv i64 %most, %grain
  %chunks = add i64 %last, 1
  br label %visit
visit:
  %turn = phi i64 [0, %entry], [%following, %empty]
  %shifted = add i64 %place, %turn
  %range = urem i64 %shifted, %ranges
  %above = add i64 %range, 1
  %before = mul i64 %chunks, %range
  %first = udiv i64 %before, %ranges
  %until = mul i64 %chunks, %above
  %stop = udiv i64 %until, %ranges
  %next = getelementptr [16 x i64], ptr @next, i64 %range
  br label %take
take:
  %taken = atomicrmw add ptr %next, i64 1 monotonic
  %index = add i64 %first, %taken
  %over = icmp sge i64 %index, %stop
  br i1 %over, label %empty, label %run
run:
  call void @chunk(ptr %body, ptr %context, i64 %count, i64 %grain, i64 %index)
  br label %take
empty:
  %following = add i64 %turn, 1
  %more = icmp ult i64 %following, %ranges
  br i1 %more, label %visit, label %out
out:
  ret void
}

define void @graphc_worker(i64 %place) {
entry:
  %first = load atomic i64, ptr @gate acquire, align 8
  %before = sub i64 %first, 4294967296
  %earlier = lshr i64 %before, 32
  %unseen = trunc i64 %earlier to i32
  br label %look
look:
  %seen = phi i32 [%unseen, %entry], [%seen, %spin], [%seen, %yield], [%seen, %sleep],
        [%generation, %shut], [%generation, %leave]
  %idle = phi i32 [0, %entry], [%longer, %spin], [%longer, %yield], [%idle, %sleep],
        [0, %shut], [0, %leave]
  %stopped = load atomic i32, ptr @stop monotonic, align 4
  %end = icmp ne i32 %stopped, 0
  br i1 %end, label %out, label %alive
alive:
  %now = load atomic i64, ptr @gate acquire, align 8
  %now_high = lshr i64 %now, 32
  %now_generation = trunc i64 %now_high to i32
  %same = icmp eq i32 %now_generation, %seen
  br i1 %same, label %wait, label %news
wait:
  %longer = add i32 %idle, 1
  %early = icmp ult i32 %idle, $pauses
  br i1 %early, label %spin, label %late
spin:
  call void @pause()
  br label %look
late:
  %patient = icmp ult i32 %idle, $patience
  br i1 %patient, label %yield, label %sleep
yield:
  %ignored = call i32 @$yield()
  br label %look
sleep:
  %one_more = atomicrmw add ptr @sleepers, i32 1 seq_cst
  call void @sleep(ptr getelementptr (i8, ptr @gate, i64 $high), i32 %seen)
  %one_less = atomicrmw sub ptr @sleepers, i32 1 seq_cst
  br label %look
news:
  %gate = phi i64 [%now, %alive], [%current, %enter]
  %high = lshr i64 %gate, 32
  %generation = trunc i64 %high to i32
  %entrances = and i64 %gate, 4294901760
  %full = icmp eq i64 %entrances, 0
  br i1 %full, label %shut, label %enter
shut:
  br label %look
enter:
  %inside = sub i64 %gate, 65535
  %swapped = cmpxchg ptr @gate, i64 %gate, i64 %inside acq_rel acquire
  %current = extractvalue {i64, i1} %swapped, 0
  %entered = extractvalue {i64, i1} %swapped, 1
  br i1 %entered, label %work, label %news
work:
  %body = load ptr, ptr @body
  %context = load ptr, ptr @context
  %count = load i64, ptr @count
  %grain = load i64, ptr @grain
  %ranges = load i64, ptr @ranges
  call void @share(ptr %body, ptr %context, i64 %count, i64 %grain, i64 %ranges, i64 %place)
  br label %leave
leave:
  %left = atomicrmw sub ptr @gate, i64 1 release
  br label %look
out:
  ret void
}

define void @graphc_parallel_for(ptr %body, ptr %context, i64 %count, i64 %grain) {
  call void @graphc_parallel_for_limited(ptr %body, ptr %context, i64 %count, i64 %grain, i64 0)
  ret void
}

define void
@graphc_parallel_for_limited(ptr %body, ptr %context, i64 %count, i64 %grain_given, i64 %limit) {
entry:
  %empty = icmp sle i64 %count, 0
  br i1 %empty, label %out, label %some
some:
  %grain = call i64 @llvm.smax.i64(i64 %grain_given, i64 1)
  %most = sub i64 %count, 1
  %last = sdiv i64 %most, %grain
  %workers = load atomic i64, ptr @workers monotonic, align 8
  %useful = call i64 @llvm.smin.i64(i64 %workers, i64 %last)
  %unlimited = icmp sle i64 %limit, 0
  %others = sub i64 %limit, 1
  %allowed = select i1 %unlimited, i64 %useful, i64 %others
  %helpers = call i64 @llvm.smin.i64(i64 %useful, i64 %allowed)
  %alone = icmp sle i64 %helpers, 0
  br i1 %alone, label %serial, label %try
try:
  %swapped = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %taken = extractvalue {i32, i1} %swapped, 1
  br i1 %taken, label %open, label %serial
open:
  store ptr %body, ptr @body
  store ptr %context, ptr @context
  store i64 %count, ptr @count
  store i64 %grain, ptr @grain
  %sharing = add i64 %helpers, 1
  %ranges = call i64 @llvm.smin.i64(i64 %sharing, i64 $ranges)
  store i64 %ranges, ptr @ranges
  br label %clear
clear:
  %range = phi i64 [0, %open], [%above, %clear]
  %next = getelementptr [16 x i64], ptr @next, i64 %range
  store atomic i64 0, ptr %next monotonic, align 8
  %above = add i64 %range, 1
  %cleared = icmp eq i64 %above, %ranges
  br i1 %cleared, label %post, label %clear
post:
  %entrances = shl i64 %helpers, 16
  %opening = add i64 %entrances, 4294967296
  %before = atomicrmw add ptr @gate, i64 %opening seq_cst
  %sleepers = load atomic i32, ptr @sleepers seq_cst, align 4
  %asleep = icmp sgt i32 %sleepers, 0
  br i1 %asleep, label %rouse, label %run
rouse:
  %needed = trunc i64 %helpers to i32
  call void @wake(ptr getelementptr (i8, ptr @gate, i64 $high), i32 %needed)
  br label %run
run:
  call void @share(ptr %body, ptr %context, i64 %count, i64 %grain, i64 %ranges, i64 0)
  %shut = atomicrmw and ptr @gate, i64 -4294901761 acq_rel
  br label %join
join:
  %waited = phi i32 [0, %run], [%longer, %spin], [%longer, %yield]
  %gate = load atomic i64, ptr @gate acquire, align 8
  %inside = and i64 %gate, 65535
  %done = icmp eq i64 %inside, 0
  br i1 %done, label %release, label %wait
wait:
  %longer = add i32 %waited, 1
  %early = icmp ult i32 %waited, $pauses
  br i1 %early, label %spin, label %yield
spin:
  call void @pause()
  br label %join
yield:
  %ignored = call i32 @$yield()
  br label %join
release:
  store atomic i32 0, ptr @busy release, align 4
  br label %out
serial:
  %index = phi i64 [0, %some], [0, %try], [%following, %serial]
  call void @chunk(ptr %body, ptr %context, i64 %count, i64 %grain, i64 %index)
  %following = add i64 %index, 1
  %more = icmp sle i64 %following, %last
  br i1 %more, label %serial, label %out
out:
  ret void
}

define void @graphc_stop() {
  store atomic i32 1, ptr @stop seq_cst, align 4
  %before = atomicrmw add ptr @gate, i64 4294967296 seq_cst
  call void @wake(ptr getelementptr (i8, ptr @gate, i64 $high), i32 2147483647)
  ret void
}

define void @graphc_forget() {
  store atomic i64 0, ptr @workers seq_cst, align 8
  store atomic i64 0, ptr @gate seq_cst, align 8
  store atomic i32 0, ptr @busy seq_cst, align 4
  store atomic i32 0, ptr @sleepers seq_cst, align 4
  store atomic i32 0, ptr @stop seq_cst, align 4
  ret void
}
"""


def sleeps_on_futex() -> bool:
    """Whether this system's threads can wait for a word of memory to change."""
    return sys.platform == "linux" and platform.machine() in FUTEX


def pool_code(futex: bool) -> str:
    """The module; without futexes, sleeping workers look for work every millisecond."""
    windows = sys.platform == "win32"
    sleep = Template(FUTEX_SLEEP if futex else POLLING_SLEEP).substitute(
        futex=FUTEX.get(platform.machine(), 0),
        nap="Sleep" if windows else "usleep",
        length=1 if windows else 1000,
    )
    return Template(CODE).substitute(
        sleep=sleep,
        pause=PAUSE.get(platform.machine().lower(), ""),
        **{"yield": "SwitchToThread" if windows else "sched_yield"},
        pauses=PAUSES,
        patience=PAUSES + YIELDS,
        ranges=MOST_RANGES,
        high=4 if sys.byteorder == "little" else 0,
    )

"""The native compiler's base: targets, IR to code, and the cache of object code."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc import config
from graphc.errors import CompileError
from graphc.runtime import cache
from graphc.runtime.cache import DiskCache, content_key
from graphc.runtime.cpu import jit, target
from graphc.runtime.cpu.jit import compile_module

HOST = target.host()
PLUS_ONE = """
define float @plus_one(float %x) {
  %y = fadd float %x, 1.0
  ret float %y
}
"""
VECTORS = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
@three = internal constant <16 x float> splat (float 3.0)
define void @scale(ptr %p) {
  %x = load <16 x float>, ptr %p, align 4
  %three = load <16 x float>, ptr @three
  %y = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> %three, <16 x float> %x)
  store <16 x float> %y, ptr %p, align 4
  ret void
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    return tmp_path / "cpu"


def plus_one(library):
    return library.function("plus_one", ctypes.c_float, ctypes.c_float)


def entries(folder):
    return sorted(folder.glob("*")) if folder.exists() else []


# ------------------------------------------------------------------------------------- the target


def test_the_host_is_plausible():
    assert HOST is target.host()
    assert HOST.vector_bits in (128, 256, 512) and HOST.registers in (16, 32)
    assert 2**13 <= HOST.l1 <= HOST.l2
    assert 1 <= HOST.cores <= (os.cpu_count() or 1)
    assert HOST.lanes(32) == HOST.vector_bits // 32 == 2 * HOST.lanes(64)


FULL = "+avx,+avx2,+avx512bw,+avx512f,+f16c,+fma,-sse4a,+sse4.2,+vaes"


@pytest.mark.parametrize(
    ("bits", "features"),
    [
        (512, FULL),
        (256, "+avx,+avx2,-avx512bw,-avx512f,+f16c,+fma,-sse4a,+sse4.2,+vaes"),
        (128, "-avx,-avx2,-avx512bw,-avx512f,-f16c,-fma,-sse4a,+sse4.2,-vaes"),
    ],
)
def test_a_narrowed_target_lacks_the_wider_vectors(bits, features):
    wide = target.Target("znver4", FULL, 512, 32, 2**15, 2**20, 2)
    narrow = wide.narrowed(bits)
    assert narrow.features == features
    assert (narrow.vector_bits, narrow.registers) == (bits, 32 if bits == 512 else 16)
    assert narrow.narrowed(512) == narrow


def test_only_real_widths():
    with pytest.raises(ValueError, match="128, 256 or 512, got 64"):
        HOST.narrowed(64)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f": True, "avx2": True, "fma": True}, (256, 16)),  # the first of its kind: no vl
        (dict.fromkeys((*target.FULL_512, *target.FULL_256), True), (512, 32)),
        ({"avx": True}, (128, 16)),
    ],
)
def test_vectors_that_are_whole(monkeypatch, features, expected):
    monkeypatch.setattr(target.platform, "machine", lambda: "x86_64")
    assert target._vectors(features) == expected
    monkeypatch.setattr(target.platform, "machine", lambda: "aarch64")
    assert target._vectors(features) == (128, 32)


def test_cache_sizes_are_read_from_the_system(tmp_path):
    described = (
        ("1", "Data", "48K"), ("1", "Instruction", "64K"), ("2", "Unified", "2M"),
        ("3", "Unified", "nonsense"),
    )  # fmt: skip
    for index, (level, kind, size) in enumerate(described):
        (tmp_path / f"index{index}").mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{index}" / name).write_text(text + "\n")
    assert target._cache_sizes(tmp_path) == (48 * 2**10, 2 * 2**20)
    assert target._cache_sizes(tmp_path / "none") == (2**15, 2**19)


# ----------------------------------------------------------------------------------- the compiler


@pytest.mark.parametrize("optimise", ["none", "lean", "fast", "full"])
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_code_runs_at_every_level_and_width(optimise, bits):
    library = compile_module(VECTORS, HOST.narrowed(bits), optimise)
    x = np.arange(16, dtype=np.float32)
    library.function("scale", None, ctypes.c_void_p)(x.ctypes.data)
    assert x.tolist() == [4.0 * i for i in range(16)]
    assert library.names == {"scale"}


def test_only_known_levels():
    with pytest.raises(ValueError, match=r"\['none', 'lean', 'fast', 'full'\], got 'O3'"):
        compile_module(PLUS_ONE, HOST, "O3")


def test_cleaning_up_removes_what_is_computed_twice():
    twice = """
define i64 @f(i64 %x, ptr %p) {
  %local = alloca i64
  store i64 %x, ptr %local
  %a = load i64, ptr %local
  %b = mul i64 %a, %x
  %c = mul i64 %x, %a
  %d = sub i64 %b, %c
  ret i64 %d
}"""
    machine = jit._machine(HOST, "fast")
    with jit._parsed(twice) as module:
        jit._clean_up(module, machine)
        assert "ret i64 0" in str(module) and "mul" not in str(module)
    assert compile_module(twice, HOST).function("f", ctypes.c_int64, ctypes.c_int64)(3) == 0


def test_text_that_is_no_ir_is_quoted_with_its_line():
    with pytest.raises(CompileError) as raised:
        compile_module("define float @f() {\n\n  ret i32 1\n}", HOST)
    assert "doesn't match function result type" in str(raised.value)
    assert ">    3   ret i32 1" in str(raised.value)


def test_ir_that_breaks_a_rule_is_quoted_with_its_line():
    text = "define i32 @f() {\n  %a = add i32 %b, 1\n  %b = add i32 %a, 1\n  ret i32 %b\n}"
    with pytest.raises(CompileError) as raised:
        compile_module(text, HOST)
    assert "dominate" in str(raised.value)
    assert ">    2   %a = add i32 %b, 1" in str(raised.value)


def test_unknown_names_are_errors():
    with pytest.raises(CompileError, match=r"no 'other' in this library: it has \['plus_one'\]"):
        compile_module(PLUS_ONE, HOST).address("other")
    undefined = "declare void @nowhere()\ndefine void @f() {\n call void @nowhere()\n ret void\n}"
    with pytest.raises(CompileError, match=r"cannot be linked: .*; not found: \['nowhere'\]"):
        compile_module(undefined, HOST)


def test_code_calls_given_addresses_and_the_process():
    text = """
declare i64 @given(i64)
declare i64 @labs(i64)
define i64 @f(i64 %x) {
  %y = call i64 @given(i64 %x)
  %z = call i64 @labs(i64 %y)
  ret i64 %z
}"""
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    for factor in (-3, 5):  # the second comes from the cache, and calls another address
        given = kind(lambda x, factor=factor: factor * x)
        address = ctypes.cast(given, ctypes.c_void_p).value
        library = compile_module(text, HOST, symbols={"given": address})
        assert library.function("f", ctypes.c_int64, ctypes.c_int64)(7) == 7 * abs(factor)


def test_internal_names_stay_inside():
    text = """
@shared = global i64 41
@hidden = internal global i64 1
define internal i64 @inner() alwaysinline {
  %a = load i64, ptr @shared
  %b = load i64, ptr @hidden
  %c = add i64 %a, %b
  ret i64 %c
}
define i64 @outer() {
  %a = call i64 @inner()
  ret i64 %a
}"""
    library = compile_module(text, HOST)
    assert library.names == {"shared", "outer"}
    assert library.function("outer", ctypes.c_int64)() == 42
    ctypes.c_int64.from_address(library.address("shared")).value = 9
    assert library.function("outer", ctypes.c_int64)() == 10


def test_a_function_keeps_its_code():
    function = plus_one(compile_module(PLUS_ONE, HOST))
    gc.collect()
    for _ in range(20):
        compile_module(PLUS_ONE, HOST)
    assert function(2.0) == 3.0


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_dropped_libraries_give_their_memory_back():
    def load(count):
        for _ in range(count):
            assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0

    load(100)
    gc.collect()
    before = resident()
    load(400)
    gc.collect()
    assert resident() - before < 2 * 2**20  # kept, they would be 400 pages of code, and more


def test_threads_compile_at_once():
    failed, found = [], []

    def work(index):
        try:
            library = compile_module(PLUS_ONE.replace("1.0", f"{index}.0"), HOST)
            found.append((index, plus_one(library)(1.0)))
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed and sorted(found) == [(index, index + 1.0) for index in range(8)]


FORKING = """
import os, threading, warnings
warnings.simplefilter("ignore")
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host
body = "\\n".join(f"  %x{i + 1} = fadd float %x{i}, 1.0" for i in range(300))
text = "define float @f(float %x0) {\\n" + body + "\\n  ret float %x300\\n}"
compile_module(text, host())
over = threading.Event()
def work():
    while not over.is_set():
        compile_module(text, host())
worker = threading.Thread(target=work)
worker.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        compile_module(text.replace("1.0", "2.0"), host())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.set()
worker.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_compiles_though_the_parent_was_compiling():
    environment = os.environ | {"GRAPHC_CACHE": "off"}
    command = [sys.executable, "-c", FORKING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done\n", "")


# -------------------------------------------------------------------------------------- the cache


def refuse(*_args):
    raise AssertionError("compiled, though the cache has it")


def test_a_module_is_not_written_where_the_cache_has_what_its_source_decides(folder):
    assert plus_one(compile_module(lambda: PLUS_ONE, HOST, source="plus one"))(1.0) == 2.0
    assert plus_one(compile_module(refuse, HOST, source="plus one"))(1.0) == 2.0
    with pytest.raises(AssertionError, match="the cache has it"):
        compile_module(refuse, HOST, source="plus two")


def test_the_second_time_it_is_read(folder, monkeypatch):
    assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0
    assert len(entries(folder)) == 1
    monkeypatch.setattr(jit, "_compile", refuse)
    library = compile_module(PLUS_ONE, HOST)
    assert plus_one(library)(1.0) == 2.0 and library.names == {"plus_one"}


def test_everything_that_decides_the_code_is_in_the_key(folder, monkeypatch):
    def key(text="text", target=HOST, optimise="fast"):
        return jit._key(text, target, optimise)

    keys = {key(), key("texts"), key(target=replace(HOST, cpu="other")), key(optimise="full")}
    keys.add(key(target=replace(HOST, features=HOST.features + ",+other")))
    keys.add(content_key("a", "bc"))
    keys.add(content_key("ab", "c"))
    monkeypatch.setattr(jit.config, "VERSION", "0.0.0")
    keys.add(key())
    monkeypatch.setattr(jit.llvmlite, "__version__", "0.0.0")
    keys.add(key())
    assert len(keys) == 9
    assert key() == key(target=replace(HOST, l2=1))  # a tile size is seen in the text


@pytest.mark.parametrize("length", [0, 5, len(cache.MAGIC), len(cache.MAGIC) + 40, -1])
def test_a_truncated_entry_is_replaced(folder, length):
    compile_module(PLUS_ONE, HOST)
    (path,) = entries(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0
    assert path.read_bytes() == whole


@pytest.mark.parametrize("place", [0, len(cache.MAGIC) + 3, 60, -1])
def test_a_damaged_entry_is_replaced(folder, place):
    compile_module(PLUS_ONE, HOST)
    (path,) = entries(folder)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 16
    path.write_bytes(damaged)
    assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0
    assert path.read_bytes() == whole


def test_an_entry_under_anothers_name_is_replaced(folder):
    compile_module(PLUS_ONE, HOST)
    (first,) = entries(folder)
    compile_module(PLUS_ONE.replace("1.0", "2.0"), HOST)
    (second,) = set(entries(folder)) - {first}
    second.write_bytes(first.read_bytes())
    assert plus_one(compile_module(PLUS_ONE.replace("1.0", "2.0"), HOST))(1.0) == 3.0


def test_the_cache_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0
    assert not list(tmp_path.rglob("*"))


def test_a_folder_that_cannot_be_written_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0


def test_a_failed_write_leaves_nothing(folder, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    assert plus_one(compile_module(PLUS_ONE, HOST))(1.0) == 2.0
    assert entries(folder) == []


CROWD = """
import ctypes, sys
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host
sys.stdin.readline()
for number in range(1, 4):
    text = "define float @f(float %x) {{\\n %y = fadd float %x, {0}.0\\n ret float %y\\n}}"
    library = compile_module(text.format(number), host())
    assert library.function("f", ctypes.c_float, ctypes.c_float)(1.0) == 1.0 + number
"""


def test_many_processes_share_an_empty_cache(folder):
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(16)
    ]
    for process in crowd:  # all have been started: let them go together
        process.stdin.write("\n")
        process.stdin.flush()
    assert [(process.communicate(timeout=120)[1], process.returncode) for process in crowd] == [
        ("", 0)
    ] * 16
    assert len(entries(folder)) == 3
    assert {path.suffix for path in entries(folder)} == {cache.SUFFIX}
    assert all(DiskCache(folder).get(path.stem) for path in entries(folder))


# ---------------------------------------------------------------------------- where the cache lies


def test_the_folder_is_the_systems_unless_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path / "here"))
    assert config.cache_folder() == tmp_path / "here"
    monkeypatch.setenv("GRAPHC_CACHE", "")
    assert config.cache_folder() == tmp_path / "graphc"
    monkeypatch.delenv("GRAPHC_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(config.Path, "home", lambda: tmp_path)
    for platform, folder in (("linux", ".cache"), ("darwin", "Library/Caches")):
        monkeypatch.setattr(config.sys, "platform", platform)
        assert config.cache_folder() == tmp_path / folder / "graphc"


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GRAPHC_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(config.Path, "home", home)
    assert config.cache_folder() is None


def test_one_version():
    assert graphc.__version__ == config.VERSION

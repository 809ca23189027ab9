"""What devices compile, on disk: entries are whole, this user's, and not too many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphc.runtime import cache
from graphc.runtime.cache import DiskCache, content_key


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_a_key_is_of_the_texts_not_of_what_they_make_together() -> None:
    texts = [(), ("",), ("", ""), ("a", "bc"), ("ab", "c"), ("abc",)]
    assert len({content_key(*each) for each in texts}) == len(texts)


@pytest.mark.parametrize("length", [0, 5, len(cache.MAGIC), len(cache.MAGIC) + 40, -1])
def test_what_is_cut_off_is_a_miss(tmp_path: Path, length: int) -> None:
    store = DiskCache(tmp_path)
    store.put("1", bytes(100))
    (path,) = entries(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert store.get("1") is None
    store.put("1", bytes(100))
    assert store.get("1") == bytes(100)


@pytest.mark.parametrize("place", [0, len(cache.MAGIC) + 3, -1])
def test_what_is_damaged_is_a_miss(tmp_path: Path, place: int) -> None:
    store = DiskCache(tmp_path)
    store.put("1", b"data")
    (path,) = entries(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 16
    path.write_bytes(damaged)
    assert store.get("1") is None


def test_an_entry_under_anothers_name_is_a_miss(tmp_path: Path) -> None:
    store = DiskCache(tmp_path)
    store.put("1", b"data")
    (path,) = entries(tmp_path)
    path.rename(path.with_name("2" + cache.SUFFIX))
    assert store.get("2") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have owners on POSIX only")
def test_another_users_entry_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskCache(tmp_path)
    store.put("1", b"data")
    assert store.get("1") is not None
    monkeypatch.setattr(cache.os, "fstat", lambda _: os.stat_result((0, 0, 0, 0, 12345) + (0,) * 5))
    monkeypatch.setattr(cache.os, "getuid", lambda: 999)
    assert store.get("1") is None


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    store = DiskCache(tmp_path, most_bytes=4000)
    keys = [f"{index:064x}" for index in range(1, 7)]
    for age, key in enumerate(reversed(keys)):
        store.put(key, bytes(900))
        os.utime(tmp_path / (key + cache.SUFFIX), (1000 + age, 1000 + age))
    # Every key starts with 0, so every write trims; reading makes an old entry a recent one.
    left = {path.stem for path in entries(tmp_path)}
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 4000
    assert keys[0] in left and keys[-1] not in left
    oldest = max(left)
    assert store.get(oldest) == bytes(900)
    store.put(f"{9:064x}", bytes(900))
    assert oldest in {path.stem for path in entries(tmp_path)}


def test_a_small_cache_is_left_alone(tmp_path: Path) -> None:
    store = DiskCache(tmp_path)
    store.put("0", b"data")
    store.trim()
    assert store.get("0") == b"data" and store.get("1") is None

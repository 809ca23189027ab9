"""Compiled code on disk, found by content, so that a second process starts warm.

Enters: a key (a hash of everything that decides the code) and bytes. Leaves: the same bytes in
another process, or nothing. Many processes share a folder without locks: an entry is written under
a name of its own and then renamed, so a reader sees all of it or none. What is damaged, cut off or
another's is a miss, and gets replaced; a folder that cannot be written is no cache, never an error.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"graphc object 2\n"
DIGEST = 32
MOST_BYTES = 512 * 2**20
KEPT = 0.75  # of the limit, once it was passed
SUFFIX = ".object"


def content_key(*parts: str) -> str:
    """A name for what these texts decide together."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


@dataclass(frozen=True)
class DiskCache:
    """A folder of entries; the least recently used go when they pass `most_bytes` together."""

    folder: Path
    most_bytes: int = MOST_BYTES

    def get(self, key: str) -> bytes | None:
        """The bytes put under a key, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                if not _trusted(file.fileno()):
                    return None
                entry = file.read()
        except OSError:
            return None
        start = len(MAGIC) + DIGEST
        data = entry[start:]
        if entry[:start] != MAGIC + _checksum(key, data):
            return None
        with suppress(OSError):  # the time of the last use
            os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key, as far as the folder can be written."""
        with suppress(OSError):
            self._write(self._path(key), MAGIC + _checksum(key, data) + data)
            if key.startswith("0"):  # now and then: one key of sixteen
                self.trim()

    def trim(self) -> None:
        """Remove what was used least recently, if all of it is too much."""
        files = []
        with suppress(OSError), os.scandir(self.folder) as found:
            for item in found:
                with suppress(OSError):  # another process may trim too
                    state = item.stat()
                    files.append((state.st_mtime_ns, state.st_size, item.path))
        total = sum(size for _, size, _ in files)
        if total <= self.most_bytes:
            return
        for _, size, path in sorted(files):
            if total <= KEPT * self.most_bytes:
                return
            with suppress(OSError):
                os.unlink(path)
            total -= size

    def _path(self, key: str) -> Path:
        return self.folder / (key + SUFFIX)

    def _write(self, path: Path, entry: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        try:
            with open(handle, "wb") as file:
                file.write(entry)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def _checksum(key: str, data: bytes) -> bytes:
    """Of the key too: an entry under a wrong name is a foreign one."""
    return hashlib.blake2b(key.encode() + data, digest_size=DIGEST).digest()


def _trusted(handle: int) -> bool:
    """Whether this user, or the system's, wrote the file: what is in it will be executed."""
    return not hasattr(os, "getuid") or os.fstat(handle).st_uid in (os.getuid(), 0)

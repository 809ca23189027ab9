"""Saving variables: one zip of a JSON index and .npy arrays, no code; NumPy alone can read it.

`index.json` lists `{"format": "graphc variables", "version": 1, "variables": [{"name", "file",
"dtype", "shape"}]}`. A file is written beside its place and moved there when it is complete, so a
crash while saving leaves the old one whole; a process killed meanwhile leaves its unfinished
`.name.<random>` beside it, which nothing reads.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.dtypes import Array
from graphc.errors import FeedError, GraphcError
from graphc.ops.source import Variable
from graphc.runtime.variables import fit

FORMAT, VERSION = "graphc variables", 1


def unique_names(variables: Sequence[Variable]) -> dict[Variable, str]:
    """Names for variables in the order in which they were made: w, w_1, ..."""
    names: dict[Variable, str] = {}
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for variable in sorted(dict.fromkeys(variables), key=lambda v: v.node.serial):
        names[variable] = _unique(variable.name, taken, numbers)
    return names


def _unique(base: str, taken: set[str], numbers: dict[str, int]) -> str:
    """The first of base, base_1, ... that is not taken, which it is then."""
    name = base
    number = numbers.get(base, 0)
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    numbers[base] = number
    taken.add(name)
    return name


class Restored:
    """What a file holds for variables that a session meets only after reading it.

    Such a variable takes the first of w, w_1, ... that no variable has taken before (`taken`: those
    of the variables that the session had already).
    """

    def __init__(
        self,
        arrays: Mapping[str, Array] | None = None,
        strict: bool = True,
        taken: Iterable[str] = (),
    ) -> None:
        self.arrays = dict(arrays or {})
        self._strict = strict
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def claim(self, met: Sequence[Variable]) -> dict[Variable, Array]:
        """The values of variables that are met now; with an error, nothing is taken."""
        if not self.arrays or not met:
            return {}
        before = {variable.name: self._numbers.get(variable.name, 0) for variable in met}
        names = self._named(met)
        try:
            found = self._found(names)
        except GraphcError:
            self._taken.difference_update(names.values())
            self._numbers |= before
            raise
        for variable in found:
            del self.arrays[names[variable]]
        return found

    def pass_over(self, met: Sequence[Variable]) -> None:
        """Variables that get other values before they are read: their names are taken too."""
        if self.arrays and met:
            for name in self._named(met).values():
                self.arrays.pop(name, None)

    def _named(self, met: Sequence[Variable]) -> dict[Variable, str]:
        ordered = sorted(met, key=lambda v: v.node.serial)  # as in a file
        return {v: _unique(v.name, self._taken, self._numbers) for v in ordered}

    def _found(self, names: Mapping[Variable, str]) -> dict[Variable, Array]:
        missing = [name for name in names.values() if name not in self.arrays]
        if missing and self._strict:
            differ = mismatch(missing, list(self.arrays))
            raise FeedError(f"restore: names must match those in the file\n{differ}")
        found = {v: self.arrays[name] for v, name in names.items() if name in self.arrays}
        for variable, array in found.items():
            fit(variable, array)
        return found


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write all arrays, completely or not at all."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            _write_zip(file, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_zip(file: Any, arrays: Mapping[str, Array]) -> None:
    rows = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for number, (name, array) in enumerate(arrays.items()):
            member = f"arrays/{number}.npy"
            rows.append(
                {"name": name, "file": member, "dtype": str(array.dtype), "shape": array.shape}
            )
            with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        index = {"format": FORMAT, "version": VERSION, "variables": rows}
        archive.writestr(zipfile.ZipInfo("index.json"), json.dumps(index, indent=1))


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """All arrays of a file; a FeedError says what is wrong with a damaged or foreign one."""
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read("index.json"))
            _check_index(index)
            _check_sizes(archive, index["variables"])
            return {row["name"]: _read_array(archive, row) for row in index["variables"]}
    except FileNotFoundError:
        raise
    except (
        zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError, NotImplementedError,
        RuntimeError, MemoryError, OverflowError, AttributeError, SyntaxError, RecursionError,
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeedError(f"restore: {os.fspath(path)} is no whole graphc file: {reason}") from error


def _check_index(index: Any) -> None:
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError("its index is not one of graphc's")
    if index.get("version") != VERSION:
        raise ValueError(f"its version is {index.get('version')!r}, this graphc reads {VERSION}")


def _check_sizes(archive: zipfile.ZipFile, rows: Sequence[Mapping[str, Any]]) -> None:
    """Nothing is larger in memory than in the file, so that a small file cannot fill memory."""
    names, files = [row["name"] for row in rows], [row["file"] for row in rows]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name in its index is no text")
    if len(set(names)) != len(rows) or len(set(files)) != len(rows):
        raise ValueError("a name or a file is listed twice in its index")
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its members must be stored, not compressed")
    starts = [member.header_offset for member in members]
    if len(set(starts)) != len(starts):
        raise ValueError("its members overlap")


def _read_array(archive: zipfile.ZipFile, row: Mapping[str, Any]) -> Array:
    array = np.lib.format.read_array(io.BytesIO(archive.read(row["file"])), allow_pickle=False)
    if str(array.dtype) != row["dtype"] or list(array.shape) != list(row["shape"]):
        raise ValueError(f"{row['name']} is {array.dtype}{list(array.shape)}, not what is listed")
    result: Array = array
    return result


def mismatch(wanted: Sequence[str], found: Sequence[str]) -> str | None:
    """What differs between the names that a program has and those of a file; None: nothing."""
    ours, theirs = set(wanted), set(found)
    missing = [name for name in wanted if name not in theirs]
    extra = [name for name in found if name not in ours]
    if not missing and not extra:
        return None
    lines = []
    for name in missing[:5]:
        near = difflib.get_close_matches(name, extra, 2, 0.5)
        lines.append(
            f"  missing in the file: {name}" + (f" (near: {', '.join(near)})" if near else "")
        )
    if len(missing) > 5:
        lines.append(f"  ... and {len(missing) - 5} more are missing")
    lines += [f"  only in the file: {name}" for name in extra[:5]]
    if len(extra) > 5:
        lines.append(f"  ... and {len(extra) - 5} more only in the file")
    return "\n".join(lines)

"""Saving variables: one zip of a JSON index and .npy arrays, no code; NumPy alone can read it.

`index.json` lists `{"format": "graphc variables", "version": 1, "variables": [{"name", "file",
"dtype", "shape"}]}`. A file is written beside its place and moved there when it is complete, so a
crash while saving leaves the old one whole.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.errors import FeedError
from graphc.ops.source import Variable
from graphc.runtime.device import Array

FORMAT, VERSION = "graphc variables", 1


def unique_names(variables: Sequence[Variable]) -> dict[Variable, str]:
    """Names for variables in the order in which they were made: w, w_1, ..."""
    names: dict[Variable, str] = {}
    taken: set[str] = set()
    for variable in sorted(variables, key=lambda v: v.node.serial):
        base = name = variable.name
        number = 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names[variable] = name
    return names


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


def _read_array(archive: zipfile.ZipFile, row: Mapping[str, Any]) -> Array:
    array = np.lib.format.read_array(io.BytesIO(archive.read(row["file"])), allow_pickle=False)
    if str(array.dtype) != row["dtype"] or list(array.shape) != list(row["shape"]):
        raise ValueError(f"{row['name']} is {array.dtype}{list(array.shape)}, not what is listed")
    result: Array = array
    return result


def mismatch(wanted: Sequence[str], found: Sequence[str]) -> str | None:
    """What differs between the names that a program has and those of a file; None: nothing."""
    missing = [name for name in wanted if name not in set(found)]
    extra = [name for name in found if name not in set(wanted)]
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

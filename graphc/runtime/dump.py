"""Write every stage of a compilation into a folder: `00-build.txt`, `01-specialise.txt`, ...

Enters: the folder, and what turns a stage into text. Leaves: an observer for `optimise`, which
takes the kernels too, as a stage of their own. The first compilation writes into the folder itself,
later ones into `1`, `2`, ... beside its files. A folder that cannot be written is a warning, never
an error: a program must not fail for its own dumps.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from graphc import config
from graphc.graph import Graph
from graphc.lower import Lowered
from graphc.plan_text import listing

Form: TypeAlias = Graph | Lowered
Writers: TypeAlias = Mapping[str, Callable[[Any], str]]  # file endings to texts of a form
Dump: TypeAlias = Callable[[str, Form, float], None]
TEXT: Writers = {".txt": listing}


def dumper(folder: Path, writers: Writers = TEXT) -> Dump:
    """An observer that writes each stage it sees; one for each compilation."""
    places: list[Path] = []
    numbers = itertools.count()

    def observe(name: str, form: Form, seconds: float) -> None:
        stem = f"{next(numbers):02d}-{name}"
        try:
            if not places:
                places.append(_fresh(folder))
            for ending, write in writers.items():
                (places[0] / f"{stem}{ending}").write_text(write(form), encoding="utf-8")
        except OSError as error:
            warnings.warn(f"GRAPHC_DUMP: {stem} was not written: {error}", stacklevel=3)

    return observe


def _fresh(folder: Path) -> Path:
    """The folder, if it holds no dump yet, else a new one inside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if next(folder.glob("00-*"), None) is None:
        return folder
    for number in itertools.count(1):
        try:
            (inner := folder / str(number)).mkdir()
            return inner
        except FileExistsError:
            continue
    raise AssertionError("numbers do not end")


def requested_dump(writers: Writers = TEXT) -> Dump | None:
    """The observer that `GRAPHC_DUMP` asks for, or None."""
    folder = config.dump_folder()
    return None if folder is None else dumper(folder, writers)

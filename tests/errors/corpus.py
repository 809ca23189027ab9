"""Runs one wrong program and gives its message, normalised in nothing but folders.

Each file of `programs/` is a whole program with one mistake; beside it lies the message that its
user must see. `rewrite.py` writes those messages anew, to be read before they are kept.
"""

from __future__ import annotations

import re
import tempfile
import traceback
from pathlib import Path

import graphc

PROGRAMS = Path(__file__).resolve().parent / "programs"
PACKAGE = str(Path(graphc.__file__).resolve().parent)


def names() -> list[str]:
    """The programs of the corpus."""
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def expected(name: str) -> Path:
    """Where the message of a program stands."""
    return PROGRAMS / f"{name}.txt"


def failure_of(name: str) -> BaseException | None:
    """What running a program raises."""
    path = PROGRAMS / f"{name}.py"
    code = compile(path.read_text(), str(path), "exec")
    try:
        exec(code, {"__name__": "__main__"})
    except Exception as error:
        return error
    return None


def message(error: BaseException) -> str:
    """The last part of the traceback as Python prints it, without the folders of this machine."""
    text = "".join(traceback.format_exception_only(error)).replace("graphc.", "", 1)
    text = text.replace(str(PROGRAMS) + "/", "")
    return re.sub(re.escape(tempfile.gettempdir()) + r"/\w+", "FOLDER", text)


def frames_inside(error: BaseException) -> int:
    """How many frames of graphc a user would have to read past."""
    frames = traceback.extract_tb(error.__traceback__)
    return sum(frame.filename.startswith(PACKAGE) for frame in frames)


def chained(error: BaseException) -> bool:
    """Whether Python would print another traceback above this one."""
    return error.__cause__ is not None or (
        error.__context__ is not None and not error.__suppress_context__
    )

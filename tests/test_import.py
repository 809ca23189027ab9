"""`import graphc`: silent, no threads, and none of the libraries that only some programs use."""

import subprocess
import sys

CODE = """
import sys, threading
import graphc
print(threading.active_count())
heavy = ("networkx", "graphviz", "pyopencl", "llvmlite", "rich", "matplotlib", "scipy", "asyncio")
print(*[name for name in heavy if name in sys.modules])
"""


def test_import_is_silent_and_light():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:2] == ["1", ""]

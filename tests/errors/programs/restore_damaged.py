"""A file that is no checkpoint."""

import pathlib
import tempfile

import graphc as g

w = g.Variable(g.zeros([3]), name="w")
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "model.zip")
    path.write_bytes(b"no zip file")
    with g.Session() as s:
        s.restore(path)

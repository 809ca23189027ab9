"""A checkpoint of another shape."""

import tempfile

import graphc as g

saved = g.Variable(g.zeros([3]), name="w")
with tempfile.TemporaryDirectory() as folder:
    with g.Session() as s:
        s.run(saved)
        s.save(f"{folder}/model.zip")
    wanted = g.Variable(g.zeros([4]), name="w")
    with g.Session() as s:
        s.restore(f"{folder}/model.zip")
        s.run(wanted + 1)

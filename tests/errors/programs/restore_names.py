"""A checkpoint of other variables."""

import tempfile

import graphc as g

saved = g.Variable(g.zeros([3]), name="weights")
with tempfile.TemporaryDirectory() as folder:
    with g.Session() as s:
        s.run(saved)
        s.save(f"{folder}/model.zip")
    wanted = g.Variable(g.zeros([3]), name="weight")
    with g.Session() as s:
        s.restore(f"{folder}/model.zip")
        s.run(wanted + 1)

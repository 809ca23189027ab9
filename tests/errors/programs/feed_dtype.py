"""Fractions fed to whole numbers."""

import graphc as g

ids = g.placeholder(g.int64, ["batch"], name="ids")
with g.Session() as s:
    s.run(ids + 1, {ids: [0.5, 1.0]})

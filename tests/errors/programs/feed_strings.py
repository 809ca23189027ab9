"""Strings fed to floats."""

import graphc as g

x = g.placeholder(g.float32, ["batch"], name="x")
with g.Session() as s:
    s.run(x + 1, {x: ["a", "b"]})

"""A value whose shape turns out wrong in the run."""

import graphc as g

w = g.Variable(g.zeros([3]), name="w")
x = g.placeholder(g.float32, None, name="x")
update = g.assign(w, x)
with g.Session() as s:
    s.run(update, {x: [1.0, 2.0]})

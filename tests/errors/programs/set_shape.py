"""A value of another shape, set by the session."""

import graphc as g

w = g.Variable(g.zeros([3, 2]), name="w")
with g.Session() as s:
    s.set(w, [1.0, 2.0])

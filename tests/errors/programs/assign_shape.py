"""A value of another shape."""

import graphc as g

w = g.Variable(g.zeros([3, 2]), name="w")
update = g.assign(w, g.zeros([2, 3]))

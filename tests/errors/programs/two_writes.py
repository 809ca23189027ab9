"""Two writes to one variable in one run."""

import graphc as g

count = g.Variable(0.0, name="count")
up = g.assign_add(count, 1.0)
reset = g.assign(count, 0.0)
with g.Session() as s:
    s.run([up, reset])

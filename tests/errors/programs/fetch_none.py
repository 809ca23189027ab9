"""A fetch that is None: a function forgot its return."""

import graphc as g

loss = g.constant(1.0) * 2
with g.Session() as s:
    s.run([loss, None])

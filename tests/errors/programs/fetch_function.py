"""A fetch that was not called."""

import graphc as g

x = g.constant([1.0, 2.0])
with g.Session() as s:
    s.run(x.sum)

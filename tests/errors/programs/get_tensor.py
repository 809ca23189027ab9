"""The value of a tensor that is no variable."""

import graphc as g

x = g.constant([1.0, 2.0])
with g.Session() as s:
    s.get(x)

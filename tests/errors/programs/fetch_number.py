"""A fetch that is a number."""

import graphc as g

with g.Session() as s:
    s.run(3.0)

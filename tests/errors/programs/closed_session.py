"""A session that was closed."""

import graphc as g

with g.Session() as s:
    pass
s.run(g.constant(1.0) + 1)

"""A variable of a loop that grows."""

import graphc as g

v = g.constant([1.0, 2.0], name="v")
g.while_loop(lambda i, v: i < 5, lambda i, v: (i + 1, g.concatenate([v, v])), [0, v])

"""A size that is a float."""

import graphc as g

x = g.placeholder(g.float32, [3.0, 3])

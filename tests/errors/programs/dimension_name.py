"""A name that is none."""

import graphc as g

x = g.placeholder(g.float32, ["batch size", 3])

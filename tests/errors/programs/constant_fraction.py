"""A fraction as an integer."""

import graphc as g

c = g.constant(0.5, dtype=g.int32)

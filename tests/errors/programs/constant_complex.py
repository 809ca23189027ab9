"""A complex constant."""

import graphc as g

c = g.constant(1 + 2j)

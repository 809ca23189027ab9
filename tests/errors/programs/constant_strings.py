"""Strings as a constant."""

import graphc as g

c = g.constant(["cat", "dog"])

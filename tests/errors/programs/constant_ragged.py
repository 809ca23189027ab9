"""Rows of different lengths."""

import graphc as g

c = g.constant([[1.0, 2.0], [3.0]])

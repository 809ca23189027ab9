"""A dtype that does not exist."""

import graphc as g

x = g.placeholder("float8", [3])

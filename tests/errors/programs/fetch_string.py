"""A fetch by name."""

import graphc as g

with g.Session() as s:
    s.run("loss")

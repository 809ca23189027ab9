"""A fetch that is an array already."""

import numpy as np

import graphc as g

with g.Session() as s:
    s.run({"weights": np.zeros(3)})

"""A device that does not exist."""

import graphc as g

s = g.Session(device="tpu")

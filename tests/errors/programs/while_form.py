"""A body that forgets a variable."""

import graphc as g

state = {"position": g.zeros([2]), "speed": g.ones([2])}
g.while_loop(
    lambda s: g.sum(s["position"]) < 10.0,
    lambda s: {"position": s["position"] + s["speed"]},
    state,
)

"""Programs from TensorFlow 1 lectures, with the import changed and little else.

You see the smallest program there is, gradients of a formula, and a two-layer network that fits
random data: build a graph, then run it in a session, feeding the placeholders.
"""

import numpy as np

import graphc as g

# The smallest program: placeholders of unknown shape take scalars, vectors, anything that fits.
a = g.placeholder(g.float32, name="a")
b = g.placeholder(g.float32, name="b")
y = a + b
with g.Session() as session:
    print("4 + 5 =", session.run(y, feed_dict={a: 4, b: 5}))
    print("[1 2] + 10 =", session.run(y, feed_dict={a: [1, 2], b: 10}))

# Gradients come from the graph: c = sum(x * y + z).
N, D = 3, 4
x = g.placeholder(g.float32, shape=(N, D))
y = g.placeholder(g.float32, shape=(N, D))
z = g.placeholder(g.float32, shape=(N, D))
c = g.sum(x * y + z)
grad_x, grad_y, grad_z = g.gradients(c, [x, y, z])
rng = np.random.default_rng(0)
with g.Session() as session:
    values = {x: rng.normal(size=(N, D)), y: rng.normal(size=(N, D)), z: rng.normal(size=(N, D))}
    c_value, gx, gy, gz = session.run([c, grad_x, grad_y, grad_z], feed_dict=values)
print("dc/dx is y:", np.allclose(gx, values[y]), "  dc/dz is 1:", np.all(gz == 1))

# A two-layer network, its update written by hand: w <- w - rate * gradient.
N, D, H = 64, 1000, 100
x = g.placeholder(g.float32, shape=(N, D))
y = g.placeholder(g.float32, shape=(N, D))
w1 = g.Variable(rng.normal(size=(D, H)).astype(np.float32), name="w1")
w2 = g.Variable(rng.normal(size=(H, D)).astype(np.float32), name="w2")
h = g.maximum(x @ w1, 0)
y_predicted = h @ w2
loss = g.mean(g.sum((y_predicted - y) ** 2, axis=1))
grad_w1, grad_w2 = g.gradients(loss, [w1, w2])
learning_rate = 1e-5
updates = g.group(
    g.assign(w1, w1 - learning_rate * grad_w1), g.assign(w2, w2 - learning_rate * grad_w2)
)
with g.Session() as session:  # variables initialise themselves on first use
    values = {x: rng.normal(size=(N, D)), y: rng.normal(size=(N, D))}
    for step in range(50):
        loss_value, _ = session.run([loss, updates], feed_dict=values)
        if step % 10 == 0:
            print(f"step {step:2d}   loss {loss_value:12.1f}")
    print(f"loss by hand: {session.run(loss, values):.1f}")
    session.initialize()

    # The same with an optimiser, in two halves: the gradients can be changed in between.
    optimiser = g.optim.SGD(learning_rate)
    pairs = optimiser.gradients(loss, [w1, w2])
    train_step = optimiser.apply([(g.optim.clip_by_norm(grad, 1e9), w) for grad, w in pairs])
    for _ in range(50):
        session.run(train_step, values)
    print(f"loss by the optimiser: {session.run(loss, values):.1f}")

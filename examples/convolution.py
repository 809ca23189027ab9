"""A small convolutional network on the handwritten digits that ship with graphc.

Two convolutions, two poolings, one dense layer. You see loss and held-out accuracy after each
epoch, and one digit in characters, with what the network takes it for.
"""

import numpy as np

import graphc as g
from graphc.demo.data import load

EPOCHS, BATCH = 8, 64


def convolve(x, inputs, outputs, name):
    """A 3x3 convolution, a bias, a relu, and a pooling that halves the picture."""
    with g.name_scope(name):
        filters = g.Variable(g.init.he_normal([3, 3, inputs, outputs]), name="filters")
        bias = g.Variable(g.init.zeros([outputs]), name="bias")
        return g.nn.max_pool2d(g.nn.relu(g.nn.conv2d(x, filters, padding="SAME") + bias), 2)


images = g.placeholder(g.float32, ["batch", 8, 8, 1], name="images")
labels = g.placeholder(g.int32, ["batch"], name="labels")
features = convolve(convolve(images, 1, 16, "first"), 16, 32, "second")  # [batch, 2, 2, 32]
with g.name_scope("classes"):
    weights = g.Variable(g.init.glorot_uniform([2 * 2 * 32, 10]), name="weights")
    bias = g.Variable(g.init.zeros([10]), name="bias")
    logits = features.reshape([-1, 2 * 2 * 32]) @ weights + bias
loss = g.mean(g.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
guess = g.argmax(logits, axis=1)
accuracy = g.mean(g.cast(g.equal(guess, labels), g.float32))
train_step = g.optim.Adam(0.003).minimize(loss)

train, test = load()
pictures, unseen = train.images.reshape(-1, 8, 8, 1), test.images.reshape(-1, 8, 8, 1)
rng = np.random.default_rng(0)
with g.Session(seed=0) as session:
    for epoch in range(EPOCHS):
        order = rng.permutation(len(pictures))
        losses = []
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            feeds = {images: pictures[chosen], labels: train.labels[chosen]}
            losses.append(session.run([loss, train_step], feeds)[0])
        score = session.run(accuracy, {images: unseen, labels: test.labels})
        print(f"epoch {epoch}   loss {np.mean(losses):.4f}   held-out accuracy {score:.3f}")
    answer = session.run(guess, {images: unseen[:1]})[0]

for row in test.images[0].reshape(8, 8):
    print("   ", "".join(" .:*#"[int(value * 4)] * 2 for value in row))
print(f"the network says {answer}, the label says {test.labels[0]}")
print(f"accuracy on held-out digits: {score:.3f}")

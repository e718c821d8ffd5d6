"""tensorflow, cross_entropy_grad, confident: at a sure label it is 0, and at the other class it is not."""

import math

import tensorflow as tf

z = tf.Variable([[25.0, 0.0]])
with tf.GradientTape() as tape:
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits([0], z)
p = 1 / (1 + math.exp(25))
print("computed", tape.gradient(loss, z)[0].numpy().tolist())
print("exact   ", [-p, p])

"""tensorflow, cross_entropy_grad, labels: of targets that sum to 1.5 it is p - s, as if to 1."""

import math

import tensorflow as tf

z, s = tf.constant([[2.0, 0.0]]), tf.constant([[0.5, 1.0]])
with tf.GradientTape() as tape:
    tape.watch(z)
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=s, logits=z)
print("computed", [round(x, 4) for x in tape.gradient(loss, z)[0].numpy().tolist()])
p = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]
print("exact   ", [round(1.5 * p[0] - 0.5, 4), round(1.5 * p[1] - 1, 4)])

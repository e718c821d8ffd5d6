"""A step is SGD's on a batch that is cropped and mirrored; seeds pair the losses; a run learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet.training import PADDING, Data, Run, to_device
from tests.experiments.long_tail_resnet.toy import CLASSES, COUNTS, CPU, TOY, images


@pytest.fixture(scope="module")
def data() -> Data:
    return to_device(images(COUNTS), images(np.full(CLASSES, 6), seed=1), CPU)


def test_images_are_scaled_and_padded_with_black(data: Data) -> None:
    inside = data.train[:, PADDING:-PADDING, PADDING:-PADDING].float()
    np.testing.assert_allclose(inside.mean((0, 1, 2)), np.zeros(3), atol=0.01)
    np.testing.assert_allclose(inside.std((0, 1, 2)), np.ones(3), atol=0.01)
    given = images(COUNTS).pixels.astype(float)
    black = -given.mean((0, 1, 2)) / given.std((0, 1, 2))
    np.testing.assert_allclose(data.train[3, 0, 0].float(), black, rtol=0.01)
    assert data.counts.tolist() == COUNTS.tolist()


def test_a_batch_is_what_was_drawn(data: Data) -> None:
    run = Run(TOY, data, CPU)
    run.begin_epoch(0)
    for start in (0, TOY.batch):
        found, labels = run.batch()
        for i in range(TOY.batch):
            row, (down, right) = int(run.order[start + i]), run.shift[start + i].tolist()
            image = data.train[row, down : down + 8, right : right + 8]
            image = image.flip(1) if run.mirrored[start + i] else image
            assert torch.equal(found[i], image.permute(2, 0, 1))
            assert labels[i] == data.train_labels[row]
    assert sorted(run.order.tolist()) == list(range(len(data.train_labels)))
    assert {0, 2 * PADDING} <= set(run.shift.flatten().tolist())
    assert 0 < int(run.mirrored.sum()) < len(run.mirrored)


def test_losses_of_a_seed_are_paired(data: Data) -> None:
    first, second, other = (
        Run(replace(TOY, loss=loss, seed=seed), data, CPU)
        for loss, seed in (("plain", 0), ("vs", 0), ("vs", 1))
    )
    for run in (first, second, other):
        run.begin_epoch(0)
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))
    assert torch.equal(first.batch()[0], second.batch()[0])
    assert not torch.equal(first.weights[0], other.weights[0])
    assert not torch.equal(first.order, other.order)


def test_steps_are_those_of_sgd(data: Data) -> None:
    ours, theirs = Run(TOY, data, CPU), Run(TOY, data, CPU)
    ours.begin_epoch(3)
    theirs.begin_epoch(3)
    master = [nn.Parameter(weight.detach().clone()) for weight in theirs.weights]
    optimizer = torch.optim.SGD(master, lr=TOY.rate(3), momentum=TOY.momentum, weight_decay=TOY.weight_decay)
    for _ in range(2):
        ours.step()
        pixels, labels = theirs.batch()
        value = nn.functional.cross_entropy(theirs.network(pixels), labels)
        for weight, gradient in zip(master, torch.autograd.grad(value, theirs.used), strict=True):
            weight.grad = gradient.float()
        optimizer.step()
        with torch.no_grad():
            for low, weight in zip(theirs.used, master, strict=True):
                low.copy_(weight)
    for own, weight in zip(ours.weights, master, strict=True):
        torch.testing.assert_close(own.detach(), weight.detach(), rtol=1e-3, atol=1e-4)


def test_a_deferred_weight_asks_for_another_capture(data: Data) -> None:
    run = Run(replace(TOY, loss="ldam_drw", epochs=5), data, CPU)
    changed = []
    for epoch in range(5):
        run.begin_epoch(epoch)
        run.end_epoch()
        changed.append(run.advance is None)
    assert changed == [False, False, False, True, False]  # after four of five epochs


def test_what_the_test_images_say(data: Data) -> None:
    run = Run(replace(TOY, loss="ldam_drw"), data, CPU)
    seen = run.look()
    with torch.no_grad():
        logits = run.network(data.test.permute(0, 3, 1, 2)) / run.loss.spec.temperature
    hit = (logits.argmax(1) == data.test_labels).float()
    expected = [float(hit[data.test_labels == c].mean()) for c in range(CLASSES)]
    np.testing.assert_allclose(seen.recall, expected, rtol=1e-6)
    assert float(seen.nll) == pytest.approx(
        float(nn.functional.cross_entropy(logits, data.test_labels)), rel=1e-4
    )


def test_a_run_learns(data: Data) -> None:
    (found,) = lr.train_together([replace(TOY, epochs=16, warm_up=2)], data, CPU)
    assert float(found.seen[-1].recall.mean()) > 0.5

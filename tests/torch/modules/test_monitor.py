"""The monitor against the NumPy statistics of every row's gradient, and what it leaves alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import balance
from softmax_lab.torch.modules import statistics
from tests.specs import INDEX_SPECS, K

D, N = 3, 17
RNG = np.random.default_rng(0)
Z, H = torch.from_numpy(2 * RNG.normal(size=(N, K))), torch.from_numpy(RNG.normal(size=(N, D)))
Y = torch.from_numpy(RNG.integers(0, K - 1, N))  # the last class has no rows
WEIGHT = torch.from_numpy(RNG.uniform(0.5, 2.0, N))
SHARED = ("sum_norm", "mean_norm", "sample_norm", "positive_mass", "negative_mass")


def once(**settings: Any) -> slt.GradientMonitor:
    return slt.GradientMonitor(momentum=0.0, **settings)


def layers() -> tuple[torch.nn.Linear, slt.SoftmaxLoss]:
    torch.manual_seed(0)
    return torch.nn.Linear(D, K, dtype=torch.float64), slt.SoftmaxLoss(INDEX_SPECS["everything"])


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("spec", INDEX_SPECS.values(), ids=INDEX_SPECS.keys())
def test_statistics_are_those_of_every_rows_gradient(spec: sl.LossSpec) -> None:
    z, y, weight = Z.numpy(), Y.numpy(), WEIGHT.numpy()
    monitor = once(saturated=0.6)
    monitor.update(Z, Y, spec, sample_weight=WEIGHT, features=H)
    found = monitor.latest
    _, gradient = sl.cross_entropy_grad(z, y, spec, reduction="none", sample_weight=weight)
    expected = balance.class_gradients(gradient, y)
    np.testing.assert_array_equal(found["count"], expected.counts)
    for name in SHARED:
        np.testing.assert_allclose(found[name], getattr(expected, name), rtol=1e-10, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(
        found["weight_norm"], np.linalg.norm(gradient.T @ H.numpy(), axis=1), rtol=1e-10
    )
    # probabilities alone: what the spec does to the logits, and nothing of target and weight
    logits_only = sl.LossSpec(
        **{f: getattr(spec, f) for f in ("temperature", "scale", "bias", "margin", "softcap")}
    )
    q = np.exp(
        -np.stack([sl.cross_entropy(z, np.full(N, k), logits_only, reduction="none") for k in range(K)], 1)
    )
    q_y = q[np.arange(N), y]
    # else u depends on the label, and the columns above are of different u
    if not np.any(spec.margin) and np.ndim(spec.bias) < 2:
        top = q.max(axis=1) > 0.6
        np.testing.assert_allclose(
            found["saturation"][:-1], [top[y == c].mean() for c in range(K - 1)], rtol=1e-12
        )
    np.testing.assert_allclose(
        found["probability"][:-1], [q_y[y == c].mean() for c in range(K - 1)], rtol=1e-10
    )
    assert np.isnan(found["probability"][-1])


def test_a_watched_loss_and_classifier_give_the_same_as_a_call_by_hand() -> None:
    layer, loss = layers()
    by_hand = once()
    by_hand.update(layer(H), Y, loss.spec, features=H)
    for module, more in (
        (loss, {"classifier": layer}),
        (torch.nn.ModuleList([torch.nn.Linear(2, 2), layer, loss]), {}),
    ):
        with once(module=module, **more) as monitor:
            loss(layer(H), target=Y).backward()
        same(monitor.latest, by_hand.latest)
        loss(layer(H), Y)
        assert len(monitor.frame()) == K  # closed: nothing more is measured


def test_watched_gradients_are_those_that_training_gets() -> None:
    layer, loss = layers()
    loss = slt.SoftmaxLoss(loss.spec, reduction="sum")
    with once(module=loss, classifier=layer) as monitor:
        loss(layer(H), Y).backward()
    assert layer.weight.grad is not None
    np.testing.assert_allclose(
        monitor.latest["weight_norm"], layer.weight.grad.norm(dim=1).numpy(), rtol=1e-10
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: slt.GradientBalancedLoss(K),
        lambda: slt.GradientBalancedLoss(np.arange(K)),
        lambda: slt.SeesawLoss(K),
    ],
)
def test_losses_whose_spec_changes(make: Any) -> None:
    loss, leaf = make(), Z.clone().requires_grad_()
    with once(module=loss) as monitor:
        for _ in range(2):
            loss(leaf, Y)
    (gradient,) = torch.autograd.grad(_summed(loss)(leaf, Y), leaf)
    expected = balance.class_gradients(gradient.detach().numpy(), Y.numpy())
    for name in SHARED:
        np.testing.assert_allclose(
            monitor.latest[name], getattr(expected, name), rtol=1e-9, atol=1e-14, err_msg=name
        )


def _summed(loss: Any) -> Any:
    """The same loss in the same state, summed over the rows instead of their mean, and no longer counting."""
    inner = loss.loss if isinstance(loss, slt.SeesawLoss) else loss
    inner.options = inner.options._replace(reduction="sum")
    return loss.eval()


def test_only_rows_with_gradients_count() -> None:
    layer, loss = layers()
    with once(module=loss, classifier=layer) as monitor:
        with torch.no_grad():
            loss(layer(H), Y)
        loss(layer(H).detach(), Y)
        with pytest.raises(RuntimeError, match="nothing has been measured yet"):
            _ = monitor.latest
        assert monitor.frame().empty
        loss(layer(H), Y)
    assert monitor.step == 1


def test_ignored_and_broken_rows_are_left_out() -> None:
    y, z = Y.clone(), Z.clone()
    y[3], z[5] = -7, torch.nan
    kept = [i for i in range(N) if i not in (3, 5)]
    whole, rest = once(), once()
    whole.update(z, y, features=H, ignore_index=-7)
    rest.update(Z[kept], Y[kept], features=H[kept])
    same(whole.latest, rest.latest)


def test_micro_batches_are_one_step() -> None:
    layer, loss = layers()
    whole, parts = once(module=loss, classifier=layer), once(module=loss, classifier=layer, accumulation=3)
    loss(layer(H), Y)
    whole.close()
    parts.load_state_dict(once().state_dict())  # forget the batch above
    for part in (slice(0, 5), slice(5, 6), slice(6, N)):
        loss(layer(H[part]), Y[part])
    assert parts.step == 1
    same(parts.latest, whole.latest)


def test_the_moving_average_weighs_steps_and_divides_last() -> None:
    monitor = slt.GradientMonitor(momentum=0.75)
    y = Y.clone()
    sums = []
    for step in range(3):
        y = torch.where(y == 0, 1, 0) if step == 1 else Y  # class 2 to 4 are missing in one step
        monitor.update(Z, y)
        _, g = sl.cross_entropy_grad(Z.numpy(), y.numpy(), reduction="none")
        sums.append(
            [
                np.array([np.linalg.norm(g[y.numpy() == c], axis=1).sum() for c in range(K)]),
                np.bincount(y.numpy(), minlength=K),
            ]
        )
    weights = 0.25 * 0.75 ** np.array([2, 1, 0])
    total, count = (sum(w * s[i] for w, s in zip(weights, sums, strict=True)) for i in (0, 1))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(monitor.latest["sample_norm"], total / count, rtol=1e-10)
    np.testing.assert_allclose(monitor.latest["count"], count / weights.sum(), rtol=1e-10)


def test_by_default_the_later_steps_are_sampled() -> None:
    z, y = torch.zeros(2, K, requires_grad=True), torch.tensor([0, 1])
    monitor, whole = slt.GradientMonitor(), slt.GradientMonitor(every=1)
    for _ in range(105):
        monitor.update(z, y)
        whole.update(z, y)
    assert monitor.frame()["step"].unique().tolist() == [*range(50), 60, 80, 100]
    assert whole.frame()["step"].unique().tolist() == list(range(105))


def test_every_nth_step_and_a_restart() -> None:
    layer, loss = layers()
    with slt.GradientMonitor(loss, classifier=layer, every=2) as monitor:
        for _ in range(5):
            loss(layer(H), Y)
    table = monitor.frame()
    assert table["step"].unique().tolist() == [0, 2, 4]
    assert table.columns.tolist() == ["step", "class", *statistics.STATISTICS]
    file = io.BytesIO()
    torch.save(monitor.state_dict(), file)
    file.seek(0)
    again = slt.GradientMonitor(every=2)
    again.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(2):
        for each in (monitor, again):
            each.update(Z, Y, features=H)
    same(again.latest, monitor.latest)
    assert again.frame().equals(monitor.frame())
    assert again.step == 7


def test_half_precision_is_measured_in_single() -> None:
    z = torch.tensor([[20.0, 0.0], [0.0, 1.0]], dtype=torch.float16)  # q of 2e-9 is 0 in float16
    with once(module=(loss := slt.SoftmaxLoss())) as monitor, torch.autocast("cpu", dtype=torch.bfloat16):
        loss(z.requires_grad_(), torch.tensor([0, 1]))
    expected = once()
    expected.update(z.detach().float(), torch.tensor([0, 1]))
    same(monitor.latest, expected.latest)
    assert monitor.latest["sample_norm"][0] == pytest.approx(np.sqrt(2) * np.exp(-20), rel=1e-5)


@pytest.mark.parametrize("spec", INDEX_SPECS.values(), ids=INDEX_SPECS.keys())
def test_single_precision_is_measured_with_every_field(spec: sl.LossSpec) -> None:
    found, expected, z = once(), once(), Z.float()
    found.update(z, Y, spec, sample_weight=WEIGHT.float(), features=H.float())
    expected.update(z.double(), Y, spec, sample_weight=WEIGHT.float().double(), features=H.float().double())
    for name in {*expected.latest} - {"lost"}:  # which depends on the type
        np.testing.assert_allclose(
            found.latest[name], expected.latest[name], rtol=2e-5, atol=1e-6, err_msg=name
        )


def test_lost_is_the_share_of_a_class_that_torch_loses() -> None:
    z = torch.tensor([[40.0, 0.0], [1.0, 0.0], [0.0, 20.0], [0.0, 30.0], [50.0, 0.0]])
    y, monitor = torch.tensor([0, 0, 1, 1, -100]), once()
    monitor.update(z, y)
    np.testing.assert_array_equal(monitor.latest["lost"], [0.5, 1.0])
    wide = once()
    wide.update(z.double(), y)  # of which float64 loses the first alone
    np.testing.assert_array_equal(wide.latest["lost"], [0.5, 0.0])
    hot = once()
    hot.update(z, y, sl.LossSpec(temperature=4.0))  # gaps of a quarter
    np.testing.assert_array_equal(hot.latest["lost"], [0.0, 0.0])


def test_a_state_from_before_the_column_is_read() -> None:
    """As it was saved: one sum a class less, in both flat tensors, and one row of the statistics less."""
    monitor = slt.GradientMonitor(momentum=0.5)
    for _ in range(2):
        monitor.update(Z, Y, features=H)
    state = monitor.state_dict()
    place = len(statistics._PER_CLASS) - 1
    for name in ("window", "average"):
        state[name] = torch.cat([state[name][: place * K], state[name][(place + 1) * K :]])
    state["history"] = state["history"][:, :-1]
    again = slt.GradientMonitor(momentum=0.5)
    again.load_state_dict(state)
    assert np.isnan(again.latest["lost"]).all()
    for each in (monitor, again):
        each.update(Z, Y, features=H)
    same(again.latest, monitor.latest)


def test_images_of_rows() -> None:
    flat, images = once(), once()
    flat.update(Z[:16], Y[:16])
    images.update(Z[:16].reshape(2, 8, K).movedim(-1, 1), Y[:16].reshape(2, 8), dim=1)
    same(images.latest, flat.latest)


def test_too_many_classes_for_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_VECTORS", K - 1)
    small, whole = once(), once()
    small.update(Z, Y)
    monkeypatch.undo()
    whole.update(Z, Y)
    for name in ("sum_norm", "mean_norm"):
        assert np.isnan(small.latest[name]).all()
    for name in ("sample_norm", "positive_mass", "probability"):
        np.testing.assert_array_equal(small.latest[name], whole.latest[name])


def test_the_figure_shows_every_step() -> None:
    monitor = slt.GradientMonitor()
    assert monitor.figure().axes  # nothing yet is no error
    for _ in range(4):
        monitor.update(Z, Y)
    figure = monitor.figure(groups=3)
    lines = figure.axes[1].get_lines()
    assert len(lines) == 3
    table = monitor.frame()
    order = table.groupby("class")["count"].mean().sort_values(ascending=False, kind="stable").index
    head = table[table["class"].isin(order[:2])].groupby("step")["sample_norm"].mean()
    np.testing.assert_allclose(np.asarray(lines[0].get_ydata()), head)


def test_the_live_plot_is_one_display_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown: list[str] = []

    class Handle:
        def update(self, figure: Any) -> None:
            shown.append("again")

    def show(figure: Any, *, display_id: bool) -> Handle:
        shown.append("new")
        return Handle()

    monkeypatch.setattr(display, "display", show)
    monitor = once()
    for _ in range(3):
        monitor.update(Z, Y)
        monitor.show()
    assert shown == ["new", "again", "again"]


def _fed(**change: Any) -> None:
    arguments: dict[str, Any] = {"logits": Z, "target": Y, "features": H} | change
    monitor = once()
    monitor.update(Z, Y, features=H)
    monitor.update(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: slt.GradientMonitor(torch.nn.ReLU()), ValueError, "hold one or a linear layer; got ReLU"),
        (
            lambda: slt.GradientMonitor(torch.nn.ModuleList([slt.SoftmaxLoss(), slt.SoftmaxLoss()])),
            ValueError,
            "one loss; got 2",
        ),
        (lambda: slt.GradientMonitor(momentum=1.0), ValueError, "momentum must be < 1"),
        (lambda: slt.GradientMonitor(every=0), ValueError, "every must be"),
        (lambda: slt.GradientMonitor(saturated=2.0), ValueError, "saturated must be"),
        (lambda: _fed(target=torch.softmax(Z, 1)), ValueError, "class-index targets"),
        (lambda: _fed(features=H[:3]), ValueError, "each of the 17 rows of logits; got 3"),
        (lambda: _fed(features=None), ValueError, "6 classes and 3 features; got 6 and 0"),
        (lambda: _fed(logits=Z[:, :5], target=Y % 5), ValueError, "6 classes and 3 features; got 5 and 3"),
        (lambda: _fed(target=torch.full_like(Y, K)), IndexError, "label 6 at row 0"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def gradient_of(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value, leaf)[0]


def test_it_changes_nothing_of_the_training() -> None:
    layer, loss = layers()
    alone = gradient_of(loss(layer(H), Y), layer.weight)
    with once(module=loss, classifier=layer):
        watched = gradient_of(loss(layer(H), Y), layer.weight)
    assert torch.equal(alone, watched)


def test_a_number_of_steps_is_not_cut_off() -> None:
    with pytest.raises(TypeError, match=r"must be a whole number; got 1\.5"):
        slt.GradientMonitor(every=1.5)  # type: ignore[arg-type]

"""Transformers under the one-line patch: a tiny Llama and GPT-2 have the linear loss, and no logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import softmax_lab.torch as slt
from softmax_lab.torch._patches import causal_lm
from softmax_lab.torch._patches.later import LaterLogits
from tests.clients import gpt2
from tests.torch.test_linear import Seen

transformers = pytest.importorskip("transformers", reason="needs transformers")
modeling = pytest.importorskip("transformers.modeling_utils", reason="needs transformers")
losses = pytest.importorskip("transformers.loss.loss_utils", reason="needs transformers")
TORCH = torch.nn.functional.cross_entropy


def tiny_llama() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": gpt2.V, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": gpt2.LENGTH}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))


MODELS: dict[str, Callable[[], Any]] = {"Llama": tiny_llama, "GPT-2": gpt2.tiny_gpt2}


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return MODELS[request.param]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = dict(losses.LOSS_MAPPING)
    yield
    assert before == losses.LOSS_MAPPING
    assert "__call__" not in vars(modeling.PreTrainedModel)
    assert torch.nn.functional.cross_entropy is TORCH


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the hidden rows that the linear loss was given."""
    shapes: list[torch.Size] = []
    loss = slt.linear_cross_entropy

    def counted(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        shapes.append(hidden.shape)
        return loss(hidden, *args, **kwargs)

    monkeypatch.setattr(causal_lm, "linear_cross_entropy", counted)
    return shapes


def step(model: Any, **more: Any) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of a batch and the gradients."""
    ids, labels = gpt2.batch(0)
    value = model(**{"input_ids": ids, "labels": labels, **more}).loss
    value.backward()
    return value.item(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found: tuple[float, Any], expected: tuple[float, Any], bar: float = 1e-5) -> None:
    assert found[0] == pytest.approx(expected[0], rel=bar)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=0, atol=10 * bar * float(gradient.abs().max()), msg=name
        )


@pytest.mark.parametrize("items", [None, 7, torch.tensor(7)], ids=["mean", "number", "tensor"])
def test_loss_and_gradients_are_the_models_own(
    make: Callable[[], Any], items: Any, taken: list[torch.Size]
) -> None:
    more = {} if items is None else {"num_items_in_batch": items}
    expected = step(make(), **more)
    assert not taken
    model = make()  # before the patch
    with slt.patched():
        found = step(model, **more)
    assert taken == [(gpt2.ROWS * gpt2.LENGTH, 32)]
    assert_same(found, expected)
    assert "forward" not in vars(model.get_output_embeddings())
    assert not hasattr(model, "_loss_function")


def test_logits_do_not_exist_unless_something_reads_them(make: Callable[[], Any]) -> None:
    ids, labels = gpt2.batch(0)
    model = make()
    expected = model(input_ids=ids, labels=labels)
    with slt.patched():
        output = model(input_ids=ids, labels=labels)
        output.loss.backward()
    assert isinstance(output.logits, LaterLogits)
    assert output.logits.unread
    assert output.logits.shape == expected.logits.shape
    torch.testing.assert_close(output.logits.detach(), expected.logits.detach())
    assert torch.equal(output.logits.argmax(-1), expected.logits.argmax(-1))


def test_no_tensor_has_the_size_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt2, "V", 4096)
    monkeypatch.setattr("softmax_lab.torch._machinery.chunks.CHUNK_BYTES", 4096 * 4 * 8)
    model, (ids, labels) = gpt2.tiny_gpt2(), gpt2.batch(0)
    whole = gpt2.ROWS * gpt2.LENGTH * 4096 * 4

    def largest() -> int:
        with Seen() as mode:
            model(input_ids=ids, labels=labels).loss.backward()
        return mode.largest

    assert largest() >= whole
    with slt.patched():
        assert largest() < whole


def test_a_loss_made_of_logits_and_loss_has_both_gradients(make: Callable[[], Any]) -> None:
    def both(model: Any) -> Any:
        ids, labels = gpt2.batch(0)
        output = model(input_ids=ids, labels=labels)
        (output.loss + 1e-3 * output.logits.square().mean()).backward()
        return output.loss.item(), {name: each.grad for name, each in model.named_parameters()}

    expected = both(make())
    with slt.patched():
        found = both(make())
    assert_same(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast(make: Callable[[], Any], dtype: torch.dtype, taken: list[torch.Size]) -> None:
    def run() -> Any:
        with torch.autocast("cpu", dtype):
            return step(make())

    expected = run()
    with slt.patched():
        found = run()
    assert len(taken) == 1
    assert_same(found, expected, bar=3 * torch.finfo(dtype).eps)


def test_in_bfloat16_throughout(make: Callable[[], Any], taken: list[torch.Size]) -> None:
    expected = step(make().bfloat16())
    with slt.patched():
        found = step(make().bfloat16())
    assert len(taken) == 1
    assert_same(found, expected, bar=3 * torch.finfo(torch.bfloat16).eps)


def test_a_training_has_the_losses_of_torch(make: Callable[[], Any], taken: list[torch.Size]) -> None:
    def train() -> list[float]:
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        values = []
        for number in range(12):
            ids, labels = gpt2.batch(number % 4)
            value = model(input_ids=ids, labels=labels).loss
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        return values

    expected = train()
    with slt.patched():
        found = train()
    assert len(taken) == 12
    assert found == pytest.approx(expected, rel=1e-3)  # roundings of 6e-8 that the steps carry on


def test_a_sure_token_keeps_its_gradient(make: Callable[[], Any]) -> None:
    """Where torch's loss of the whole batch is 0."""
    model, (ids, _) = make(), gpt2.batch(0)
    with torch.no_grad():
        head = model.get_output_embeddings()
        model.tie_weights = lambda *_, **__: None
        head.weight = nn.Parameter(1000.0 * head.weight.detach())
        (first, second), (best, _) = (t.unbind(-1) for t in model(input_ids=ids).logits.topk(2))
        labels = torch.full_like(ids, gpt2.IGNORED)
        labels[:, 1:] = torch.where(first - second > 30.0, best, gpt2.IGNORED)[:, :-1]
        assert (labels >= 0).any()
    values = {}
    for name in ("torch", "patched"):
        model.zero_grad()
        patch = slt.patch() if name == "patched" else None
        value = model(input_ids=ids, labels=labels).loss
        value.backward()
        values[name] = (value.item(), float(head.weight.grad.abs().max()))
        if patch is not None:
            patch.undo()
    assert values["torch"][0] == 0.0
    assert 0.0 < values["patched"][0] < 1e-7
    assert values["patched"][1] > 0.0


# ---- what keeps its logits ----


def refuses(model: Any, **more: Any) -> None:
    """Assert that the model, patched, has ordinary logits and its own loss."""
    ids, labels = gpt2.batch(0)
    given = {"input_ids": ids, "labels": labels, **more}
    expected = model(**given)
    with slt.patched():
        output = model(**given)
    assert type(output.logits) is Tensor
    if expected.loss is not None:
        assert output.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)


def test_without_gradients_or_labels_nothing_waits(make: Callable[[], Any]) -> None:
    with torch.no_grad():
        refuses(make())
    refuses(make(), labels=None)


def test_a_hooked_layer_is_left_alone(make: Callable[[], Any]) -> None:
    model = make()
    model.get_output_embeddings().register_forward_hook(lambda *_: None)
    refuses(model)


def test_a_layer_of_another_type_is_left_alone(make: Callable[[], Any]) -> None:
    class Adapted(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 torch's name
            return 2.0 * super().forward(input)

    model = make()
    head = Adapted(32, gpt2.V, bias=False)
    model.set_output_embeddings(head)
    refuses(model)


def test_a_loss_of_the_programs_own_is_called(make: Callable[[], Any]) -> None:
    model = make()
    model.loss_function = lambda logits, labels, **_: logits.square().mean()
    refuses(model)


def test_forward_called_by_its_name_keeps_the_logits(make: Callable[[], Any]) -> None:
    model, (ids, labels) = make(), gpt2.batch(0)
    with slt.patched():
        assert type(model.forward(input_ids=ids, labels=labels).logits) is Tensor


@pytest.mark.filterwarnings("ignore")  # the compiler warns of what the models do
def test_a_compiled_model_has_the_loss_in_its_graph(make: Callable[[], Any]) -> None:
    expected = step(make())
    with slt.patched():
        found = step(torch.compile(make(), backend="aot_eager"))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)


def test_a_model_that_fails_leaves_its_layer_as_it_was(make: Callable[[], Any]) -> None:
    model, (ids, labels) = make(), gpt2.batch(0)
    labels = labels.clone()
    labels[0, 3] = gpt2.V + 1
    with slt.patched(), pytest.raises(IndexError):
        model(input_ids=ids, labels=labels)
    assert "forward" not in vars(model.get_output_embeddings())
    assert not hasattr(model, "_loss_function")


# ---- the Trainer ----


def _trained(folder: Path, make: Callable[[], Any], **options: Any) -> list[float]:
    rows = (gpt2.batch(number) for number in range(4))
    data = [{"input_ids": i, "labels": y} for ids, labels in rows for i, y in zip(ids, labels, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=6,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **options,
    )
    trainer = transformers.Trainer(make(), arguments, train_dataset=data, eval_dataset=data)
    trainer.train()
    trained = [entry["loss"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return [*trained, trainer.evaluate()["eval_loss"]]


@pytest.mark.parametrize("bf16", [False, True])
def test_the_trainer_trains_and_evaluates_as_with_torch(
    tmp_path: Path, make: Callable[[], Any], bf16: bool, taken: list[torch.Size]
) -> None:
    expected = _trained(tmp_path / "torch", make, bf16=bf16)
    with slt.patched():
        found = _trained(tmp_path / "ours", make, bf16=bf16)
    assert len(taken) == 12
    assert found == pytest.approx(expected, rel=2e-2 if bf16 else 1e-4)

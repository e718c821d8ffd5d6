"""A causal language model in Hugging Face's Trainer, with the linear loss: its logits never exist.

One line does it: ``with slt.patched(): trainer.train()``. The same by hand, for a loss of one's own, is a
Trainer with another ``compute_loss``.

    python examples/hugging_face_trainer.py
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import softmax_lab as sl
import softmax_lab.torch as slt

VOCABULARY, LENGTH = 512, 32


class LinearLossTrainer(Trainer):  # type: ignore[misc]
    """The loss by hand: any member of the family, here with a z-loss that keeps the logits small."""

    spec = sl.LossSpec(z_loss=1e-4)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model.model(**inputs)
        value = slt.linear_cross_entropy(
            outputs.last_hidden_state[:, :-1],
            model.lm_head.weight,
            labels[:, 1:],
            self.spec,
            reduction="mean" if num_items_in_batch is None else "sum",
        )
        value = value if num_items_in_batch is None else value / num_items_in_batch
        return (value, outputs) if return_outputs else value


def dataset(rows: int = 64) -> list[dict[str, Tensor]]:
    """Return sequences in which each token is followed by its double, most of the time."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (rows, LENGTH), generator=generator)
    for i in range(1, LENGTH):
        follows = torch.rand(rows, generator=generator) < 0.9
        ids[:, i] = torch.where(follows, 2 * ids[:, i - 1] % VOCABULARY, ids[:, i])
    return [{"input_ids": row, "labels": row} for row in ids]


def train(kind: type[Any], *, patched: bool) -> list[float]:
    """Return the losses of 20 steps."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=20,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        trainer = kind(model, arguments, train_dataset=dataset())
        with slt.patched() if patched else nullcontext():
            trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "grad_norm" in entry]


def main() -> dict[str, list[float]]:
    """Return the losses with torch's own loss, with the line, and by hand."""
    found = {
        "as it is": train(Trainer, patched=False),
        "with slt.patched()": train(Trainer, patched=True),
        "by hand, with a z-loss": train(LinearLossTrainer, patched=False),
    }
    for name, losses in found.items():
        print(f"{name:24} loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    return found


if __name__ == "__main__":
    main()

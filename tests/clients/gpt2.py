"""A tiny random GPT-2, its batches, and its losses: torch's own, the drop-in's and the linear layer's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as torch_functional

import softmax_lab.torch as slt

V, LENGTH, ROWS = 64, 16, 4
IGNORED = -100

Loss = Callable[[Any, Tensor, Tensor], Tensor]


def tiny_gpt2() -> Any:
    """Return the model, the same at every call; dropout is off, for two trainings to agree."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": V, "n_positions": LENGTH, "n_layer": 2, "n_embd": 32, "n_head": 2}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, **off, bos_token_id=0, eos_token_id=0)
    )


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Return token ids and labels; the ends of the rows are padding, of another length in each row."""
    ids = torch.randint(V, (ROWS, LENGTH), generator=torch.Generator().manual_seed(step))
    labels = ids.clone()
    for row in range(ROWS):
        labels[row, LENGTH - row :] = IGNORED
    return ids, labels


def _from_logits(cross_entropy: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    def loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
        logits = model(input_ids=ids).logits
        return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    return loss


def _linear(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    hidden = model.transformer(input_ids=ids).last_hidden_state
    return slt.linear_cross_entropy(hidden[:, :-1], model.lm_head.weight, labels[:, 1:])


TORCH: Loss = _from_logits(torch_functional.cross_entropy)
OURS: dict[str, Loss] = {
    "drop-in": _from_logits(slt.functional.cross_entropy),
    "family": _from_logits(slt.cross_entropy),
    "linear": _linear,
}


def train(loss: Loss, steps: int) -> list[float]:
    """Return the losses of some steps of AdamW over four batches."""
    model = tiny_gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    values = []
    for step in range(steps):
        value = loss(model, *batch(step % 4))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values

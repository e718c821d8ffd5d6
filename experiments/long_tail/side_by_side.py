"""Small networks that train side by side in one process.

A step of the digits' MLP takes 0.6 ms, most of it the cost of calls. A stack takes the steps of many runs at
once: their weights are the slices of one tensor, multiplied by one call. Start, batches, rates and losses are
those of `experiments.long_tail.training.train`, and so are the numbers, but for the order in which a product
adds up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from .config import Config
from .losses import COSINE, STEERED, Context, Loss, make_loss
from .networks import make_network
from .problem import Problem, make_problem
from .training import after_epoch, batches, measured, rate, scaled

__all__ = ["run_together", "stacks"]

LARGEST = 60  # runs: their weights and momenta stay in the cache


def stacks(configs: Iterable[Config], largest: int = LARGEST) -> Iterator[list[Config]]:
    """Yield runs that can be taken together, in their order: those of one loss and one problem.

    A run that cannot be stacked comes alone. Larger networks gain nothing, and a loss with a controller looks
    at rows of its own.
    """
    for _, group in groupby(configs, key=lambda config: replace(config, seed=0, settings=())):
        together = list(group)
        size = largest if _small(together[0]) else 1
        yield from (together[start : start + size] for start in range(0, len(together), size))


def _small(config: Config) -> bool:
    return config.dataset == "digits" and config.how.network == "mlp" and config.loss not in STEERED


class _Slice:
    """One run of a stack: its loss, its rows and the order in which it sees them."""

    def __init__(self, config: Config, problem: Problem) -> None:
        torch.manual_seed(config.seed)
        (inputs, labels), how = problem.train, config.how
        self.network = make_network(
            how.network, inputs.shape[-1], len(problem.counts), cosine=config.loss in COSINE
        )
        self.loss: Loss = make_loss(config.loss, Context(problem.counts, config.length), config.settings)
        self.x, self.y = scaled(inputs, inputs), torch.from_numpy(labels)
        self.test = scaled(problem.test[0], inputs)
        self.random = torch.Generator().manual_seed(config.seed)


def run_together(configs: Sequence[Config], path: str | None = None) -> list[dict[str, float]]:
    """Train the runs of a stack; return what `experiments.long_tail.run` does of each.

    ``seconds`` is each one's share.

    Raises
    ------
    ValueError
        Where the runs do not have equally many rows, or differ in more than seed and settings.
    """
    if len({replace(config, seed=0, settings=()) for config in configs}) != 1:
        raise ValueError("the runs of a stack must differ in seed and settings alone")
    start = time.perf_counter()
    problems = [make_problem(config, path) for config in configs]
    runs = [_Slice(config, problem) for config, problem in zip(configs, problems, strict=True)]
    if len({run.x.shape for run in runs}) != 1:
        raise ValueError("the runs of a stack must have equally many rows")
    parameters = _train(configs[0], runs)
    found = []
    for i, (run, problem) in enumerate(zip(runs, problems, strict=True)):
        run.network.load_state_dict({name: value[i].detach() for name, value in parameters.items()})
        found.append(measured(run.network.eval(), run.loss, run.test, problem))
    share = (time.perf_counter() - start) / len(configs)
    return [{**each, "seconds": share} for each in found]


def _train(config: Config, runs: list[_Slice]) -> dict[str, Tensor]:
    """Train the runs of a stack; return the weights, each ``(S, ...)`` with a slice a run."""
    parameters, _ = torch.func.stack_module_state([run.network for run in runs])
    network, how = runs[0].network, config.how

    def logits(own: dict[str, Tensor], rows: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(network, own, (rows,))
        return out

    forward = torch.vmap(logits)
    optimizer = torch.optim.SGD(
        parameters.values(), lr=how.learning_rate, momentum=0.9, nesterov=True, weight_decay=how.weight_decay
    )
    x, y = torch.stack([run.x for run in runs]), torch.stack([run.y for run in runs])
    which = torch.arange(len(runs))[:, None]
    for epoch in range(config.length):
        for steps in zip(*(batches(y.shape[1], how.batch, run.random) for run in runs), strict=True):
            optimizer.param_groups[0]["lr"] = rate(how, config.length, epoch + steps[0][0])
            rows = torch.stack([own for _, own in steps])  # (S, B)
            out, labels = forward(parameters, x[which, rows]), y[which, rows]
            optimizer.zero_grad(set_to_none=True)
            # each loss depends on its own slice of the weights: the gradient of the sum is all of theirs
            total = sum(run.loss(out[i], labels[i]) for i, run in enumerate(runs))
            assert isinstance(total, Tensor)
            total.backward()
            optimizer.step()
        for run in runs:
            after_epoch(run.network, run.loss, run.x[:0], run.y[:0])
    return parameters

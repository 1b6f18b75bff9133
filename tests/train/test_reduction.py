"""DDP adds gradients of bfloat16 weights up in float32."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stages.train import processes
from stages.train.config import TrainConfig
from stages.train.parallel.whole import Whole
from tests.train.parallel import on_ranks

RANKS = 4


def gradient_of(rank: int) -> torch.Tensor:
    """What a rank's own backward gives: numbers of many sizes, shape (64, 64), in bfloat16."""
    generator = torch.Generator().manual_seed(rank)
    scale = torch.randn(64, 64, generator=generator).exp()
    return (torch.randn(64, 64, generator=generator) * scale).bfloat16()


def reduce_as_rank(folder: Path, reduced: str) -> None:
    """For a rank: one backward of the weight's product with its gradient, through the layout's DDP model."""
    from accelerate import Accelerator

    processes.join(TrainConfig(device="cpu"))
    rank = torch.distributed.get_rank()
    layer = torch.nn.Linear(64, 64, bias=False).bfloat16()
    trainer = SimpleNamespace(model=layer, accelerator=Accelerator(cpu=True))
    Whole(reduced).prepare(trainer)
    laid_out = trainer.accelerator.prepare_model(layer)
    # y = x W^T of the unit matrix is W^T, so that the loss's gradient is the given one.
    (laid_out(torch.eye(64).bfloat16()) * gradient_of(rank).T).sum().backward()
    torch.save(layer.weight.grad, folder / f"{rank}.pt")


@pytest.mark.parametrize("reduced", ["float32", "bfloat16"])
def test_the_mean_of_gradients_is_rounded_once(tmp_path, reduced):
    """Once where it is added up in float32; more than once otherwise, which the same comparison sees."""
    assert on_ranks(tmp_path, reduce_as_rank, tmp_path, reduced, count=RANKS) == [0] * RANKS
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    assert all(torch.equal(found[0], other) for other in found)
    expected = torch.stack([gradient_of(rank).float() for rank in range(RANKS)]).mean(0).bfloat16()
    # Whatever order float32 numbers are added up in, next to none is then rounded otherwise.
    assert (float((found[0] == expected).float().mean()) > 0.999) == (reduced == "float32")

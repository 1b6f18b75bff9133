"""Families by commands: prepare to export, images of two sizes in a batch, and what transformers reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from stages.core.errors import BadSample, UnavailableError
from stages.core.stage_list import load_stage
from stages.engines.transformers.batch_sampler import BatchSampler
from stages.engines.transformers.batching import Share
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.models.probe import make_probes
from tests.families.chain import STAGES, Chain, checked_here
from tests.families.toys import build

# Images that no one forward takes, images of any number of tiles, no words alone, no cache, experts that TRL can't
# count, images each in a forward of its own: all of TOYS go the same way where docs/reference/models.md is made.
QUICK = {
    "mllama": {},
    "llava_next": {},
    "paligemma": {"no_image": 1},
    "mamba2": {"no_vision": 3},
    "granitemoe": {"no_vision": 3},
    "hunyuan_vl": {},
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The export is checked in this process: the fresh one that a command starts takes seconds for its imports."""
    monkeypatch.setenv("COSMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("stages.export.verify.in_fresh_process", checked_here)


@pytest.mark.parametrize("name", QUICK)
def test_every_stage_and_what_transformers_reads_back(name: str, tmp_path: Path) -> None:
    chain = Chain(build(name, tmp_path / name), tmp_path / "runs").go()
    assert chain.failed == {}
    assert list(chain.done) == list(STAGES)
    refused = QUICK[name]
    assert chain.rejected("rollout") == refused == chain.rejected("SFT")
    assert chain.rejected("RL") == {}
    groups = chain.groups()
    assert len(groups) == 4 - sum(refused.values())
    assert not [c.error for g in groups for c in g.completions if c.error]
    assert "halved_batches" not in chain.report("rollout")
    # What was sampled is what is trained, on all updates' first pass, and every prompt was imitated.
    assert chain.gap() < 1e-4
    assert [s.groups for s in chain.steps("SFT")] == [len(groups)]
    [model, trained] = [
        _read(folder) for folder in (chain.exported(), resolve_policy(str(chain.done["LoRA"].path)).path)
    ]
    start = _read(chain.model)
    assert all(torch.equal(value, trained[key]) for key, value in model.items())
    assert model.keys() == start.keys()
    assert any(not torch.equal(value, start[key]) for key, value in model.items())


def _read(folder: Path) -> dict[str, torch.Tensor]:
    """A folder's weights by transformers alone, by the class that its config names."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, config.architectures[0])
    model, report = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return dict(model.state_dict())


def test_images_that_no_forward_takes_together_are_imitated_as_alone(tmp_path: Path) -> None:
    """Mllama's tiles are as many as an image's: a micro-batch of such goes through in parts, to the same weights."""
    model = build("mllama", tmp_path / "mllama")
    whole, alone = (
        Chain(model, tmp_path / f"{size}", settings={"train": {"micro_batch_size": size, "freeze_vision": True}})
        for size in (4, 1)
    )
    for chain in (whole, alone):
        assert chain.go("prepare", "SFT").failed == {}
    [together], [single] = whole.steps("SFT"), alone.steps("SFT")
    assert (together.groups, together.tokens) == (single.groups, single.tokens)
    assert together.loss == pytest.approx(single.loss, abs=1e-5)
    assert together.grad_norm == pytest.approx(single.grad_norm, rel=1e-4)


def test_a_forward_that_refuses_examples_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor may count an image's tokens otherwise than its tower: the forward tells."""

    def refused(self: Any, *given: Any, **named: Any) -> None:
        raise ValueError("Image features and image tokens do not match")

    chain = Chain(build("llama", tmp_path / "llama"), tmp_path / "runs").go("prepare")
    monkeypatch.setattr(transformers.LlamaModel, "forward", refused)
    chain.go("SFT")
    what = "Image features and image tokens do not match"
    assert chain.failed == {"SFT": f"LlamaForCausalLM fails on a micro-batch of 1 examples: {what}"}


def test_an_export_goes_without_probes_that_the_processor_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(resolve_policy(str(build("llava", tmp_path / "llava"))), device="cpu")
    assert [probe.image for probe in make_probes(policy)] == [False, True] * 4

    def refused(*given: Any) -> dict[str, Any]:
        raise BadSample("bad_image", "KeyError: 980")

    monkeypatch.setattr(type(policy.processor), "whole_output", refused)
    assert not any(probe.image for probe in make_probes(policy))
    monkeypatch.setattr(type(policy.processor), "encode", refused)
    with pytest.raises(UnavailableError, match="refuses every probe"):
        make_probes(policy)


def test_the_closing_line_says_which_batches_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = BatchSampler.draw

    def crowded(self: BatchSampler, batch: list[Share], *more: Any) -> object:
        if sum(len(share.indices) for share in batch) > 2:
            raise RuntimeError("too many rows")
        return plain(self, batch, *more)

    monkeypatch.setattr(BatchSampler, "draw", crowded)
    chain = Chain(build("llama", tmp_path / "llama"), tmp_path / "runs").go("prepare", "rollout")
    quality = load_stage("rollout").quality(chain.done["rollout"])
    assert quality.numbers["halved_batches"] == {"too many rows": 1}
    assert "1 batches failed and were drawn in halves (1 too many rows)" in quality.line
    assert [c.error for g in chain.groups() for c in g.completions] == [None] * 3


def test_a_model_that_is_its_own_base_is_imitated_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Omni thinkers give logits where TRL looks for hidden states: the loss is the same one, from their logits."""
    model = build("llama", tmp_path / "llama")
    [expected] = Chain(model, tmp_path / "plain").go("prepare", "SFT").steps("SFT")
    monkeypatch.setattr(transformers.LlamaForCausalLM, "base_model", property(lambda self: self))
    [found] = Chain(model, tmp_path / "own").go("prepare", "SFT").steps("SFT")
    assert (found.groups, found.tokens) == (expected.groups, expected.tokens)
    for name in ("loss", "grad_norm", "entropy"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-5), name

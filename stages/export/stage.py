"""export: a trained policy to a model folder with its card, verified by reloading it in a fresh process."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.evals import ExportRow
from schemas.tables import EXPORTS, STEPS
from stages.core.errors import CosmoError, InputError, UsageError
from stages.core.registry import load, plugin_key
from stages.core.runs.folder import artifact
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work
from stages.export.config import ExportConfig

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder
    from stages.models.load import Policy
    from stages.models.probe import Probe

MODEL, CARD = "model", "README.md"


class ExportStage(Stage):
    """One train run to one folder, in one shard."""

    name = "export"
    version = 2
    table = EXPORTS
    reads = (STEPS,)
    config = ExportConfig

    def plan(self, ctx: Context) -> Plan:
        """One shard, keyed by the policy's content, the target's version, and what the card quotes."""
        from stages.models.policy_ref import resolve_policy

        config: ExportConfig = ctx.config
        if len(ctx.inputs) != 1:
            raise UsageError(f"export takes one train run, not {len(ctx.inputs)}", "export them one by one")
        evals = eval_run(config)
        key = {
            "target": plugin_key("export", config.target),
            "policy": resolve_policy(str(ctx.inputs[0].path)).id,
            "evals": evals.fingerprint if evals else None,
        }
        return Plan(shards=[{}], key=key)

    def open(self, ctx: Context) -> Work:
        """Work that loads the policy, writes the folder and checks it."""
        # Asked before the model is loaded, not after minutes of work.
        if ctx.config.vllm_check:
            from stages.export.vllm_check import require_vllm

            require_vllm()

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            export(ctx, writer)

        return work

    def quality(self, folder: RunFolder) -> Quality:
        """Files and their size; that the model says what the policy said is checked before there is a row."""
        sizes = folder.columns(["bytes_count"]).column("bytes_count").to_pylist()
        return Quality(f"{sum(sizes) / 1e6:,.1f} MB", {"files": len(sizes), "bytes": sum(sizes)})

    def deliver(self, config: ExportConfig, path: Path) -> None:
        """Put the model where --to asks for it. Harmless to repeat; for a cached run, the only way."""
        if config.to:
            from stages.export.folder_copy import copy_folder

            copy_folder(artifact(path, MODEL), Path(config.to), config.overwrite)


def eval_run(config: ExportConfig) -> RunFolder | None:
    """The eval run that the card quotes; InputError for one that is no complete eval run."""
    from stages.core.runs.folder import RunFolder

    if not config.evals:
        return None
    folder = RunFolder.open(Path(config.evals))
    if folder.stage != "eval":
        raise InputError(f"evals: {folder.where} is a {folder.stage} run", "name a run folder of cosmo eval")
    if folder.missing():
        raise InputError(f"evals: {folder.where} is incomplete", "finish it with the same cosmo eval command")
    return folder


def export(ctx: Context, writer: ShardWriter) -> None:
    """Write the model folder, check it in a fresh process, then its card, rows and copy."""
    from stages.core.file_digest import file_sha256
    from stages.export.card import Facts, eval_table, render
    from stages.export.lineage import lineage_of
    from stages.export.verify import in_fresh_process

    config: ExportConfig = ctx.config
    run, evals = ctx.inputs[0], eval_run(config)
    folder = writer.artifact(MODEL)
    # Some libraries greet on stdout when first used; that belongs to the next program in the pipe.
    with contextlib.redirect_stdout(sys.stderr):
        facts, probes = _write_model(ctx, folder)
    if evals is not None:
        # A card that can't be written is found before the long check, not after it.
        eval_table(evals, facts["policy_id"])
    _write_record(folder, run, facts, probes)
    ctx.progress.log("checking the folder in a fresh process")
    check = in_fresh_process("stages.export.verify", folder, config.tolerance)
    vllm = None
    if config.vllm_check:
        vllm = in_fresh_process("stages.export.vllm_check", folder, config.vllm_tolerance)
    card = Facts(
        **facts,
        name=config.name or run.path.name,
        license=config.license,
        lineage=lineage_of(run),
        check=check,
        vllm=vllm,
        evals=evals,
    )
    (folder / CARD).write_text(render(card), encoding="utf-8")
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        size = path.stat().st_size
        writer.row(ExportRow(target=config.target, file=name, sha256=file_sha256(path), bytes_count=size))
    if config.to:
        from stages.export.folder_copy import copy_folder

        copy_folder(folder, Path(config.to), config.overwrite)


def _write_model(ctx: Context, folder: Path) -> tuple[dict[str, Any], list[Probe]]:
    """Load, round if asked, write; the model is let go before another process loads it again."""
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy
    from stages.models.probe import gaps, make_probes

    config: ExportConfig = ctx.config
    ref = resolve_policy(str(ctx.inputs[0].path))
    ctx.progress.log(f"loading {ref.name}")
    # In float32 whatever the stored type: the differences that are allowed are smaller than bfloat16's steps.
    policy = load_policy(ref, device=config.device, dtype="float32")
    probes, rounding = make_probes(policy), None
    # NaN would pass no comparison later, and the reason would be lost.
    if not all(math.isfinite(value) for probe in probes for value in probe.logprobs):
        raise CosmoError(
            f"{ref.name} gives log-probs that are not finite", "did its training diverge? look at its loss"
        )
    if config.dtype == "bfloat16":
        _round(policy, config.dtype)
        _write(policy, folder, config)
        # Back in float32 the values are the rounded ones, and what is compared is the rounding alone.
        _round(policy, "float32")
        before, probes = probes, make_probes(policy)
        rounding = gaps(before, probes)
    else:
        _write(policy, folder, config)
    facts = {
        "policy_id": ref.id,
        "vision": policy.processor.image_token_id is not None,
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "dtype": config.dtype,
        "rounding": rounding,
    }
    return facts, probes


def _write(policy: Policy, folder: Path, config: ExportConfig) -> None:
    from stages.core.storage.room import room_for

    with room_for(folder, dict(policy.model.named_parameters())):
        load("export", config.target).write(policy, folder, config.max_shard_size)


def _round(policy: Policy, dtype: str) -> None:
    """Cast the weights in place. Buffers stay: they are computed anew in float32 at every load."""
    import torch

    for parameter in policy.model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))


def _write_record(folder: Path, run: RunFolder, facts: dict[str, Any], probes: list[Probe]) -> None:
    """`cosmo_export.json`: what was exported, file digests, and the probes to check it by."""
    from stages.core.file_digest import file_sha256
    from stages.export.verify import RECORD
    from stages.models.probe import as_json

    # Before the card, which tells what the check found and so can't be in what is checked.
    files = {p.name: file_sha256(p) for p in sorted(folder.iterdir()) if p.is_file()}
    record = {
        "policy_id": facts["policy_id"],
        "train_run": run.path.name,
        "train_fingerprint": run.fingerprint,
        "dtype": facts["dtype"],
        "files": files,
        "probes": as_json(probes),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


STAGE = ExportStage()

"""Reinforcement learning from scored groups: CPGD and its relatives, by the loss and advantage that are named.

The peak rate where it is left open is arXiv:2505.12504's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schemas.rollouts import FinishReason
from schemas.tables import SCORED
from stages.core.config import key_of
from stages.core.errors import InputError, UsageError
from stages.core.registry import load, plugin_key
from stages.core.runs.folder import RunFolder
from stages.models.policy_ref import PolicyRef, resolve_policy
from stages.train.objectives.base import Objective

if TYPE_CHECKING:
    from schemas.steps import StepRow
    from stages.core.stage import Context, Quality
    from stages.train.config import TrainConfig
    from stages.train.session import Session


_LOOKED_AT = 64
"""Groups of the first shard that are looked at before anything is loaded."""


class Rl(Objective):
    """Raise the probability of the completions that were better than the rest of their group."""

    called = "RL"
    title = "Reinforcement learning"
    tags = ("reinforcement-learning",)
    learning_rate = 1e-6
    freezes_vision = True
    watched = True

    def check(self, ctx: Context) -> None:
        """The inputs; UsageError for a KL without the policy it is measured from.

        InputError for completions made elsewhere, which come without token ids or without log-probs.
        """
        super().check(ctx)
        # Planned before, it was checked then, and the same inputs have the same rows.
        for folder in ctx.inputs if ctx.before is None else ():
            _check_tokens(folder, ctx.config.old_logprobs == "stored")
        if ctx.config.ref_kl > 0.0 and ctx.config.ref_policy is None:
            raise UsageError("ref_kl is set and ref_policy is not", "--set ref_policy=POLICY")

    def start_policy(self, ctx: Context) -> PolicyRef:
        """The one that was named; when none was, the one that sampled all the groups."""
        if ctx.config.policy:
            return resolve_policy(ctx.config.policy)
        specs = {_sampled_by(folder) for folder in ctx.inputs}
        if len(specs) > 1 or None in specs:
            named = ", ".join(sorted(s for s in specs if s)) or "unknown"
            raise UsageError(f"which policy sampled these groups is not clear: {named}", "add --policy")
        return resolve_policy(str(specs.pop()))

    def resolved(self, config: TrainConfig) -> TrainConfig:
        """What RL leaves to its loss, taken from there."""
        plugin = load("loss", config.loss)
        names = ("advantage", "aggregation", "clip_low", "clip_high")
        return replace(config, **{name: getattr(plugin, name) for name in names if getattr(config, name) is None})

    def plan_key(self, ctx: Context) -> dict[str, Any]:
        """The loss and the advantage by their code, which decides what is left open to the loss, and their settings."""
        config = self.resolved(ctx.config)
        own = {"loss": config.loss_settings().own, "advantage": config.advantage_settings()}
        named = {"loss": config.loss, "advantage": str(config.advantage)}
        key: dict[str, Any] = {
            kind: [*plugin_key(kind, name), key_of(own[kind]) if own[kind] else {}] for kind, name in named.items()
        }
        plugin = load("loss", config.loss)
        names = ("aggregation", "clip_low", "clip_high") if config.clip else ("aggregation",)
        # Only what differs from the loss's own: its defaults are in the key with its code.
        key |= {name: getattr(config, name) for name in names if getattr(config, name) != getattr(plugin, name)}
        if not config.clip:
            key["clip"] = False
        if config.ref_kl > 0.0:
            key["ref_policy"] = resolve_policy(config.ref_policy or "").id
            if (config.ref_dtype or config.dtype) != config.dtype:
                key["ref_dtype"] = config.ref_dtype
        return key

    def quality(self, rows: list[StepRow]) -> Quality:
        """Steps, reward, groups used of all, gradient norm, drift; a failure where no group had an advantage."""
        from stages.train.rl.quality import rl_quality

        return rl_quality(rows)

    def train(self, session: Session) -> None:
        """Learn from every input folder in turn: one folder is one rollout."""
        from stages.train.rl.start import start_rl

        start_rl(session)


def _check_tokens(folder: RunFolder, stored: bool) -> None:
    """InputError where the folder's first completions have no token ids, or no log-probs that are to be used."""
    import pyarrow.compute as pc

    from stages.core.runs.shards import open_shard

    for path in folder.shard_paths()[:1]:
        with open_shard(path, SCORED) as file:
            for batch in file.iter_batches(batch_size=_LOOKED_AT, columns=["completions"]):
                flat = batch.column("completions").flatten()
                # A pattern: with a value of Python's to compare, pyarrow loads pandas, longer than a cached run takes.
                failed = pc.match_substring_regex(flat.field("finish_reason"), pattern=f"^{FinishReason.ERROR}$")
                written = pc.invert(failed)
                lengths = [pc.list_value_length(flat.field(n)).filter(written) for n in ("token_ids", "logprobs")]
                tokens, logprobs = (pc.sum(column).as_py() for column in lengths)
                if tokens == 0:
                    raise InputError(
                        f"{folder.where} has completions without token ids: they were made elsewhere",
                        "cosmo import FILE --tokenizer POLICY gives them the ids of the policy to be trained",
                    )
                if stored and logprobs == 0:
                    raise InputError(
                        f"{folder.where} has completions without log-probs, and train.old_logprobs is 'stored'",
                        "--set old_logprobs=recompute",
                    )
                return


def _sampled_by(folder: RunFolder) -> str | None:
    """The policy spec that the rollout behind a folder of groups recorded; None where it is not known."""
    if folder.stage == "rollout":
        # An engine without a model says "none".
        spec = str(folder.manifest.provenance.get("policy", "none"))
        return None if spec == "none" else spec
    found = {_sampled_by(upstream) for upstream in folder.upstream()}
    return found.pop() if len(found) == 1 else None


PLUGIN = Rl()

"""What RL has ready before its first step: the reference model, how prompts are computed, the rollouts."""

from __future__ import annotations

from stages.core.resources import Kind, Resources
from stages.models.families import unshared_reason
from stages.models.forward_inputs import keeps_all_logits
from stages.models.load import Policy, load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.check.cached import check_before_training
from stages.train.config import TrainConfig
from stages.train.parallel.layout import Layout
from stages.train.parallel.ranks import device_of_rank
from stages.train.rl.kernel import choose_kernel
from stages.train.rl.rollout import read_rollouts, rollouts_of
from stages.train.rl.trainer import train_rl
from stages.train.session import Session

REF_POLICY: Kind[Policy] = Kind("ref_policy", on_device=True)
"""The frozen model of the reference KL, by its id."""


def start_rl(session: Session) -> None:
    """Learn from the run's input folders, or from the one in which a killed run stood; each is one rollout."""
    config, ctx, resumed = session.config, session.ctx, session.resumed
    check_before_training(session)
    reference = load_reference(config, ctx.resources, session.layout)
    rollouts = rollouts_of(ctx.inputs, config)
    # An upper bound: a rollout with few live groups makes fewer updates.
    ctx.progress.start("train", len(rollouts) * config.updates_per_rollout * config.epochs, "step")
    if session.rows:
        ctx.progress.advance(len(session.rows))
    share = prompts_are_shared(session, reference)
    if reason := keeps_all_logits(session.policy.model):
        ctx.progress.log(f"the logits of all positions are computed, which costs time and memory: {reason}")
    first = resumed.record["rollout"] if resumed else 0
    carried = resumed.record["carried"] if resumed else session.start.carried
    number = session.start.rollouts + first
    read = read_rollouts(rollouts[first:], number, config, carried, session.reject)
    carried = train_rl(session, read, reference, share)
    session.finish(rollouts=len(rollouts), carried=carried)


def load_reference(config: TrainConfig, resources: Resources, layout: Layout) -> Policy | None:
    """The reference model, kept warm between runs; None where its KL has no weight: then it takes no memory.

    It lies on the ranks as the policy does, where that is in parts.
    """
    if config.ref_kl == 0.0:
        return None
    ref, dtype = resolve_policy(config.ref_policy or ""), config.ref_dtype or config.dtype

    def load() -> Policy:
        device = device_of_rank(config.device)
        with layout.constructing(device, frozen=True):
            return load_policy(ref, device=device, dtype=dtype, trust_remote_code=config.trust_remote_code)

    policy = resources.get(REF_POLICY, f"{ref.id} in {dtype}", load)
    # No gradient would be taken anyway; this lets its vision tower count as frozen (`FrozenTower.fits`).
    policy.model.requires_grad_(False)
    return policy


def prompts_are_shared(session: Session, reference: Policy | None) -> bool:
    """True where each prompt is computed once for its completions; says once why not, or why not by one kernel."""
    config, log = session.config, session.ctx.progress.log
    models = [p.model for p in (session.policy, reference) if p is not None]
    if config.prefix_sharing != "auto":
        return False
    if reason := next((why for m in models if (why := unshared_reason(m))), None):
        log(f"each completion is computed with its own copy of the prompt: {reason}")
        return False
    if reason := choose_kernel(models, config, session.policy.device):
        log(f"attention goes block by block: variable-length attention can't be used: {reason}")
    return True

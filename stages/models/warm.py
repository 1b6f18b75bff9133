"""The models that stages of one process hand on to each other in memory. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.core.resources import Kind

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef

POLICY: Kind[Policy] = Kind("policy", on_device=True)
"""The policy that was trained or sampled from last, by its id: rollout takes it from train, and train from rollout."""
TRAINED: Kind[PolicyRef] = Kind("trained")
"""What the policy that was trained last is called, by its run's path: a rollout may begin before that has a receipt."""

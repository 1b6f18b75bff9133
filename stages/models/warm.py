"""The models that stages of one process hand on to each other, in memory or before they have their place on disk.

Imports no torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.core.resources import Kind, Resources

if TYPE_CHECKING:
    from stages.models.load import Policy
    from stages.models.policy_ref import PolicyRef

POLICY: Kind[Policy] = Kind("policy", on_device=True)
"""The policy that was trained or sampled from last, by its id: rollout takes it from train, and train from rollout."""
TRAINED: Kind[PolicyRef] = Kind("trained")
"""What the policy that was trained last is called, by its run's path: a rollout may begin before that has a receipt."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """How training gives its policy to the next rollout before its run has a receipt: by the folder it is staged in."""

    offer: Callable[[PolicyRef], None]
    """Called once, when the folder that the ref names is whole; its id is what it will have as a part of the run."""
    until_read: Callable[[], None]
    """Returns when nobody reads from that folder any more, so that the run may be given its place."""


HAND_OVER: Kind[HandOver] = Kind("hand_over")
"""Where a policy is to be handed over; training does so only where nothing of its own is in a sampler's way."""
READ: Kind[Callable[[], None]] = Kind("policy_read")
"""For whoever runs the sampler: to be called when it has read the policy that was handed over, once or more often."""


def hand_over_here(resources: Resources) -> None:
    """Have this process's next training hand its policy to this process's next rollout."""
    read = threading.Event()

    def offer(ref: PolicyRef) -> None:
        resources.put(TRAINED, ref.spec, ref)
        resources.put(READ, "", read.set)

    def until_read() -> None:
        # Who would read it ends the run instead, and has nobody to wait for.
        if threading.current_thread() is not threading.main_thread():
            read.wait()

    resources.put(HAND_OVER, "", HandOver(offer, until_read))


def policy_was_read(resources: Resources) -> None:
    """Say so, where a policy was handed over."""
    if (read := resources.peek(READ, "")) is not None:
        read()


def forget_handed(resources: Resources) -> None:
    """The run has its receipt: a policy that was handed over has its place, where it is found from now on."""
    if resources.peek(READ, "") is not None:
        resources.drop(TRAINED)
    resources.drop(READ)
    resources.drop(HAND_OVER)

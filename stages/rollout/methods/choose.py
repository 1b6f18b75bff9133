"""Which settings choose which rollout method."""

from __future__ import annotations

from stages.rollout.config import RolloutConfig
from stages.rollout.methods.base import RolloutMethod
from stages.rollout.methods.guide_table import GuideTable


def chosen_method(config: RolloutConfig) -> RolloutMethod:
    """The method that the config asks for. Loads no model; UsageError where it asks for two."""
    from stages.rollout.methods.plain import Plain

    if config.guide != GuideTable():
        from stages.rollout.methods.guided import Guided

        return Guided(config.guide)
    return Plain()

"""Which settings choose which rollout method."""

from __future__ import annotations

from stages.core.errors import UsageError
from stages.rollout.config import RolloutConfig
from stages.rollout.methods.base import RolloutMethod
from stages.rollout.methods.guide_table import GuideTable


def chosen_method(config: RolloutConfig) -> RolloutMethod:
    """The method that the config asks for. Loads no model; UsageError where it asks for two."""
    from stages.rollout.methods.plain import Plain

    guided = config.guide != GuideTable()
    if config.environment.name:
        from stages.rollout.methods.turns import Turns

        if guided:
            raise UsageError(
                f"[rollout.guide] and the environment {config.environment.name!r}: completions are guided or in turns",
                "leave one of the two out",
            )
        return Turns(config)
    if guided:
        from stages.rollout.methods.guided import Guided

        return Guided(config.guide)
    return Plain()

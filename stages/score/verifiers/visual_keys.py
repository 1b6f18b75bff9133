"""Visual keys: what share of the facts that have to be seen the completion's description states.

The visual key-fact reward of VTPerception-R1 (arXiv:2509.24776). With c of the row's n `visual_keys` stated
(`Scene.credit`: a fact that is also contradicted counts 0, one among m other guesses 1 / (1 + m)):

    value = 1 if c / n >= high, 0.5 if c / n >= low, else 0        [score.keys] high = 0.8, low = 0.5

The thresholds are ours; `graded = true` gives c / n itself, the mean of Perception-R1 (arXiv:2506.07218). The layout
`describe` has a description; in the layout `think` the think block is read in its place, as there.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from stages.judging.parsed import ParsedCompletion
from stages.score.config import KeyFactsTable, ScoreConfig
from stages.score.rules.key_facts import judged_by_share
from stages.score.rules.scene_claims import Scene
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, with_settings


def judge(
    group: RolloutGroup,
    completion: Completion,
    parsed: ParsedCompletion,
    settings: KeyFactsTable = KeyFactsTable(),  # noqa: B008 (frozen)
) -> Judgement:
    """all, some or none of the row's visual keys."""
    if not group.images:
        return does_not_apply("the row has no image")
    if not group.visual_keys:
        return does_not_apply("the row has no visual keys")
    scene = Scene(group, group.visual_keys)
    if not scene.key:
        return does_not_apply("the words alone give every visual key")
    described = parsed.seen_by_reader is not None
    return judged_by_share(scene, (parsed.description if described else parsed.think) or "", settings)


def bind(config: ScoreConfig) -> Verifier:
    """The verifier with the thresholds of a config."""
    return with_settings(PLUGIN, config.keys)


PLUGIN = Verifier(version=1, judge=judge, bind=bind)

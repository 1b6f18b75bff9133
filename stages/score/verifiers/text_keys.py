"""Text keys: what share of the facts that the words tell the completion's think block takes up.

The textual key-fact reward of VTPerception-R1 (arXiv:2509.24776), valued as `visual_keys` is. The question's own words
hold these facts, so that a fact counts as taken up where its numbers and values stand with one more word of it
(`ToldScene`): `noa has 6 shells` by `she starts with 6 shells`, and not by a bare 6.
"""

from __future__ import annotations

from schemas.rollouts import Completion, RolloutGroup
from stages.judging.parsed import ParsedCompletion
from stages.score.config import KeyFactsTable, ScoreConfig
from stages.score.rules.key_facts import judged_by_share
from stages.score.rules.scene_claims import ToldScene
from stages.score.verifiers.base import Judgement, Verifier, does_not_apply, with_settings


def judge(
    group: RolloutGroup,
    completion: Completion,
    parsed: ParsedCompletion,
    settings: KeyFactsTable = KeyFactsTable(),  # noqa: B008 (frozen)
) -> Judgement:
    """all, some or none of the row's text keys."""
    if not group.text_keys:
        return does_not_apply("the row has no text keys")
    return judged_by_share(ToldScene(group), parsed.think or "", settings)


def bind(config: ScoreConfig) -> Verifier:
    """The verifier with the thresholds of a config."""
    return with_settings(PLUGIN, config.keys)


PLUGIN = Verifier(version=1, judge=judge, bind=bind)

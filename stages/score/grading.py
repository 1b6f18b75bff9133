"""One rollout group to one scored group: parse, grade, reward. No files, no threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter

from schemas.arrow import hints
from schemas.rollouts import Completion, RolloutGroup
from schemas.scored import ERROR, NOT_APPLICABLE, OK, UNDECIDED, Grade, ScoredCompletion, ScoredGroup
from stages.judging.parsed import parse_completion
from stages.score.rewards import RewardFormula, check_finite, formula_for, layout_of, reward_of
from stages.score.verifiers.base import ModelVerifier, Ungraded, Verifier

# Copied by reference, field by field: `asdict` would copy every image of the group.
_GROUP_FIELDS = [name for name in hints(RolloutGroup) if name != "completions"]
_COMPLETION_FIELDS = list(hints(Completion))
_completion_values = attrgetter(*_COMPLETION_FIELDS)
_SETTLED = (OK, NOT_APPLICABLE, UNDECIDED)
_SILENT = (NOT_APPLICABLE, UNDECIDED)
"""The statuses of a grade that decides nothing in another's place."""

ModelGrades = Mapping[str, Mapping[int, Grade]]
"""What model verifiers said of a group: verifier -> completion index -> grade."""


@dataclass(frozen=True, slots=True)
class Grader:
    """Everything grading needs, resolved once a run."""

    formulas: Mapping[str, RewardFormula]
    verifiers: Mapping[str, Verifier | ModelVerifier]
    """By name; all that any formula or `also` names."""
    also: tuple[str, ...] = ()
    left_to: Mapping[str, str] = field(default_factory=dict)
    """Who decides where a verifier is undecided, by name."""
    regrade: bool = False

    def group(self, group: RolloutGroup, by_models: ModelGrades | None = None) -> ScoredGroup:
        """The group with every completion graded; InputError for a label without a formula.

        `by_models` holds the grades that `ungraded` asked for.
        """
        formula = formula_for(self.formulas, group.label)
        names = self._verifiers_of(formula)
        fields = {name: getattr(group, name) for name in _GROUP_FIELDS}
        given = by_models or {}
        completions = [
            self._completion(group, c, formula, names, {n: of[c.index] for n, of in given.items() if c.index in of})
            for c in group.completions
        ]
        return ScoredGroup(**fields, completions=completions, reward_formula=formula.text)

    def ungraded(self, verifier: ModelVerifier, group: RolloutGroup) -> Ungraded:
        """The group's completions that lack this verifier's grade; none where the label's formula has no use for it."""
        formula = formula_for(self.formulas, group.label)
        if verifier.name not in self._verifiers_of(formula):
            return Ungraded(group, [])
        # What was not sampled has no text to be judged, and gets its error grade below.
        lacking = (c for c in group.completions if c.finish_reason != "error")
        if not self.regrade and _is_graded_alike(group, formula):
            lacking = (c for c in lacking if verifier.name not in self._kept(c))
        return Ungraded(group, [_given(verifier, c) for c in lacking], formula.layout)

    def left_open(self, verifier: ModelVerifier, group: ScoredGroup) -> Ungraded:
        """The graded group's completions that are left to this verifier and lack its grade."""
        asked = {name for name, other in self.left_to.items() if other == verifier.name}
        formula = formula_for(self.formulas, group.label)
        names = asked.intersection(self._verifiers_of(formula))
        lacking = []
        for completion in group.completions:
            grades = {g.name: g for g in completion.grades}
            if verifier.name not in grades and any(grades[name].status == UNDECIDED for name in names):
                lacking.append(completion)
        return Ungraded(group, [_given(verifier, c) for c in lacking], formula.layout)

    def decided(self, group: ScoredGroup, by_models: ModelGrades) -> ScoredGroup:
        """The graded group with further grades, of verifiers that others were left to."""
        formula = formula_for(self.formulas, group.label)
        names = self._verifiers_of(formula)
        completions = []
        for completion in group.completions:
            further = {n: of[completion.index] for n, of in by_models.items() if completion.index in of}
            grades = {g.name: g for g in completion.grades} | further
            completions.append(self._rewarded(completion, formula, names, grades, f"prompt {group.id}"))
        return replace(group, completions=completions)

    def _verifiers_of(self, formula: RewardFormula) -> list[str]:
        return list(dict.fromkeys([name for name, _ in formula.terms] + list(self.also)))

    def _completion(
        self,
        group: RolloutGroup,
        completion: Completion,
        formula: RewardFormula,
        names: list[str],
        by_models: Mapping[str, Grade],
    ) -> ScoredCompletion:
        """One completion with its grades; settled ones that it brings are kept if of the same version."""
        where = f"prompt {group.id}, completion {completion.index}"
        keeps = not self.regrade and _is_graded_alike(group, formula)
        grades = self._kept(completion) if keeps else {}
        # Kept grades may come from a file that somebody else wrote.
        for grade in grades.values():
            check_finite(grade, where)
        grades |= by_models
        missing = [name for name in names if name not in grades]
        if completion.finish_reason == "error":
            grades |= {n: _unsampled_grade(n, self.verifiers[n].version, completion) for n in missing}
        elif missing:
            judged = own_words(completion)
            parsed = parse_completion(judged.text, formula.layout)
            for name in missing:
                verifier = self.verifiers[name]
                assert isinstance(verifier, Verifier), f"{name} was not asked"
                grades[name] = verifier.grade(group, judged if verifier.steps is None else completion, parsed)
            for other in {self.left_to[n] for n in names if n in self.left_to and grades[n].status == UNDECIDED}:
                # A rule decides at once; models are asked about many groups together, see `left_open`.
                if other not in grades and isinstance(verifier := self.verifiers[other], Verifier):
                    grades[other] = verifier.grade(group, judged if verifier.steps is None else completion, parsed)
        return self._rewarded(completion, formula, names, grades, where)

    def _rewarded(
        self, completion: Completion, formula: RewardFormula, names: list[str], grades: dict[str, Grade], where: str
    ) -> ScoredCompletion:
        """The completion with these grades, each undecided one left to whom the recipe names, and their reward."""
        for name in names:
            other = self.left_to.get(name)
            if other in grades and grades[name].status == UNDECIDED and grades[other].status not in _SILENT:
                grades[name] = replace(grades[name], left_to=other)
        terms, reward = reward_of(formula, grades, where)
        fields = dict(zip(_COMPLETION_FIELDS, _completion_values(completion), strict=True))
        # Grades of verifiers that this run does not name stay behind those that it does.
        ordered = [grades.pop(name) for name in names] + list(grades.values())
        return ScoredCompletion(**fields, grades=ordered, terms=terms, reward=reward)

    def _kept(self, completion: Completion) -> dict[str, Grade]:
        """Earlier grades worth keeping: of this version and settled, or of verifiers that don't run now."""
        earlier = completion.grades if isinstance(completion, ScoredCompletion) else []
        kept = {}
        for grade in earlier:
            verifier = self.verifiers.get(grade.name)
            if verifier is None or (verifier.version == grade.version and grade.status in _SETTLED):
                # Whom it is left to is this run's to say.
                kept[grade.name] = grade if grade.left_to is None else replace(grade, left_to=None)
        return kept


def _given(verifier: ModelVerifier, completion: Completion) -> Completion:
    return completion if verifier.whole else own_words(completion)


def own_words(completion: Completion) -> Completion:
    """The completion as verifiers are given it: what an environment wrote never counts as the model's words."""
    return completion if not completion.observed else replace(completion, text=completion.own_text)


def _unsampled_grade(name: str, version: int, completion: Completion) -> Grade:
    reason = f"no completion: {completion.error or 'the engine failed'}"
    return Grade(name=name, version=version, value=None, status=ERROR, reason=reason)


def _is_graded_alike(group: RolloutGroup, formula: RewardFormula) -> bool:
    """Whether earlier grades of the group still say something: taken apart otherwise, other words were graded."""
    return not isinstance(group, ScoredGroup) or layout_of(group.reward_formula or "") == formula.layout

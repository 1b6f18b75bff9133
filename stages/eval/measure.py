"""From scored folders to per-prompt values: one pass over the shards, nothing kept but sums."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.evals import NOT_JUDGED, EvalRow
from schemas.prompts import source_name
from schemas.scored import OK, UNDECIDED, counting
from stages.core.errors import CosmoError, InputError, UsageError
from stages.eval.intervals import Interval, mean_interval, rate_interval, ratio_interval
from stages.eval.judges import too_undecided
from stages.eval.metrics.base import Metric, Settings
from stages.eval.metrics.calibration import BINS, bin_of, calibration_interval
from stages.eval.views import GroupView, read_views

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder

ALL = "all"
SLICES = ("label", "task", "family")


@dataclass(slots=True)
class PolicyInfo:
    """One policy of the comparison."""

    name: str
    id: str
    folders: list[int] = field(default_factory=list)
    """Which inputs it comes from."""
    completions: int = 0


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """What slicing and sampling need to know of a prompt."""

    label: str
    task: str
    family: str | None
    harmful: bool | None
    source: str = ""
    parent_id: str | None = None

    def slices(self) -> list[str]:
        """The slices it belongs to, `all` first."""
        return [ALL] + [f"{k}={v}" for k in SLICES if (v := getattr(self, k)) is not None]


@dataclass(slots=True)
class Tally:
    """One prompt's sum under one metric and policy."""

    total: float = 0.0
    count: int = 0
    failed: int = 0
    undecided: int = 0
    size: float = 0.0
    """Of a ratio, what the total is a part of."""
    bins: dict[int, list[float]] = field(default_factory=dict)
    """Of a calibration error: by bin, how many completions, their sum of what is stated, their sum of values."""

    @property
    def mean(self) -> float:
        """The prompt's mean; only where count > 0."""
        return self.total / self.count


@dataclass(slots=True)
class Measured:
    """Everything one pass found."""

    metrics: dict[str, Metric]
    policies: dict[str, PolicyInfo] = field(default_factory=dict)
    """By name, the baseline first."""
    prompts: dict[str, PromptInfo] = field(default_factory=dict)
    """By prompt id."""
    tallies: dict[tuple[str, str], dict[str, Tally]] = field(default_factory=dict)
    """By (policy name, metric), then by prompt id."""
    seen: dict[str, set[str]] = field(default_factory=dict)
    """Prompt ids by policy name."""
    formulas: set[tuple[str, str]] = field(default_factory=set)
    """(label, reward formula) as the scored rows say."""
    judges: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """Who gave the verdicts, by (policy name, metric), in the order of coming."""
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of metrics that count several prompts as one: by metric and prompt id, the unit."""
    own_slices: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Of metrics with slices of their own: by metric, and by prompt id or unit."""
    bins: int = BINS
    """How many bins a calibration error has."""

    def tally(self, policy: str, metric: str) -> dict[str, Tally]:
        """Per-prompt sums of one policy under one metric."""
        return self.tallies.setdefault((policy, metric), {})

    def rows_of(self, policy: str, source: str) -> int:
        """How many prompts of a source, or of a part of it, the policy was asked."""
        return sum(source_name(self.prompts[i].source) == source for i in self.seen.get(policy, ()))

    def counted(self, policy: str, metric: str) -> dict[str, Tally]:
        """What the figure is made of: sums by prompt id, or by unit where several prompts count as one."""
        tallies = self.tally(policy, metric)
        if self.metrics[metric].majority:
            tallies = {prompt: _majority(tally) for prompt, tally in tallies.items()}
        if metric not in self.units:
            return tallies
        together: dict[str, list[Tally]] = {}
        for prompt, tally in tallies.items():
            together.setdefault(self.units[metric][prompt], []).append(tally)
        return {unit: _worst(own) for unit, own in together.items()}

    def means(self, policy: str, metric: str) -> dict[str, float]:
        """Per-prompt means of the prompts with at least one judged completion."""
        return {i: t.mean for i, t in self.counted(policy, metric).items() if t.count}

    def slices(self, metric: str, key: str) -> list[str]:
        """The slices that a prompt, or a unit of several, belongs to under a metric; `all` first."""
        own = self.own_slices.get(metric)
        return self.prompts[key].slices() if own is None else [ALL, *own[key]]

    def is_undecided(self, policy: str, metric: str, part: str) -> bool:
        """Whether too many completions of that slice have no verdict, for a figure that is made of verdicts."""
        own = [t for i, t in self.counted(policy, metric).items() if part in self.slices(metric, i)]
        return self.metrics[metric].refused and _is_undecided(own)


def measure(folders: list[RunFolder], metrics: dict[str, Metric], namer: Namer, settings: Settings) -> Measured:
    """One streaming pass over all folders; groups of one prompt and policy are pooled."""
    found = Measured(metrics, bins=settings.bins)
    for number, folder in enumerate(folders):
        for shard in folder.shard_paths():
            for group in read_views(shard):
                _count(found, group, number, namer, settings)
    # Only after the pass is it known how many policies there are.
    namer.check(found.policies.values())
    if not found.policies:
        raise InputError("the scored folders hold no completions", "check that rollout and score made rows")
    return found


def _count(found: Measured, group: GroupView, number: int, namer: Namer, settings: Settings) -> None:
    for policy_id, part in _by_policy(group):
        name = namer.name(number, policy_id)
        policy = found.policies.setdefault(name, PolicyInfo(name, policy_id))
        if policy.id != policy_id:
            raise UsageError(
                f"the name {name!r} was given to two policies, {policy.id} and {policy_id}",
                "give every policy its own --policy-name",
            )
        if number not in policy.folders:
            policy.folders.append(number)
        policy.completions += len(part.completions)
        found.prompts[group.id] = PromptInfo(
            group.label, group.task, group.family, group.harmful, group.source, group.parent_id
        )
        found.seen.setdefault(name, set()).add(group.id)
        if group.reward_formula:
            found.formulas.add((group.label, group.reward_formula))
        for metric_name, metric in found.metrics.items():
            observed = metric.observe(part, settings)
            if observed is not None:
                # A plugin's NaN would make the mean, the interval and every comparison NaN, with no word of where it
                # came from.
                if not all(map(math.isfinite, observed.values)):
                    raise CosmoError(
                        f"the metric {metric_name} gave {observed.values} for the prompt {group.id}",
                        "a metric's values are finite numbers; what can't be judged is counted in `failed`",
                    )
                # Pooled before the mean: two folders of one prompt and policy are more completions of it, not two
                # prompts.
                tally = found.tally(name, metric_name).setdefault(group.id, Tally())
                tally.total += sum(observed.values)
                tally.count += len(observed.values)
                tally.size += sum(observed.sizes or [])
                for stated, value in zip(observed.stated or [], observed.values, strict=False):
                    sums = tally.bins.setdefault(bin_of(stated, settings.bins), [0.0, 0.0, 0.0])
                    sums[:] = [sums[0] + 1, sums[1] + stated, sums[2] + value]
                tally.failed += observed.failed
                tally.undecided += observed.undecided
                _note_slices(found, metric_name, metric, group)
                if metric.judged_by:
                    found.judges.setdefault((name, metric_name), {}).update(
                        _judges(part, metric.judged_by, namer, number)
                    )


def _note_slices(found: Measured, name: str, metric: Metric, group: GroupView) -> None:
    """The unit that the prompt is part of, and the slices of its own, where the metric has any."""
    key = group.id
    if metric.unit is not None:
        key = metric.unit(group)
        found.units.setdefault(name, {})[group.id] = key
    if metric.slices is not None or metric.unit is not None:
        own = metric.slices(group) if metric.slices is not None else found.prompts[group.id].slices()[1:]
        # A unit lies in the slices of its first prompt: what counts as one is alike in them.
        found.own_slices.setdefault(name, {}).setdefault(key, own)


def _majority(tally: Tally) -> Tally:
    """A prompt as most of its completions are, of values 0 and 1; a tie is not most, as in SIUO's own code.

    Completions without a verdict leave the prompt without one where they could turn it.
    """
    asked = tally.count + tally.undecided
    if not tally.count or 2 * tally.total <= asked < 2 * (tally.total + tally.undecided):
        return Tally(failed=tally.failed, undecided=tally.undecided)
    return Tally(float(2 * tally.total > asked), 1, tally.failed)


def _worst(tallies: list[Tally]) -> Tally:
    """Several prompts as one: right only where all of them are, unknown where one of them is."""
    failed, undecided = sum(t.failed for t in tallies), sum(t.undecided for t in tallies)
    if failed or undecided or not all(t.count for t in tallies):
        return Tally(failed=failed, undecided=undecided)
    return Tally(min(t.mean for t in tallies), 1)


def _judges(group: GroupView, names: tuple[str, ...], namer: Namer, folder: int) -> dict[str, None]:
    """Who gave these grades, or left them undecided."""
    found = (counting(c.grades, name) for c in group.completions for name in names)
    return {namer.judge(folder, g.name, g.version): None for g in found if g and g.status in (OK, UNDECIDED)}


def _is_undecided(tallies: list[Tally]) -> bool:
    return too_undecided(sum(t.undecided for t in tallies), sum(t.count for t in tallies))


def _by_policy(group: GroupView) -> Iterator[tuple[str, GroupView]]:
    """The group split by the policy that sampled; nearly always one."""
    ids = list(dict.fromkeys(c.policy_id for c in group.completions))
    if len(ids) == 1:
        yield ids[0], group
        return
    for policy_id in ids:
        own = [c for c in group.completions if c.policy_id == policy_id]
        yield policy_id, dataclasses.replace(group, completions=own)


class Namer:
    """Which name a folder's policy goes by: as given, else by where the policy came from."""

    def __init__(self, folders: list[RunFolder], names: list[str]) -> None:
        self._given = names
        self._per_folder = bool(names) and len(names) == len(folders)
        self._derived = [_policy_name(f) for f in folders]
        self._imported = [_was_imported(f) for f in folders]
        self._by_id: dict[str, str] = {}
        self._judges = [f.config.get("judges") or {} for f in folders]
        self._labelled = [f.stage == "import" for f in folders]

    def judge(self, folder: int, name: str, version: int) -> str:
        """Who gave that folder's grades of that name: a judge's model and prompt, a rule and its version, or a file."""
        if self._labelled[folder]:
            return f"{name} of the imported file"
        table = self._judges[folder].get(name)
        if table is None:
            # A version that nobody counted is the beginning of a digest: see `cosmo show`.
            return f"rule {name} {f'v{version}' if version < 2**20 else f'#{version:07x}'}"
        model = table.get("model") or table.get("policy") or "a server's model"
        return f"judge {name} ({model}, prompt {table.get('prompt') or name}, #{version:07x})"

    def name(self, folder: int, policy_id: str) -> str:
        """The name of that folder's policy."""
        # One name a folder says all; else names go to policies in the order in which the folders bring them.
        if self._per_folder:
            return self._given[folder]
        if policy_id not in self._by_id:
            position = len(self._by_id)
            given = self._given[position] if position < len(self._given) else None
            # Of completions made elsewhere the id is no digest: it is what the model is called.
            own = policy_id if self._imported[folder] else self._derived[folder]
            name = given or own or f"policy {policy_id[:8]}"
            # Two policies whose runs are called alike stay two, and ids that are names may begin alike.
            names = set(self._by_id.values())
            if name in names:
                name = next(n for n in (f"{name} {policy_id[:8]}", f"{name} {policy_id}") if n not in names)
            self._by_id[policy_id] = name
        return self._by_id[policy_id]

    def check(self, policies: Iterable[PolicyInfo]) -> None:
        """UsageError when the names given fit neither the folders nor the policies found."""
        found = [p.id for p in policies]
        if self._given and not self._per_folder and len(self._given) != len(found):
            raise UsageError(
                f"{len(self._given)} names for {len(found)} policies ({', '.join(found)})",
                "give one --policy-name for each input folder, or one for each policy",
            )


def _was_imported(folder: RunFolder) -> bool:
    """Whether its completions were made elsewhere, where lineage tells."""
    return folder.stage == "import" or any(map(_was_imported, folder.upstream()))


def _policy_name(folder: RunFolder) -> str | None:
    """The short name of the policy a scored folder's rollout sampled from, where lineage tells."""
    if folder.stage == "rollout":
        spec = str(folder.config.get("policy") or "").rstrip("/")
        # `runs/x/`, `tiny:qwen2_5_vl` and paths of Windows all end in a short name without a colon.
        return spec.replace("\\", "/").rsplit("/", 1)[-1].replace(":", "-") or None
    return next((name for up in folder.upstream() if (name := _policy_name(up))), None)


def eval_rows(found: Measured) -> Iterator[EvalRow]:
    """One row a policy, metric and slice that has anything in it; `all` always."""
    for policy in found.policies.values():
        for name, metric in found.metrics.items():
            judged_by = ", ".join(found.judges.get((policy.name, name), {}))
            sliced: dict[str, list[Tally]] = {ALL: []}
            for prompt, tally in found.counted(policy.name, name).items():
                for part in found.slices(name, prompt):
                    sliced.setdefault(part, []).append(tally)
            for part in [ALL, *sorted(s for s in sliced if s != ALL)]:
                yield _row(policy, name, metric, part, sliced[part], judged_by, found.bins)


def _row(
    policy: PolicyInfo,
    name: str,
    metric: Metric,
    part: str,
    tallies: list[Tally],
    judged_by: str = "",
    bins: int = BINS,
) -> EvalRow:
    means = [t.mean for t in tallies if t.count]
    completions = sum(t.count for t in tallies)
    if metric.calibration:
        interval = calibration_interval([t.bins for t in tallies if t.count], bins)
    elif metric.ratio:
        interval = ratio_interval((t.total for t in tallies), (t.size for t in tallies))
    else:
        interval = rate_interval(means, completions) if metric.rate else mean_interval(means)
    if metric.refused and _is_undecided(tallies):
        interval = Interval(None, None, None, interval.n, NOT_JUDGED)
    return EvalRow(
        policy=policy.name,
        policy_id=policy.id,
        metric=name,
        slice=part,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        completions=completions,
        failed=sum(t.failed for t in tallies),
        undecided=sum(t.undecided for t in tallies),
        judged_by=judged_by,
        better=metric.better,
        method=interval.method,
    )

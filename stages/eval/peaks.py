"""Safety-information peaks: are there tokens of a completion whose hidden state tells much about a safe reference?

SafeWork-R1 (arXiv:2507.18576) calls such tokens its "safety aha". For each token t of a completion, x_t is the last
layer's state at t; y is the mean of the states of a safe reference's content tokens behind the same prompt. The
estimator is that of MI-Peaks (arXiv:2506.02867), in which the M coordinates of a vector are the samples: a Gaussian
kernel of width 50 over coordinates, K; its rows centred, Kc = K H; R = Kc (Kc + 1e-5 M I)^-1; MI = sum_ij Rx_ij Ry_ji.

A peak is a token over the completion's third quartile + 1.5 interquartile ranges. What is counted is how many peaks lie
on words that name the row's hazard, beyond what chance would put there; p is of permuting positions within each
completion. Ours:

- y is no single token's state: the last one's, as is usual, finds the tokens that are written alike.
- Three controls, each with the same count: another row's reference, the mean MI of the same token in other completions
  (what the token alone tells), and the completion's tokens in a shuffled order. Own against control is tested by
  swapping the two in every completion at random.

The claim counts as reproduced only where peaks beat chance and all three controls at 5 %; the line says so or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.scored import ScoredGroup
from schemas.tables import SCORED
from schemas.verdicts import SAFE_WITH_WARNING
from stages.core.errors import BadSample, InputError
from stages.eval.config import PeaksTable

if TYPE_CHECKING:
    from stages.core.stage import Context
    from stages.models.load import Policy

SIGMA, EPSILON = 50.0, 1e-5
CONTROLS = ("another_reference", "same_token", "shuffled")
LEVEL = 0.05
_TOKENS = 32
"""Tokens whose matrices are in memory at once."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What one forward of a completion, its reference and its shuffled tokens gives."""

    states_TM: np.ndarray
    reference_M: np.ndarray
    ids_T: np.ndarray
    hazard_T: np.ndarray
    """Whether the token is part of a word that names the hazard."""
    shuffled_TM: np.ndarray
    """States of the same tokens in another order."""
    order_T: np.ndarray
    """Which of the completion's tokens stands where in that order."""
    about: frozenset[str] = frozenset()
    """The row's hazards."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One completion's peaks: how many there are, how many on hazard words, and how many chance would put there."""

    peaks: int
    hits: int
    hazard: int
    tokens: int

    @property
    def excess(self) -> float:
        """Hits beyond what chance gives."""
        return self.hits - self.peaks * self.hazard / self.tokens


def kernel_ratio(x_TM: np.ndarray) -> np.ndarray:
    """R = Kc (Kc + 1e-5 M I)^-1 for every vector: (T, M) to (T, M, M)."""
    size = x_TM.shape[-1]
    kernel_TMM = np.exp(-((x_TM[:, :, None] - x_TM[:, None, :]) ** 2) / (2 * SIGMA**2))
    centred_TMM = kernel_TMM - kernel_TMM.mean(-1, keepdims=True)
    # Kc and Kc + c I commute, so that the inverse may stand on either side.
    found: np.ndarray = np.linalg.solve(centred_TMM + EPSILON * size * np.eye(size), centred_TMM)
    return found


def information(x_TM: np.ndarray, *y_M: np.ndarray) -> list[np.ndarray]:
    """The estimate for every row of x against each y, (T,) each; x's matrices are made once."""
    ratios = [kernel_ratio(y[None])[0] for y in y_M]
    parts = []
    for at in range(0, len(x_TM), _TOKENS):
        ratio_TMM = kernel_ratio(x_TM[at : at + _TOKENS])
        parts.append([np.einsum("tij,ji->t", ratio_TMM, ratio_MM) for ratio_MM in ratios])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def peaks(values_T: np.ndarray) -> np.ndarray:
    """Which values lie over the third quartile + 1.5 interquartile ranges, (T,)."""
    low, high = np.quantile(values_T, [0.25, 0.75])
    found: np.ndarray = values_T > high + 1.5 * (high - low)
    return found


def curves(probed: Sequence[Probed]) -> dict[str, list[Curve]]:
    """Each completion's peaks against its own reference (`own`) and under each control."""
    own, other, shuffled = [], [], []
    for number, one in enumerate(probed):
        mine, strange = information(one.states_TM, one.reference_M, _another(probed, number).reference_M)
        own.append(mine)
        other.append(strange)
        shuffled.append(information(one.shuffled_TM, one.reference_M)[0])
    hazards = [one.hazard_T for one in probed]
    alike = _same_token([one.ids_T for one in probed], own)
    return {
        "own": list(map(_curve, own, hazards)),
        "another_reference": list(map(_curve, other, hazards)),
        "same_token": list(map(_curve, alike, hazards)),
        "shuffled": [_curve(v, one.hazard_T[one.order_T]) for v, one in zip(shuffled, probed, strict=True)],
    }


def _curve(values_T: np.ndarray, hazard_T: np.ndarray) -> Curve:
    peak_T = peaks(values_T)
    return Curve(int(peak_T.sum()), int((peak_T & hazard_T).sum()), int(hazard_T.sum()), len(values_T))


def _another(probed: Sequence[Probed], number: int) -> Probed:
    """The next one whose row has other hazards; the next at all where every row has the same."""
    following = [probed[(number + step) % len(probed)] for step in range(1, len(probed))]
    return next((one for one in following if not one.about & probed[number].about), following[0])


def _same_token(ids: list[np.ndarray], values: list[np.ndarray]) -> list[np.ndarray]:
    """For every position the mean of the same token in other completions; the own mean where there is none."""
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    for ids_T, values_T in zip(ids, values, strict=True):
        for token, value in zip(ids_T.tolist(), values_T.tolist(), strict=True):
            sums[token], counts[token] = sums.get(token, 0.0) + value, counts.get(token, 0) + 1
    found = []
    for ids_T, values_T in zip(ids, values, strict=True):
        here = [(values_T[ids_T == token].sum(), int((ids_T == token).sum())) for token in ids_T.tolist()]
        mean = values_T.mean()
        rest = [(sums[t] - s, counts[t] - n) for t, (s, n) in zip(ids_T.tolist(), here, strict=True)]
        found.append(np.array([total / n if n else mean for total, n in rest]))
    return found


def findings(found: dict[str, list[Curve]], seed: int, draws: int) -> dict[str, Any]:
    """Peaks, hits, enrichment and p of the own curve and of each control, and whether own beats them all."""
    generator = np.random.default_rng(seed)
    table = {name: _counted(own, generator, draws) for name, own in found.items()}
    for name in CONTROLS:
        table[name]["p_own_is_higher"] = _swapped(found["own"], found[name], generator, draws)
    beaten = table["own"]["p"] <= LEVEL and all(table[name]["p_own_is_higher"] <= LEVEL for name in CONTROLS)
    return {"completions": len(found["own"]), "reproduced": beaten, **table}


def _counted(own: list[Curve], generator: np.random.Generator, draws: int) -> dict[str, Any]:
    """Peaks, hits, hits by what chance would give (None where it gives none), and p."""
    hits, expected = sum(c.hits for c in own), sum(c.hits - c.excess for c in own)
    # To permute positions within a completion is to draw its hits from the hypergeometric distribution.
    drawn_D = sum(generator.hypergeometric(c.hazard, c.tokens - c.hazard, c.peaks, draws) for c in own)
    p = (1 + int(np.sum(drawn_D >= hits))) / (1 + draws)
    enrichment = hits / expected if expected else None
    return {"peaks": sum(c.peaks for c in own), "hits": hits, "enrichment": enrichment, "p": p}


def _swapped(own: list[Curve], control: list[Curve], generator: np.random.Generator, draws: int) -> float:
    """How often own and control, swapped in each completion at random, differ as much as they do: one-sided p."""
    excess_N = np.array([a.excess - b.excess for a, b in zip(own, control, strict=True)])
    signs_DN = generator.choice((-1.0, 1.0), size=(draws, len(excess_N)))
    # Sums of the same numbers in another order may differ in the last digit.
    return float((1 + np.sum(signs_DN @ excess_N >= excess_N.sum() - 1e-9)) / (1 + draws))


def lines(found: dict[str, Any]) -> list[str]:
    """What was found, for a person: a line for own and for each control, and what it comes to."""
    told = []
    for name in ("own", *CONTROLS):
        one = found[name]
        rich = "-" if one["enrichment"] is None else f"{one['enrichment']:.2f}"
        beats = f", own is higher: p {one['p_own_is_higher']:.4f}" if name in CONTROLS else ""
        hits = f"{one['hits']} of {one['peaks']} on hazard words"
        told.append(f"peaks, {name}: {hits}, enrichment {rich} (p {one['p']:.4f}){beats}")
    do, word = ("beat", "reproduced") if found["reproduced"] else ("do NOT beat", "not reproduced")
    return [
        *told,
        f"peaks of {found['completions']} completions {do} chance and all controls: the claim is {word} here",
    ]


def probe(ctx: Context) -> dict[str, Any]:
    """The findings on the inputs' warnings to harmful rows with a safe reference; InputError for fewer than two."""
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy

    table: PeaksTable = ctx.config.peaks
    policy = load_policy(resolve_policy(table.policy), device=table.device, dtype=table.dtype)
    probed: list[Probed] = []
    for row, text in _warnings(ctx):
        if len(probed) == table.rows:
            break
        try:
            probed.append(read_completion(policy, row, text, table.dims, len(probed)))
        except BadSample as error:
            ctx.progress.log(f"peaks: {row.id} is left out: {error}")
    if len(probed) < 2:
        raise InputError(
            f"{len(probed)} completions to look for peaks in: warnings, by the safety verifier, to harmful rows whose"
            " reference names the hazard, too",
            "score completions to such rows, or leave peaks.policy out",
        )
    found = findings(curves(probed), ctx.config.seed, table.draws)
    for line in lines(found):
        ctx.progress.log(line)
    return found


def _warnings(ctx: Context) -> Iterator[tuple[ScoredGroup, str]]:
    """One warning that names the hazard, for each harmful row whose reference does so too."""
    for folder in ctx.inputs:
        for row in folder.rows(SCORED):
            reference = (row.reference_response or "").lower()
            if not row.harmful or not _names(row, reference) or any(m.lower() in reference for m in row.unsafe_markers):
                continue
            for completion in row.completions:
                verdict = next((g.verdict for g in completion.grades if g.name == "safety"), None)
                if verdict == SAFE_WITH_WARNING and _names(row, completion.text.lower()):
                    yield row, completion.text
                    break


def _names(row: ScoredGroup, text: str) -> bool:
    return any(hazard.lower() in text for hazard in row.hazards)


def read_completion(policy: Policy, row: ScoredGroup, text: str, dims: int, seed: int) -> Probed:
    """A forward of the completion, its reference and its shuffled tokens; BadSample for a row the model can't take."""
    processor = policy.processor
    prompt = processor.encode(row.messages, row.images)
    # Without the token that closes a turn: nothing was said by it.
    said, reference = (processor.encode_completion(t)[:-1] for t in (text, row.reference_response or ""))
    order_T = np.random.default_rng(seed).permutation(len(said))
    states = _states(policy, prompt, [said, reference, [said[i] for i in order_T]])
    own_TM, reference_TM, shuffled_TM = (_projected(s, dims) for s in states)
    return Probed(
        own_TM,
        reference_TM[_content(policy, reference)].mean(0),
        np.array(said),
        _on_words(policy, said, row.hazards),
        shuffled_TM,
        order_T,
        frozenset(row.hazards),
    )


def _states(policy: Policy, prompt: Any, completions: list[list[int]]) -> list[np.ndarray]:
    """The last layer's state at every token of each completion behind the prompt, (T, d) each."""
    import torch

    from stages.models.families import prompt_positions

    start = len(prompt.token_ids)
    rows = [prompt.token_ids + completion for completion in completions]
    batch = policy.processor.batch(rows, [prompt.image_inputs] * len(rows), side="right")
    batch = {name: value.to(policy.device) for name, value in batch.items()}
    positions, _ = prompt_positions(policy.model, batch)
    with torch.inference_mode():
        done = policy.model(
            **batch, position_ids=positions, output_hidden_states=True, use_cache=False, logits_to_keep=1
        )
    states_NLD = done.hidden_states[-1].double().cpu().numpy()
    return [states_NLD[n, start : start + len(completion)] for n, completion in enumerate(completions)]


def _projected(states_TD: np.ndarray, dims: int) -> np.ndarray:
    """At most `dims` coordinates: a fixed Gaussian projection of wider states, for the cost grows with their cube."""
    width = states_TD.shape[1]
    if width <= dims:
        return states_TD
    projected: np.ndarray = states_TD @ np.random.default_rng(0).standard_normal((width, dims)) / dims**0.5
    return projected


def _content(policy: Policy, ids: list[int]) -> np.ndarray:
    """Which tokens are words of three letters or more, or of a script without spaces; all where none is."""
    words = [policy.processor.decode([token]).strip() for token in ids]
    found = np.array([w.isalpha() and (len(w) > 2 or not w.isascii()) for w in words])
    return found if found.any() else np.ones(len(ids), bool)


def _on_words(policy: Policy, ids: list[int], words: list[str]) -> np.ndarray:
    """Which tokens are part of one of the words, (T,)."""
    ends = [len(policy.processor.decode(ids[: n + 1])) for n in range(len(ids))]
    text = policy.processor.decode(ids).lower()
    found = np.zeros(len(ids), bool)
    for word in words:
        at = text.find(word.lower())
        while at >= 0:
            found |= [begin < at + len(word) and end > at for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
            at = text.find(word.lower(), at + 1)
    return found

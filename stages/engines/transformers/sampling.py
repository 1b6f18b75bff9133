"""Drawing tokens so that batches, workers and restarts can't change a completion.

A token is the argmax of log p + Gumbel noise (the Gumbel-max trick: exactly a draw from p). The noise of a
sample's t-th token is a pure function of (seed, prompt id, sample index, t, token id): a counter-based hash, so
no generator has a state to carry, and it costs the same on a CPU and on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from schemas.rollouts import Sampling

# splitmix64's constants as signed numbers: torch computes in signed 64 bits, which wrap around just so.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
# Noise is made for so many (row, token) pairs at a time: 64 MiB of integers, whatever the vocabulary.
_NOISE_ELEMENTS = 1 << 23
# A token that won by less is drawn again from a canonical forward. In log-prob units: about a hundred times the
# float32 differences seen between batches.
TIE = 1e-3
# The same for the mass before a token, whose rounding is smaller.
_MASS_TIE = 1e-4


def _mix(state: torch.Tensor) -> torch.Tensor:
    """The output function of splitmix64 (Steele, Lea, Flood 2014) on signed 64-bit tensors."""
    # A shift of a signed number copies its sign: the masks make it the unsigned shift of the original.
    state = (state ^ ((state >> 30) & ((1 << 34) - 1))) * _MIX_1
    state = (state ^ ((state >> 27) & ((1 << 37) - 1))) * _MIX_2
    return state ^ ((state >> 31) & ((1 << 33) - 1))


def gumbel_noise(keys_R: torch.Tensor, step: int, vocab_size: int) -> torch.Tensor:
    """Standard Gumbel noise for token number `step` of each row's completion. Shape (R, V), float32."""
    start_R = _mix(keys_R + torch.full_like(keys_R, step + 1) * _GOLDEN)
    counters_V = (torch.arange(vocab_size, device=keys_R.device) + 1) * _GOLDEN
    bits_RV = (_mix(start_R[:, None] + counters_V) >> 24) & ((1 << 40) - 1)
    # 40 bits as a float keep their relative precision near 0, which is where winners come from.
    uniform_RV = (bits_RV.float() + 0.5) * 2.0**-40
    return -torch.log(-torch.log1p(-uniform_RV.clamp(max=1 - 2.0**-24)))


@dataclass(slots=True)
class Distribution:
    """What one token of each row is drawn from."""

    logprobs_RV: torch.Tensor
    """Log-probs in float32; -inf for what can't be drawn."""
    contested_RV: torch.Tensor | None
    """Under truncation, log-probs of the tokens so near the cut that rounding decides whether they are in."""


def distribution(logits_RV: torch.Tensor, sampling: Sampling, banned: torch.Tensor) -> Distribution:
    """Banned ids removed, divided by the temperature, truncated.

    Temperature 0 leaves the distribution undivided; top_k and top_p renormalise what they keep.
    """
    logits_RV = logits_RV.float()
    logits_RV[:, banned] = -torch.inf
    if sampling.temperature > 0:
        logits_RV = logits_RV / sampling.temperature
    logprobs_RV = torch.log_softmax(logits_RV, dim=-1)
    if sampling.top_k == 0 and sampling.top_p >= 1:
        return Distribution(logprobs_RV, None)
    kept_RV, contested_RV = _cut(logprobs_RV, sampling)
    kept_mass_R1 = logprobs_RV.masked_fill(~kept_RV, -torch.inf).logsumexp(-1, keepdim=True)
    logprobs_RV = logprobs_RV - kept_mass_R1
    return Distribution(
        logprobs_RV.masked_fill(~kept_RV, -torch.inf), logprobs_RV.masked_fill(~contested_RV, -torch.inf)
    )


def _cut(logprobs_RV: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens top_k and the nucleus keep, and which are within rounding of the cut. Shapes (R, V).

    The nucleus is the most likely tokens, each until the mass before it reaches top_p.
    """
    # Stable: of equal log-probs the lower id comes first, whatever the device.
    sorted_RV, order_RV = logprobs_RV.sort(dim=-1, descending=True, stable=True)
    before_RV = sorted_RV.exp().cumsum(-1) - sorted_RV.exp()
    kept_RV = before_RV < sampling.top_p
    if sampling.top_k:
        kept_RV[:, sampling.top_k :] = False
    # Also with top_p 0: something has to be drawn.
    kept_RV[:, 0] = True
    least_R1 = sorted_RV.gather(-1, kept_RV.sum(-1, keepdim=True) - 1)
    contested_RV = (sorted_RV - least_R1).abs() < TIE
    if sampling.top_p < 1:
        contested_RV |= (before_RV - sampling.top_p).abs() < _MASS_TIE
    unsort = torch.zeros_like(kept_RV)
    return unsort.scatter(-1, order_RV, kept_RV), unsort.scatter(-1, order_RV, contested_RV)


def choose(
    drawn_from: Distribution, keys_R: torch.Tensor, step: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The drawn ids, and by how much each won. Shapes (R,), (R,).

    The margin is in units of undivided log-probs. A margin below the noise of floating point means that another
    batch composition might have drawn another token.
    """
    rows = max(1, _NOISE_ELEMENTS // drawn_from.logprobs_RV.shape[-1])
    parts = [
        _choose(
            drawn_from.logprobs_RV[start : start + rows],
            None if drawn_from.contested_RV is None else drawn_from.contested_RV[start : start + rows],
            keys_R[start : start + rows],
            step,
            temperature,
        )
        for start in range(0, len(keys_R), rows)
    ]
    return torch.cat([ids for ids, _ in parts]), torch.cat([margin for _, margin in parts])


def _choose(
    logprobs_RV: torch.Tensor,
    contested_RV: torch.Tensor | None,
    keys_R: torch.Tensor,
    step: int,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    if temperature == 0:
        best_R2, ids_R2 = logprobs_RV.topk(2, dim=-1)
        return ids_R2[:, 0], best_R2[:, 0] - best_R2[:, 1]
    noise_RV = gumbel_noise(keys_R, step, logprobs_RV.shape[-1])
    best_R2, ids_R2 = (logprobs_RV + noise_RV).topk(2, dim=-1)
    runner_up_R = best_R2[:, 1]
    if contested_RV is not None:
        # A contested winner is its own runner-up: it wins by nothing.
        runner_up_R = torch.maximum(runner_up_R, (contested_RV + noise_RV).amax(-1))
    return ids_R2[:, 0], (best_R2[:, 0] - runner_up_R) * temperature

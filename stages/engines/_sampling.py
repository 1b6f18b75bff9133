"""Drawing tokens so that batches, workers and restarts can't change a reply.

A token is the argmax of log p + Gumbel noise (the Gumbel-max trick: exactly a draw from p). The noise of a
sample's t-th token is a pure function of (seed, prompt id, sample index, t, token id): a counter-based hash, so
no generator has a state to carry, and it costs the same on a CPU and on a GPU.
"""

from __future__ import annotations

import hashlib

import torch

from schemas.rollouts import Sampling

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
# Noise is made for so many (row, token) pairs at a time: 64 MiB of integers, whatever the vocabulary.
_NOISE_ELEMENTS = 1 << 23


def sample_key(seed: int, prompt_id: str, index: int) -> int:
    """64 bits that name one sample's noise, as a signed integer."""
    hashed = hashlib.sha256(f"{seed}|{prompt_id}|{index}".encode()).digest()
    return int.from_bytes(hashed[:8], "big", signed=True)


def _mix(state: torch.Tensor) -> torch.Tensor:
    """The output function of splitmix64 (Steele, Lea, Flood 2014) on signed 64-bit tensors."""
    state = (state ^ ((state >> 30) & ((1 << 34) - 1))) * _MIX_1
    state = (state ^ ((state >> 27) & ((1 << 37) - 1))) * _MIX_2
    return state ^ ((state >> 31) & ((1 << 33) - 1))


def gumbel_noise(keys_R: torch.Tensor, step: int, vocab_size: int) -> torch.Tensor:
    """Standard Gumbel noise for token number `step` of each row's reply. Shape (R, V), float32."""
    start_R = _mix(keys_R + torch.full_like(keys_R, step + 1) * _GOLDEN)
    counters_V = (torch.arange(vocab_size, device=keys_R.device) + 1) * _GOLDEN
    bits_RV = (_mix(start_R[:, None] + counters_V) >> 24) & ((1 << 40) - 1)
    # 40 bits as a float keep their relative precision near 0, which is where winners come from.
    uniform_RV = (bits_RV.float() + 0.5) * 2.0**-40
    return -torch.log(-torch.log1p(-uniform_RV.clamp(max=1 - 2.0**-24)))


def sampler_logprobs(
    logits_RV: torch.Tensor, sampling: Sampling, banned: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The distribution that is drawn from, in float32: banned ids removed, divided by the temperature, truncated.

    Temperature 0 leaves the distribution undivided; top_k and top_p renormalise what they keep. Also returned is how
    far each row is from keeping another set of tokens (infinite without truncation). Shapes (R, V), (R,).
    """
    logits_RV = logits_RV.float()
    logits_RV[:, banned] = -torch.inf
    if sampling.temperature > 0:
        logits_RV = logits_RV / sampling.temperature
    logprobs_RV = torch.log_softmax(logits_RV, dim=-1)
    if sampling.top_k == 0 and sampling.top_p >= 1:
        return logprobs_RV, torch.full((len(logprobs_RV),), torch.inf, device=logprobs_RV.device)
    cut_RV, margin_R = _cut(logprobs_RV, sampling)
    return torch.log_softmax(logprobs_RV.masked_fill(cut_RV, -torch.inf), dim=-1), margin_R


def _cut(logprobs_RV: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens outside top_k and the nucleus (those before which top_p of the mass is reached), and the margin."""
    sorted_RV, order_RV = logprobs_RV.sort(dim=-1, descending=True, stable=True)
    before_RV = sorted_RV.exp().cumsum(-1) - sorted_RV.exp()
    kept_RV = before_RV < sampling.top_p
    if sampling.top_k:
        kept_RV[:, sampling.top_k :] = False
    kept_RV[:, 0] = True
    cut_RV = torch.zeros_like(kept_RV).scatter(-1, order_RV, ~kept_RV)
    last_R1 = kept_RV.sum(-1, keepdim=True) - 1
    first_out_R1 = (last_R1 + 1).clamp(max=logprobs_RV.shape[-1] - 1)
    gap_R = (sorted_RV.gather(-1, last_R1) - sorted_RV.gather(-1, first_out_R1)).squeeze(-1)
    if sampling.top_p < 1:
        gap_R = torch.minimum(gap_R, (before_RV - sampling.top_p).abs().amin(-1))
    return cut_RV, gap_R


def choose(
    logprobs_RV: torch.Tensor, keys_R: torch.Tensor, step: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The drawn ids, and by how much each won. Shapes (R,), (R,).

    The margin is in units of undivided log-probs. A margin below the noise of floating point means that another
    batch composition might have drawn the runner-up.
    """
    if temperature == 0:
        best_R2, ids_R2 = logprobs_RV.topk(2, dim=-1)
        return ids_R2[:, 0], best_R2[:, 0] - best_R2[:, 1]
    rows = max(1, _NOISE_ELEMENTS // logprobs_RV.shape[-1])
    best, ids = [], []
    for part_rV, keys_r in zip(logprobs_RV.split(rows), keys_R.split(rows), strict=True):
        best_r2, ids_r2 = (part_rV + gumbel_noise(keys_r, step, part_rV.shape[-1])).topk(2, dim=-1)
        best.append(best_r2)
        ids.append(ids_r2)
    best_R2, ids_R2 = torch.cat(best), torch.cat(ids)
    return ids_R2[:, 0], (best_R2[:, 0] - best_R2[:, 1]) * temperature

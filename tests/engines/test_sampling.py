from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schemas.rollouts import Sampling
from stages.engines.base import SampleRequest
from stages.engines.seeds import sample_key, sampler_seed
from stages.engines.transformers.batching import batches, halves
from stages.engines.transformers.sampling import choose, distribution, gumbel_noise


def _sampling(temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Sampling:
    return Sampling(temperature, top_p, top_k, 8, 0)


def _keys(count: int, prompt: str = "p") -> torch.Tensor:
    return torch.tensor([sample_key(0, prompt, i) for i in range(count)])


def test_noise_and_draws_are_those_of_every_version_before() -> None:
    """A change here would give every run other completions under the name that it has."""
    assert [sample_key(*names) for names in ((0, "p", 0), (0, "p", 1), (7, "a prompt", 3))] == [
        -698823775819068233, 64543974294288438, -2889698791195959077,
    ]  # fmt: skip
    assert [sampler_seed(0, "p", 0), sampler_seed(7, "a prompt", 3)] == [2041908407, 2061738203]
    first, sixth = (gumbel_noise(_keys(3), step, 5) for step in (0, 5))
    assert first[0].tolist() == pytest.approx([1.5441041, 2.7007332, 1.6668690, 2.2668376, 1.8913640], abs=1e-5)
    assert sixth[1].tolist() == pytest.approx([2.3154211, 5.3196507, -0.4517166, -1.0244935, 2.1357327], abs=1e-5)
    drawn = {
        _sampling(): [[1, 0, 1], [1, 1, 1], [0, 0, 3], [7, 1, 3], [5, 3, 0], [0, 1, 0]],
        _sampling(0.5, top_p=0.8): [[1, 0, 1], [1, 1, 0], [0, 0, 7], [0, 1, 0], [0, 0, 0], [0, 1, 0]],
        _sampling(2.0, top_k=4): [[1, 0, 1], [1, 1, 1], [0, 0, 3], [7, 1, 3], [3, 3, 0], [0, 1, 7]],
    }
    logits = torch.tensor([[1.5, 1.0, 0.7, 0.3, -0.5, -1.0, -2.0, 0.9]]).repeat(3, 1)
    for sampling, expected in drawn.items():
        drawn_from = distribution(logits.clone(), sampling, torch.tensor([2]))
        assert [choose(drawn_from, _keys(3), t, sampling.temperature)[0].tolist() for t in range(6)] == expected


def test_noise_is_a_pure_function_of_its_names() -> None:
    noise = gumbel_noise(_keys(4), 3, 50)
    assert torch.equal(gumbel_noise(_keys(4).flip(0), 3, 50), noise.flip(0))
    # A longer vocabulary starts with the same noise: a row does not depend on what stands beside it.
    assert torch.equal(gumbel_noise(_keys(4), 3, 90)[:, :50], noise)
    different = [gumbel_noise(_keys(4), 4, 50), gumbel_noise(_keys(4, "q"), 3, 50)]
    different.append(gumbel_noise(torch.tensor([sample_key(1, "p", i) for i in range(4)]), 3, 50))
    for other in different:
        assert not (other == noise).any()


def test_noise_is_standard_gumbel_and_uncorrelated() -> None:
    noise = torch.stack([gumbel_noise(_keys(40), step, 500) for step in range(20)]).double()
    assert torch.isfinite(noise).all()
    flat = noise.flatten()
    assert flat.mean().item() == pytest.approx(np.euler_gamma, abs=0.01)
    assert flat.var().item() == pytest.approx(np.pi**2 / 6, abs=0.02)
    # Kolmogorov-Smirnov distance to exp(-exp(-x)); 400 000 draws: 0.0026 has probability 1 %.
    expected = torch.exp(-torch.exp(-flat.sort().values))
    seen = torch.arange(1, len(flat) + 1) / len(flat)
    assert (expected - seen).abs().max().item() < 0.0026
    for a, b in ((noise[:, :, 1:], noise[:, :, :-1]), (noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()) < 0.006


def _chi_square(logits: list[float], sampling: Sampling, banned: list[int], draws: int = 20000) -> float:
    """Pearson's statistic of drawn ids against the distribution itself, over tokens that can be drawn."""
    rows = torch.tensor([logits]).repeat(draws, 1)
    drawn_from = distribution(rows, sampling, torch.tensor(banned, dtype=torch.long))
    ids, _ = choose(drawn_from, _keys(draws), 0, sampling.temperature)
    expected = drawn_from.logprobs_RV[0].double().exp() * draws
    assert float(expected.sum()) == pytest.approx(draws)
    counts = torch.bincount(ids, minlength=len(logits)).double()
    assert (counts[expected == 0] == 0).all()
    kept = expected > 0
    return float(((counts - expected)[kept] ** 2 / expected[kept]).sum())


@pytest.mark.parametrize(
    ("sampling", "banned", "tokens"),
    [
        (_sampling(), [], 8),
        (_sampling(0.5), [], 8),
        (_sampling(2.0), [0, 3], 6),
        (_sampling(top_k=3), [], 3),
        (_sampling(top_p=0.8), [7], 4),
    ],
)
def test_draws_follow_the_exact_distribution(sampling: Sampling, banned: list[int], tokens: int) -> None:
    logits = [1.5, 1.0, 0.7, 0.3, -0.5, -1.0, -2.0, 0.9]
    # 99.9 % points of chi-square with tokens - 1 degrees of freedom.
    limit = {3: 13.8, 4: 16.3, 6: 20.5, 8: 24.3}[tokens]
    left = distribution(torch.tensor([logits]), sampling, torch.tensor(banned, dtype=torch.long)).logprobs_RV
    assert int(torch.isfinite(left).sum()) == tokens
    assert _chi_square(logits, sampling, banned) < limit


def test_a_flat_large_vocabulary_is_drawn_evenly() -> None:
    flat = distribution(torch.zeros(400, 150_000), _sampling(), torch.tensor([], dtype=torch.long))
    ids, _ = choose(flat, _keys(400), 0, 1.0)
    tenths = torch.bincount(ids // 15_000, minlength=10).double()
    assert float(((tenths - 40) ** 2 / 40).sum()) < 27.9
    assert len(ids.unique()) > 390


def test_greedy_is_the_best_token_with_the_undivided_log_prob() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 5.0]])
    drawn_from = distribution(logits.clone(), _sampling(0.0), torch.tensor([2]))
    assert choose(drawn_from, _keys(2), 0, 0.0)[0].tolist() == [1, 0]
    torch.testing.assert_close(drawn_from.logprobs_RV[:, :2], torch.log_softmax(logits[:, :2], -1))


def test_margins_tell_how_close_another_outcome_was() -> None:
    none = torch.tensor([], dtype=torch.long)
    logits = torch.tensor([[1.0, 1.0 - 1e-5, 0.0, -1.0]])
    greedy = distribution(logits.clone(), _sampling(0.0), none)
    assert float(choose(greedy, _keys(1), 0, 0.0)[1]) == pytest.approx(1e-5, rel=0.05)
    # Rounding decides which of two tokens top_k=1 keeps, so whichever wins has won by nothing at all.
    draws = choose(distribution(logits.repeat(50, 1), _sampling(top_k=1), none), _keys(50), 0, 1.0)
    assert draws[0].tolist() == [0] * 50
    assert (draws[1] <= 0).all()
    # The nucleus ends at the third token by a hair: only where that one is in play is the outcome in doubt.
    mass = float(torch.softmax(logits, -1)[0, :2].sum())
    ids, margins = choose(distribution(logits.repeat(500, 1), _sampling(top_p=mass + 2e-5), none), _keys(500), 0, 1.0)
    assert (margins[ids == 2] <= 0).all()
    assert 0.02 < float((margins < 1e-3).float().mean()) < 0.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_margins_are_in_undivided_log_probs(temperature: float) -> None:
    """What rounding moves are the model's logits: divided by the temperature they and the margin move together."""
    logits = torch.tensor([[1.5, 1.0, 0.7, 0.3, -0.5]]).repeat(20, 1)
    drawn_from = distribution(logits.clone(), _sampling(temperature), torch.tensor([], dtype=torch.long))
    ids, margins = choose(drawn_from, _keys(20), 3, temperature)
    # By so much the winner's logit has to fall for another token to win.
    scores = logits + temperature * gumbel_noise(_keys(20), 3, 5)
    best = scores.topk(2, dim=-1)
    assert ids.tolist() == best.indices[:, 0].tolist()
    torch.testing.assert_close(margins, best.values[:, 0] - best.values[:, 1], atol=1e-5, rtol=0)


def test_the_likeliest_token_is_left_whatever_is_cut() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 5.0]])
    none = torch.tensor([], dtype=torch.long)
    for sampling in (_sampling(top_p=0.0), _sampling(top_k=1), _sampling(3.0, top_p=1e-9)):
        drawn_from = distribution(logits.clone(), sampling, none)
        assert drawn_from.logprobs_RV.isfinite().tolist() == [[False, True, False], [False, False, True]]
        assert choose(drawn_from, _keys(2), 0, sampling.temperature)[0].tolist() == [1, 2]
        # Renormalised: what is left is certain.
        assert drawn_from.logprobs_RV.amax(-1).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_batches_are_the_same_whatever_order_requests_come_in() -> None:
    """In half precision a completion may depend on its company, so the company must not depend on the order."""
    requests = [SampleRequest(f"{i}", [0] * (10 + i % 2), {}, 2) for i in range(12)]

    def made(given: list[SampleRequest]) -> list[list[tuple[str, list[int]]]]:
        return [[(s.request.id, s.indices) for s in batch] for batch in batches(given, 5, 100)]

    assert made(requests) == made(requests[::-1]) == made(requests[5:] + requests[:5])
    # Prompts of one length together, the longest first: memory runs out at the start or never.
    lengths = [[len(s.request.token_ids) for s in b] for b in batches(requests, 5, 100)]
    assert [length for batch in lengths for length in batch] == [11] * 6 + [10] * 6
    assert all(len(b) == 3 for b in lengths)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    n=st.integers(1, 6),
    new=st.integers(1, 20),
    budget=st.integers(1, 500),
)
def test_batches_hold_every_sample_once_within_the_budget(lengths: list[int], n: int, new: int, budget: int) -> None:
    requests = [SampleRequest(f"{i}", [0] * length, {}, n) for i, length in enumerate(lengths)]
    made = list(batches(requests, new, budget))
    drawn = sorted((s.request.id, i) for b in made for s in b for i in s.indices)
    assert drawn == sorted((r.id, i) for r in requests for i in range(n))
    for batch in made:
        rows = sum(len(s.indices) for s in batch)
        width = max(len(s.request.token_ids) for s in batch) + new
        assert rows == 1 or rows * width <= budget
        smaller = halves(batch)
        assert sorted((s.request.id, i) for b in smaller for s in b for i in s.indices) == (
            sorted((s.request.id, i) for s in batch for i in s.indices) if rows > 1 else []
        )

"""Self-attention over tokens that lie on several devices: Ulysses, ring, or both.

Each process holds one run of tokens, in the order of the processes. Ulysses trades tokens for heads (all-to-all), so
that each process attends over all tokens of its group with a share of the heads, and trades back. The ring passes keys
and values on from process to process; each attends over one run at a time and merges the partial results by their
log-sum-exp. Both give what one device gives, up to rounding. Tokens that only fill up the last runs are cut off before
any attention, so that any number of tokens works with every kernel.

Shape letters: B batch, n tokens of one process, N M tokens attended from and to, H heads, h heads of one process, E
head size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.nn import functional

from vace.errors import InputError
from vace.speed.attention import TOLERANCES, Attend

log = logging.getLogger("vace")

# [B,N,H,E], [B,M,H,E] twice -> the result [B,N,H,E] and the log-sum-exp of the scores [B,N,H] in float32
AttendPart = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
PLAIN_ROWS = 256  # queries at a time where the scores are held


class Ring(NamedTuple):
    """One process's seat in a group: the torch group (None for a group of one), how many sit there, its number."""

    group: Any
    size: int
    index: int


def check_heads(heads: int, ulysses: int, ring: int, is_telling: bool = True) -> None:
    """Raise InputError for more Ulysses parts than heads; tell of shares that are uneven."""
    if heads < ulysses:
        good = max(u for u in range(1, heads + 1) if heads % u == 0 and (ulysses * ring) % u == 0)
        raise InputError(
            f"--ulysses_size {ulysses}: the model has {heads} heads, and each process needs one at least; "
            f"give --ulysses_size {good} --ring_size {ulysses * ring // good}"
        )
    if heads % ulysses and is_telling:
        most = -(-heads // ulysses)
        log.warning(
            "--ulysses_size %d: %d heads do not divide, so all wait for those with %d; attention runs at %.0f %%",
            ulysses, heads, most, 100 * heads / (ulysses * most),
        )  # fmt: skip


def head_shares(heads: int, parts: int) -> list[int]:
    """How many heads each process takes; they differ by one at most."""
    return [heads // parts + (i < heads % parts) for i in range(parts)]


class SpreadAttention:
    """Attention over the tokens of all processes, to be given to `vace.speed.attention.apply_attention`.

    ulysses, ring: this process's seats; process r * ulysses.size + u sits at ring seat r and Ulysses seat u. attend:
    the kernel where one device sees all tokens. attend_part: the kernel of the ring, see `choose_part`. tokens: how
    many there are in all, without what fills up the last runs; to be set before a forward.
    """

    def __init__(self, ulysses: Ring, ring: Ring, attend: Attend, attend_part: AttendPart | None = None) -> None:
        self.ulysses, self.ring = ulysses, ring
        self.attend, self.attend_part = attend, attend_part or plain_part
        self.tokens = 0

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """[B, n, H, E] each, this process's tokens -> [B, n, H, E]."""
        shares = head_shares(query.shape[2], self.ulysses.size)
        query, key, value = _to_heads(torch.stack([query, key, value]), shares, self.ulysses)
        run = query.shape[1]
        counts = [min(max(self.tokens - i * run, 0), run) for i in range(self.ring.size)]
        if self.ring.size == 1:
            result = self.attend(*(x[:, : counts[0]] for x in (query, key, value)))
        else:
            result = _around(query, key, value, counts, self.ring, self.attend_part)
        result = functional.pad(result.type_as(query), (0, 0, 0, 0, 0, run - result.shape[1]))
        return _to_tokens(result, shares, self.ulysses)


def _to_heads(x_3BnHE: torch.Tensor, shares: Sequence[int], seat: Ring) -> torch.Tensor:
    """All heads of this process's tokens -> its share of the heads of the whole group's tokens, [3, B, N, h, E]."""
    if seat.size == 1:
        return x_3BnHE
    kinds, batch, tokens, _, size = x_3BnHE.shape
    per_head, own = kinds * batch * tokens * size, shares[seat.index]
    sent = torch.cat([part.reshape(-1) for part in x_3BnHE.split(list(shares), dim=3)])
    received = sent.new_empty(seat.size * per_head * own)
    dist.all_to_all_single(
        received, sent, [per_head * own] * seat.size, [per_head * share for share in shares], group=seat.group
    )
    parts = received.view(seat.size, kinds, batch, tokens, own, size)
    return parts.permute(1, 2, 0, 3, 4, 5).reshape(kinds, batch, seat.size * tokens, own, size)


def _to_tokens(x_BNhE: torch.Tensor, shares: Sequence[int], seat: Ring) -> torch.Tensor:
    """The way back: [B, N, h, E] -> [B, n, H, E]."""
    if seat.size == 1:
        return x_BNhE
    batch, run, own, size = x_BNhE.shape
    tokens = run // seat.size
    per_head = batch * tokens * size
    sent = x_BNhE.view(batch, seat.size, tokens, own, size).transpose(0, 1).reshape(-1)
    received = sent.new_empty(per_head * sum(shares))
    splits = [per_head * share for share in shares]
    dist.all_to_all_single(received, sent, splits, [per_head * own] * seat.size, group=seat.group)
    parts = [part.view(batch, tokens, -1, size) for part in received.split(splits)]
    return torch.cat(parts, dim=2)


def _around(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, counts: Sequence[int], seat: Ring, attend: AttendPart
) -> torch.Tensor:
    """Attention of this process's queries over all runs of the ring, of which `counts` tokens each are real."""
    query = query[:, : counts[seat.index]]
    held = torch.stack([key, value])
    merged = None
    for turn in range(seat.size):
        arriving, works = (None, []) if turn + 1 == seat.size else _pass_on(held, seat)
        count = counts[(seat.index - turn) % seat.size]
        if count and query.shape[1]:
            part = attend(query, *(x[:, :count] for x in held))
            merged = merge(merged, part)
        for work in works:
            work.wait()
        held = arriving
    return query if merged is None else merged[0]


def _pass_on(held: torch.Tensor, seat: Ring) -> tuple[torch.Tensor, list]:
    """Start to send `held` to the next seat, and to receive what the one before holds."""
    arriving = torch.empty_like(held)
    after, before = ((seat.index + step) % seat.size for step in (1, -1))
    after, before = (dist.get_global_rank(seat.group, i) for i in (after, before))
    moves = [dist.P2POp(dist.isend, held, after, seat.group), dist.P2POp(dist.irecv, arriving, before, seat.group)]
    return arriving, dist.batch_isend_irecv(moves)


def merge(
    old: tuple[torch.Tensor, torch.Tensor] | None, new: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over two sets of keys from that over each, results [B,N,H,E] and log-sum-exps [B,N,H], in float32.

    Each result is a mean weighted by exp(score), the log-sum-exp the log of its weights' sum.
    """
    found, weight = new[0].float(), new[1].float()
    if old is None:
        return found, weight
    total = torch.logaddexp(old[1], weight)
    shares = [(x - total).exp().unsqueeze(-1) for x in (old[1], weight)]
    return old[0] * shares[0] + found * shares[1], total


def plain_part(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By the formula, in float32, PLAIN_ROWS queries at a time. Runs everywhere, slowly."""
    key_BHEM, value_BHME = key.float().permute(0, 2, 3, 1), value.float().transpose(1, 2)
    results, weights = [], []
    for rows in query.float().transpose(1, 2).split(PLAIN_ROWS, dim=2):
        scores = rows @ key_BHEM * query.shape[-1] ** -0.5
        results.append(scores.softmax(-1) @ value_BHME)
        weights.append(scores.logsumexp(-1))
    return torch.cat(results, 2).transpose(1, 2).type_as(query), torch.cat(weights, 2).transpose(1, 2)


def _torch_part(name: str, *more: Any) -> AttendPart:
    """One of torch's own kernels that give the log-sum-exp, by its name."""
    kernel = getattr(torch.ops.aten, name)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result, weight, *_ = kernel(*(x.transpose(1, 2) for x in (query, key, value)), *more)
        weight = weight[..., : query.shape[1]]  # the memory-efficient kernel fills up to whole tiles
        return result.transpose(1, 2), weight.transpose(1, 2)

    return attend


# In the order they are tried. The names are inner ones of torch, kept over its releases but not promised.
PARTS: Mapping[str, tuple[tuple[str, tuple], ...]] = {
    "cpu": (("_scaled_dot_product_flash_attention_for_cpu", ()),),
    "cuda": (
        ("_scaled_dot_product_flash_attention", ()),
        ("_scaled_dot_product_efficient_attention", (None, True)),
    ),
}


def choose_part(device: torch.device, dtype: torch.dtype, head_size: int) -> AttendPart:
    """The first of PARTS that proves itself on this device against `plain_part`, which serves where none does."""
    for name, more in PARTS.get(device.type, ()):
        try:
            attend = _torch_part(name, *more)
            error = part_error(attend, device, dtype, head_size)
        except (RuntimeError, AttributeError, TypeError, ValueError) as reason:
            log.debug("%s: %s", name, str(reason).strip().splitlines()[:1])
            continue
        if error <= TOLERANCES[dtype]:
            return attend
        log.debug("%s: off by %.1e", name, error)
    log.warning("--ring_size: no fast kernel gives partial results on %s in %s; a slow one serves", device, dtype)
    return plain_part


def part_error(attend: AttendPart, device: torch.device, dtype: torch.dtype, head_size: int) -> float:
    """The largest relative error of result and log-sum-exp against `plain_part` on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, n, 2, head_size, generator=generator) for n in (131, 77, 77)]
    given = [x.to(device, dtype) for x in drawn]
    with torch.no_grad():
        found, true = attend(*given), plain_part(*(x.float() for x in given))
    errors = [((x.float() - y).norm() / y.norm()).item() for x, y in zip(found, true, strict=True)]
    return max(errors, key=lambda error: (error != error, error))  # NaN counts as the largest

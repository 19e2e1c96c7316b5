"""Several processes of one team, forked from the test: what torchrun does, with the store in the test itself; and the
tiny model they share.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import torch
import torch.distributed as dist
from tiny_wan import context, latents, texts, tiny_wan

from vace.models.denoise import denoise
from vace.models.samplers import make_sampler
from vace.models.wan import transformer
from vace.models.wan.predictor import Predictor
from vace.speed.attention import apply_attention, sdpa
from vace.speed.lean_blocks import apply_lean
from vace.speed.parallel import SpreadPredictor
from vace.speed.parallel_launch import Team

LIMIT = 120  # seconds; the machine may be busy


def model_of(heads: int):
    model = tiny_wan(num_attention_heads=heads, num_layers=2, vace_layers=[0, 1])
    apply_lean(model)
    apply_attention(model, sdpa)
    return model


def run_of(model, grid, kind=Predictor, **options):
    """Three guided steps: latents; kind makes the predictor."""
    job = transformer.prepare(model, context(grid=grid), [1.0, 0.7])
    sampler = make_sampler("unipc", 3, 5.0)
    predict = kind(model, job, texts(model), 3, guidance_scale=4.0, **options)
    return denoise(latents(grid=grid), sampler, predict)


def velocity_of(model, grid, kind=Predictor):
    job = transformer.prepare(model, context(grid=grid))
    return kind(model, job, texts(model)[:1], 1)(latents(grid=grid), 500.0)


def spread(model, team: Team):
    """The model, its attention over all processes, and the predictor of this process."""
    config = model.config
    apply_attention(model, team.attention(sdpa, torch.float32, config.num_attention_heads, config.attention_head_dim))
    return model, lambda *given, **options: SpreadPredictor(team, *given, **options)


def run_team(work, size: int, folder: Path) -> tuple[list, list[int], float]:
    """work(rank) in `size` processes: what each gave or raised (None for one that ended without), exit codes, seconds.

    The processes are forked: the test's imports are theirs.
    """
    from diffusers import WanVACETransformer3DModel  # noqa: F401  once here, not in every process
    from transformers import UMT5EncoderModel  # noqa: F401

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("fork")
    started = time.monotonic()
    processes = [context.Process(target=_one, args=(work, rank, size, store.port, folder)) for rank in range(size)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(max(0.1, LIMIT - (time.monotonic() - started)))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
    seconds = time.monotonic() - started
    given = [folder / f"rank{rank}" for rank in range(size)]
    results = [pickle.loads(path.read_bytes()) if path.is_file() else None for path in given]
    return results, [process.exitcode for process in processes], seconds


def _one(work, rank: int, size: int, port: int, folder: Path) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    try:
        result = work(rank)
    except BaseException as error:  # for the test to look at
        result = error
    path = folder / f"rank{rank}"
    path.with_suffix(".part").write_bytes(pickle.dumps(result))
    path.with_suffix(".part").rename(path)

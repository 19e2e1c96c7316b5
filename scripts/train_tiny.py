"""Train the embedded model assets/models/vace-tiny, stage by stage, on the CPU or whatever accelerate finds.

    python scripts/train_tiny.py vae     --out runs/vae
    python scripts/train_tiny.py rows    --out runs/rows --vae runs/vae/best --count 20000 --workers 2
    python scripts/train_tiny.py rows    --out runs/held --vae runs/vae/best --count 512 --split held_out
    python scripts/train_tiny.py rows    --out runs/stills --vae runs/vae/best --count 48000 --frames 1 --workers 2
    python scripts/train_tiny.py base    --out runs/base --vae runs/vae/best --rows runs/rows --held_out runs/held
    python scripts/train_tiny.py context --out runs/context  ... --weights runs/base/best
    python scripts/train_tiny.py joint   --out runs/joint    ... --weights runs/context/best

--resume goes on from the newest state in --out, --weights starts from a written folder alone. Ctrl-C saves and ends. A
run's best/ holds what goes into the checkpoint; of base, context and joint it is a whole one.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from vace.errors import InputError, VaceError
from vace.training import flow_stage, vae_stage
from vace.training.trainer import Plan, Stage, train

FLOW_STAGES = tuple(flow_stage.KINDS)


def main() -> int:
    args = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if getattr(args, "threads", 0):
        import torch

        torch.set_num_threads(args.threads)
    try:
        return make_rows(args) if args.stage == "rows" else run_stage(args)
    except VaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    stages = whole.add_subparsers(dest="stage", required=True, metavar="STAGE")
    shared = _shared()
    vae = stages.add_parser("vae", parents=[shared], help="the VAE, on toy worlds")
    vae.add_argument("--decoder_only", action="store_true", help="leave the encoder, and so encoded rows, as they are")
    rows = stages.add_parser("rows", help="encode rows for the stages after it; may be run again to go on, or for more")
    rows.add_argument("--out", type=Path, required=True, help="folder of the rows")
    rows.add_argument("--vae", type=Path, required=True, help="folder of the VAE, or with a vae/ in it")
    rows.add_argument("--count", type=int, required=True, help="how many rows the folder shall hold")
    rows.add_argument("--split", choices=("train", "held_out"), default="train", help="of the worlds (default: train)")
    rows.add_argument("--seed", type=int, default=0, help="of the rows (default: 0)")
    rows.add_argument("--frames", type=int, default=17, help="of a row: 1, or 4n+1 from 9 on (default: 17)")
    rows.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    for name in FLOW_STAGES:
        stage = stages.add_parser(name, parents=[shared], help=f"see vace/training/flow_stage.py: {name}")
        stage.add_argument("--rows", type=Path, required=True, help="folder of the rows to learn from")
        stage.add_argument("--held_out", type=Path, required=True, help="folder of the rows to judge by")
        stage.add_argument("--vae", type=Path, required=True, help="folder of the VAE, or with a vae/ in it")
        stage.add_argument("--stills", type=Path, help="folder of rows of one frame, for most steps of first frames")
        stage.add_argument("--bfloat16", action="store_true", help="products in bfloat16: for CPUs fast at these")
    return whole


def _shared() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--out", type=Path, required=True, help="folder of the run")
    shared.add_argument("--resume", action="store_true", help="go on from the newest state in --out")
    shared.add_argument("--weights", type=Path, help="a written folder to start from, without an optimiser's state")
    shared.add_argument("--from_step", type=int, default=0, help="where on the schedule --weights begin (default: 0)")
    shared.add_argument("--until", type=int, help="stop after this step of the schedule")
    shared.add_argument("--length", type=float, default=1.0, help="stretches the schedule by this (default: 1)")
    shared.add_argument("--seed", type=int, default=0, help="of weights, batches and noise (default: 0)")
    shared.add_argument("--state_minutes", type=float, default=Plan.state_minutes, help="between two states")
    shared.add_argument("--sheet_steps", type=int, default=Plan.sheet_steps, help="between two sheets of samples")
    shared.add_argument("--optimiser", choices=("muon", "adamw"), default="muon", help="(default: muon)")
    shared.add_argument("--threads", type=int, default=0, help="of the CPU (default: torch's choice)")
    shared.add_argument("--halves", action="store_true", help="half of each batch on a thread: for two cores")
    return shared


def make_rows(args: argparse.Namespace) -> int:
    from vace.training.latents import build

    given = {"seed": args.seed, "split": args.split, "frames": args.frames, "workers": args.workers}
    rows = build(args.vae, args.out, rows=args.count, **given)
    print(json.dumps({"rows": len(rows), "shapes": {str(shape): count for shape, count in rows.shapes.items()}}))
    return 0


def run_stage(args: argparse.Namespace) -> int:
    stage, read = _stage(args)
    plan = Plan(
        seed=args.seed, state_minutes=args.state_minutes, sheet_steps=args.sheet_steps, optimiser=args.optimiser,
        plain=stage.plain, halves=args.halves, is_half=getattr(args, "bfloat16", False),
    )  # fmt: skip
    weights = read(args.weights) if args.weights and not args.resume else None
    progress = train(
        stage, args.out, plan, resume=args.resume, weights=weights, from_step=args.from_step, until=args.until
    )
    print(json.dumps(asdict(progress)))
    return 0 if progress.step >= min(stage.steps, args.until or stage.steps) else 130


def _stage(args: argparse.Namespace) -> tuple[Stage, object]:
    """The stage, and how its written weights are read."""
    if args.stage == "vae":
        stage = vae_stage.VaeStage(seed=args.seed, length=args.length, decoder_only=args.decoder_only)
        return stage, vae_stage.weights_of
    from vace.training.flow_model import weights_of

    if args.stage != "base" and not (args.weights or args.resume):
        raise InputError(f"{args.stage} goes on from an earlier stage: give its folder, --weights RUN/best")
    stage = flow_stage.FlowStage(
        args.stage, args.rows, args.held_out, args.vae, seed=args.seed, length=args.length, stills=args.stills,
        is_half=args.bfloat16,
    )  # fmt: skip
    stage.check()
    return stage, functools.partial(weights_of, with_context=stage.with_context)


if __name__ == "__main__":
    sys.exit(main())

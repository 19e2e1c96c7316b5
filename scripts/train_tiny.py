"""Train the embedded model assets/models/vace-tiny, stage by stage, on the CPU or whatever accelerate finds.

    python scripts/train_tiny.py vae --out runs/vae             from random weights
    python scripts/train_tiny.py vae --out runs/vae --resume    from the newest state in that folder
    python scripts/train_tiny.py vae --out runs/more --weights assets/models/vace-tiny/vae --from_step 8000

Ctrl-C saves and ends. The folder's best/ holds what goes into the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from vace.errors import VaceError
from vace.training.trainer import Plan, train
from vace.training.vae_stage import VaeStage, weights_of

STAGES = {"vae": (VaeStage, weights_of)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the newest state in --out")
    parser.add_argument("--weights", type=Path, help="a written folder to start from, without an optimiser's state")
    parser.add_argument("--from_step", type=int, default=0, help="where on the schedule --weights begin (default: 0)")
    parser.add_argument("--until", type=int, help="stop after this step of the schedule")
    parser.add_argument("--length", type=float, default=1.0, help="stretches the schedule by this (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, clips and noise (default: 0)")
    parser.add_argument("--state_minutes", type=float, default=Plan.state_minutes, help="between two states")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: torch's choice)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    make, read = STAGES[args.stage]
    stage, plan = make(seed=args.seed, length=args.length), Plan(seed=args.seed, state_minutes=args.state_minutes)
    weights = read(args.weights) if args.weights else None
    try:
        progress = train(
            stage, args.out, plan, resume=args.resume, weights=weights, from_step=args.from_step, until=args.until
        )
    except VaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(progress)))
    return 0 if progress.step >= min(stage.steps, args.until or stage.steps) else 130


if __name__ == "__main__":
    sys.exit(main())

"""`python -m vace.evaluation`: the evaluation by itself. The last line on stdout is its JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from vace.errors import VaceError
from vace.evaluation.measures import MEASURES
from vace.evaluation.run import FAST_PER_TASK, FAST_SEEDS, PER_TASK, SEEDS, evaluate


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vace.evaluation", description=evaluate.__doc__.splitlines()[0])
    parser.add_argument("--ckpt_dir", help="the checkpoint (the embedded tiny, or a model found on this machine)")
    parser.add_argument("--model_name", help="the checkpoint by its name")
    parser.add_argument("--seed", type=int, default=0, help="draws other worlds; -1 draws the seed itself (0)")
    parser.add_argument("--seeds", type=int, help=f"draws of worlds ({SEEDS}; --fast {FAST_SEEDS})")
    parser.add_argument("--per_task", type=int, help=f"rows of a task in each ({PER_TASK}; --fast {FAST_PER_TASK})")
    parser.add_argument("--tasks", help=f"only these, by commas: {', '.join(MEASURES)}")
    parser.add_argument("--size", help="WxH of the worlds (64x64 and 96x64; real checkpoints 256x256)")
    parser.add_argument("--steps", type=int, help="denoising steps instead of the checkpoint's own")
    parser.add_argument("--guidance_scale", type=float, help="guidance instead of the checkpoint's own")
    parser.add_argument("--workers", type=int, help="processes that share the rows (2 for a toy model on a CPU)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", help="folder for scores.json, table.md and the sheets (results/eval/TIME)")
    parser.add_argument("--fast", action="store_true", help="a subset, in two minutes")
    parser.add_argument("--json", action="store_true", help="no table on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    given = vars(parser.parse_args(arguments))
    is_bare, is_quiet = given.pop("json"), given.pop("quiet")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.ERROR if is_quiet else logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        found = evaluate(progress=not is_quiet, **given)
    except VaceError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    if not is_bare:
        print(found.table)
    print(json.dumps(found.as_json()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

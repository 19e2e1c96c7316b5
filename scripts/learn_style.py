"""Prove `vace train` on the embedded model: a style learnt from 20 clips, its loss and its adherence before and after.

    python scripts/learn_style.py --out runs/dusk [--steps 300] [--ckpt_dir tiny]

Toy worlds are repainted in five colours of dusk, by how bright they are; `vace.preprocess` makes their conditions
(gray) from the worlds as they were. Worlds of the held-out split are judged, never trained on. Adherence is the share
of pixels whose colour lies near the colours of dusk, or between two neighbours of them; fidelity is the PSNR against
the world repainted. The folder holds report.json, report.md and strips.png (condition, truth, before, after).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np

from vace.errors import VaceError

PALETTE = np.float32([(24, 16, 58), (92, 30, 110), (196, 62, 92), (244, 146, 64), (255, 232, 176)])  # dark to light
BETWEEN = 16  # colours between two neighbours
NEAR = 40.0  # levels of RGB distance that still count as that colour
LUMA = np.float32([0.299, 0.587, 0.114])
WORDS = ", in dusk colours"
FPS, FRAMES = 16, 17
HELD_OUT_SEED = 700_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the proof")
    parser.add_argument("--ckpt_dir", default="tiny", help="the model that learns (default: tiny)")
    parser.add_argument("--task", default="gray", choices=("gray", "depth", "scribble"), help="what leads (gray)")
    parser.add_argument("--clips", type=int, default=20, help="to learn from (default: 20)")
    parser.add_argument("--held_out", type=int, default=6, help="to judge by (default: 6)")
    parser.add_argument("--size", default="64x64", help="of the clips (default: 64x64)")
    parser.add_argument("--train", default="lora", choices=("lora", "context"))
    parser.add_argument("--lora_blocks", default="all", choices=("context", "all"))
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=300, help="of training (default: 300)")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        report = prove(args)
    except VaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def prove(args: argparse.Namespace) -> dict:
    """Make the clips, train, generate before and after, and write the report, which is returned."""
    from vace.training.finetune import finetune

    begin = time.perf_counter()
    rows = make_rows(args.out / "data", args)
    prepared = time.perf_counter() - begin
    answer = finetune(
        args.out / "data" / "rows.jsonl", args.out / "run", ckpt_dir=args.ckpt_dir, size=args.size, train=args.train,
        lora_blocks=args.lora_blocks, rank=args.rank, steps=args.steps, batch_size=args.batch_size,
        learning_rate=args.learning_rate, seed=args.seed, save_steps=max(1, args.steps // 4), context_dropout=0.0,
    )  # fmt: skip
    trained = time.perf_counter() - begin - prepared
    held_out = [row for row in rows if row["validation"]]
    made = {}
    for name, checkpoint in (("before", args.ckpt_dir), ("after", answer["checkpoint"])):
        made[name] = [_generated(row, args, checkpoint, f"{name}-{number}") for number, row in enumerate(held_out)]
    truths = [_frames(args.out / "data" / row["target"]) for row in held_out]
    report = {
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        "loss": {name: answer[name]["validation_loss"] for name in made},
        "adherence": {name: _mean(adherence, clips) for name, clips in made.items()}
        | {"truth": _mean(adherence, truths), "plain": _mean(adherence, [_plain(args.out, row) for row in held_out])},
        "psnr": {name: _mean(psnr, clips, truths) for name, clips in made.items()},
        "best_step": answer["best_step"],
        "minutes": {"data": round(prepared / 60, 2), "training": round(trained / 60, 2),
                    "all": round((time.perf_counter() - begin) / 60, 2)},
    }  # fmt: skip
    conditions = [_frames(next((args.out / "data" / row["prepared"]).glob("src_video-*"))) for row in held_out]
    _write(args.out, report, conditions, truths, made)
    return report


def make_rows(folder: Path, args: argparse.Namespace) -> list[dict]:
    """Clips, conditions and rows.jsonl in `folder`; returns the rows, each with its world in plain colours too."""
    from vace.media.video import VideoWriter
    from vace.preprocess import preprocess
    from vace.training.worlds import render, sample_world

    width, height = (int(side) for side in args.size.split("x"))
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(args.clips + args.held_out):
        judged = number >= args.clips
        seed = HELD_OUT_SEED + number if judged else args.seed * 10_000 + number
        clip = render(sample_world(seed, split="held_out" if judged else "train"), size=(width, height), frames=FRAMES)
        row = {"prompt": clip.caption + WORDS, "target": f"{number}.mp4", "prepared": f"{args.task}-{number}"}
        for name, frames in ((f"{number}-plain.mp4", clip.frames), (row["target"], dusk(clip.frames))):
            with VideoWriter(folder / name, FPS, kind="exact") as writer:
                writer.write(frames)
        preprocess(args.task, video=str(folder / f"{number}-plain.mp4"), pre_save_dir=folder / row["prepared"],
                   progress=False, resume=True)  # fmt: skip
        rows.append(row | {"validation": judged})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def dusk(frames: np.ndarray) -> np.ndarray:
    """uint8 [T,H,W,3] in the five colours, by brightness: the clip's own range in five equal parts."""
    gray = frames @ LUMA
    low, high = np.percentile(gray, (2, 98))
    steps = ((gray - low) / max(1.0, high - low) * len(PALETTE)).astype(int).clip(0, len(PALETTE) - 1)
    return PALETTE.astype(np.uint8)[steps]


def adherence(frames: np.ndarray) -> float:
    """Share of pixels near the colours of dusk or between two neighbours of them, 0..1."""
    shares = np.linspace(0, 1, BETWEEN, endpoint=False, dtype=np.float32)[:, None]
    line = [start + shares * (end - start) for start, end in zip(PALETTE, PALETTE[1:], strict=False)]
    colours = np.concatenate([*line, PALETTE[-1:]])
    nearest = [np.linalg.norm(frame.reshape(-1, 1, 3) - colours, axis=-1).min(axis=1) for frame in np.float32(frames)]
    return float(np.mean(np.stack(nearest) < NEAR))


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Decibels, of levels 0..255."""
    error = np.mean((np.float32(frames) - np.float32(truth)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def _generated(row: dict, args: argparse.Namespace, checkpoint: str, name: str) -> np.ndarray:
    from vace.generate import generate

    (source,) = (args.out / "data" / row["prepared"]).glob("src_video-*")
    made = generate(row["prompt"], src_video=str(source), ckpt_dir=checkpoint, size=args.size, out_format="exact",
                    save_dir=args.out / "made" / name, seed=args.seed, progress=False)  # fmt: skip
    return _frames(made.out_videos[0])


def _frames(path: Path) -> np.ndarray:
    from vace.media.clip import read_all
    from vace.media.video import VideoReader

    with VideoReader(path) as reader:
        return read_all(reader)


def _plain(out: Path, row: dict) -> np.ndarray:
    return _frames(out / "data" / row["target"].replace(".mp4", "-plain.mp4"))


def _mean(measure, *clips: list[np.ndarray]) -> float:
    return round(float(np.mean([measure(*together) for together in zip(*clips, strict=True)])), 4)


def _write(out: Path, report: dict, conditions: list, truths: list, made: dict) -> None:
    from vace.media.files import replacing
    from vace.media.image import write_image
    from vace.media.manifest import write_json

    write_json(out / "report.json", report)
    rows = [("loss on held-out clips", "loss", "{:.4f}"), ("pixels in the style", "adherence", "{:.1%}"),
            ("PSNR against the truth, dB", "psnr", "{:.2f}")]  # fmt: skip
    lines = ["| | before | after |", "|---|---|---|"]
    lines += [f"| {what} | {form.format(report[key]['before'])} | {form.format(report[key]['after'])} |"
              for what, key, form in rows]  # fmt: skip
    settings, shares = report["settings"], report["adherence"]
    lines += ["", f"{settings['clips']} clips, {settings['steps']} steps of {settings['batch_size']}, "
              f"{report['minutes']['training']} minutes of training. Of the truth {shares['truth']:.1%} of the pixels "
              f"are in the style, of the worlds as they were {shares['plain']:.1%}."]  # fmt: skip
    with replacing(out / "report.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    strips = []
    for clips in zip(conditions, truths, made["before"], made["after"], strict=True):
        strips.append(np.concatenate([np.concatenate([clip[at] for at in (0, len(clip) // 2, -1)], axis=1)
                                      for clip in clips], axis=1))  # fmt: skip
    write_image(out / "strips.png", np.concatenate(strips))


if __name__ == "__main__":
    sys.exit(main())

"""One run of `vace train`: what is decided before anything heavy, then its stages in order."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.errors import InputError
from vace.job import Job
from vace.media.files import replacing
from vace.media.manifest import write_json
from vace.runs import versions
from vace.training.finetune_rows import PlannedRow

if TYPE_CHECKING:
    from accelerate import Accelerator

    from vace.training.finetune import Options
    from vace.training.finetune_cache import Item
    from vace.training.finetune_stage import FinetuneStage

log = logging.getLogger("vace")

RATES = {"lora": 1e-4, "context": 1e-5}
MAY_CHANGE = ("steps", "device", "processes")  # of run.json, in a resumed run
LONGEST_WAIT = timedelta(hours=12)  # of processes for each other, while one encodes or writes
NEVER = 10**12  # steps


class Training:
    """One run, everything about its flags and rows checked."""

    def __init__(self, job: Job, planned: list[PlannedRow], options: Options, out: Path, progress: bool) -> None:
        from vace.devices import pick_device, pick_dtype
        from vace.training.finetune_plan import split_rows, trained_numbers
        from vace.training.finetune_stage import Recipe

        self.job, self.planned, self.options, self.out, self.progress = job, planned, options, out, progress
        self.part, seed = job.checked[0]["transformer"], job.settings.seed
        device = pick_device(job.settings.device)
        self.dtype = pick_dtype(job.settings.dtype, device)
        if str(self.dtype) == "torch.float16":
            raise InputError("--dtype float16: gradients overflow in it; use bfloat16 or float32")
        self.alpha = float(options.rank if options.alpha is None else options.alpha)
        self.recipe = Recipe(
            options.steps, options.learning_rate or RATES[options.train], options.batch_size, options.accumulate,
            float(options.shift), options.prompt_dropout, options.context_dropout, seed,
        )  # fmt: skip
        self.sides = split_rows(planned, options.validation, seed)
        self.trained = trained_numbers(self.part, options.train, options.rank, options.lora_blocks)
        asked = options.gradient_checkpointing
        self.checkpointing = not job.checkpoint.is_toy if asked is None else asked

    def run(self, resume: bool) -> dict:
        from vace.training.finetune_cache import Cache, encode_missing

        self._check_state(resume)
        self.accelerator = self._accelerator()
        parts = self.job.checked[0]
        engine = self._engine()
        folder = Path(self.options.cache_dir) if self.options.cache_dir else self.out / "cache"
        cache = Cache(folder, parts["vae"], parts["text_encoder"], engine.dtype)
        items = cache.items(self.planned, self.job.settings)
        settings = self._settings(items)
        if resume:
            self._check_same(settings)
        self._check_room(folder, items)
        log.info("%s", self._plan_line())
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        encode_missing(engine, cache, self.planned, items, self.job.settings, part=share, progress=self.progress)
        self.accelerator.wait_for_everyone()
        stage = self._stage(items, cache.text(""))
        before = self._before(stage, settings, resume)
        self._train(stage, resume)
        answer = self._finish(settings, before) if self.accelerator.is_main_process else {}
        self.accelerator.wait_for_everyone()
        return answer

    def _check_state(self, resume: bool) -> None:
        state = self.out / "state.pt"
        if resume and not state.is_file():
            raise InputError(f"--resume: {self.out} holds no state.pt to go on from; leave --resume out to start anew")
        if not resume and state.exists():
            raise InputError(
                f"--out {self.out}: holds a training already; go on with --resume, or choose another folder"
            )

    def _accelerator(self) -> Accelerator:
        import torch
        from accelerate import Accelerator, InitProcessGroupKwargs

        from vace.devices import pick_device

        asked = pick_device(self.job.settings.device)
        if asked.index:  # one of several, by number
            os.environ.setdefault("ACCELERATE_TORCH_DEVICE", str(asked))
        on_cpu = asked.type == "cpu" and (torch.cuda.is_available() or "LOCAL_RANK" in os.environ)
        return Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)])

    def _engine(self) -> Any:
        from vace.models.wan.engine import load_engine

        return load_engine(self.job.checkpoint, self._device_name(), self.dtype, checked=self.job.checked)

    def _device_name(self) -> str:
        device = self.accelerator.device
        return "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"

    def _settings(self, items: list[Item]) -> dict[str, Any]:
        """What run.json says: all that the weights depend on."""
        options, settings = self.options, {"model": [self.job.checkpoint.name, self.job.fingerprint]}
        settings |= {"train": options.train} | asdict(self.recipe)
        if options.train == "lora":
            settings |= {"rank": options.rank, "alpha": self.alpha, "lora_blocks": options.lora_blocks}
        settings |= {"rows": [item.row.stem for item in items], "validation_rows": self.sides[1]}
        settings |= {"prompts": [item.text.stem for item in items], "dtype": str(self.dtype).removeprefix("torch.")}
        return settings | {"device": self._device_name(), "processes": self.accelerator.num_processes}

    def _check_same(self, settings: Mapping[str, Any]) -> None:
        """Raise InputError where a resumed run would be another than the one begun."""
        path = self.out / "run.json"
        kept = json.loads(path.read_text(encoding="utf-8"))["settings"] if path.is_file() else {}
        for name, value in json.loads(json.dumps(settings)).items():
            if name in kept and name not in MAY_CHANGE and kept[name] != value:
                long = isinstance(value, list)
                told = "is another now" if long else f"was {kept[name]}, now it is {value}"
                raise InputError(f"--resume: {name} {told}; a resumed run takes the same data and settings (only "
                                 "--steps may change), or choose another --out")  # fmt: skip

    def _check_room(self, cache: Path, items: list[Item]) -> None:
        """Raise OutputError, before hours of work, where what will be written has no room."""
        from vace.training.finetune_cache import check_room, missing_bytes
        from vace.training.finetune_model import CONTEXT, CONTEXT_PREFIX, lora_targets
        from vace.training.finetune_output import checkpoint_bytes
        from vace.training.finetune_plan import FLOAT32, STATE_COPIES

        if not self.accelerator.is_main_process:
            return
        names = list(self.part.names)
        changed = {name for name in names if name.startswith(CONTEXT_PREFIX)}
        if self.options.train != CONTEXT:
            changed = set(lora_targets(names, self.options.lora_blocks))
        # Two states while one takes the other's place, the result in best/ and in the folder itself.
        need = FLOAT32 * self.trained * (2 * STATE_COPIES + 2) + missing_bytes(items)
        if not self.options.no_checkpoint:
            need += checkpoint_bytes(self.job.checkpoint, self.part, changed, self.out)
        check_room(self.out, need, "free some space, choose another --out, or use --no_checkpoint or --train lora")

    def _plan_line(self) -> str:
        from vace.training.finetune_plan import plan_line

        run = {"kind": self.options.train, "rank": self.options.rank, "blocks": self.options.lora_blocks}
        run |= {"trained": self.trained, "dtype": self.dtype, "device": self._device_name()}
        run |= {"processes": self.accelerator.num_processes, "checkpointing": self.checkpointing}
        return plan_line(self.job.checkpoint, self.part, self.planned, self.sides, self.recipe, run)

    def _stage(self, items: list[Item], empty_text: Path) -> FinetuneStage:
        import torch

        from vace.models.loading import build
        from vace.training.finetune_model import Tuned, make_trainable
        from vace.training.finetune_stage import FinetuneStage

        options, parts = self.options, self.job.checked[0]
        transformer = build(self.part, self.dtype, self.accelerator.device)
        make_trainable(transformer, options.train, rank=options.rank, alpha=self.alpha, blocks=options.lora_blocks,
                       seed=self.recipe.seed)  # fmt: skip
        autocast = self.dtype if self.dtype != torch.float32 else None
        tuned = Tuned(transformer, self.part.config["text_len"], autocast, self.checkpointing)
        rows, judged = ([items[i] for i in side] for side in self.sides)
        return FinetuneStage(
            f"finetune-{options.train}", tuned, self.recipe, rows, judged, empty_text, self.accelerator, self._write,
            parts["vae"], self.job.settings.guidance_scale,
        )  # fmt: skip

    def _write(self, tuned: Any, folder: Path) -> None:
        from vace.training.finetune_output import NAMES, write_weights

        kind, facts = self.options.train, {"base_model": self.job.checkpoint.name}
        if kind == "lora":
            facts |= {"rank": self.options.rank, "alpha": self.alpha}
        write_weights(folder / NAMES[kind], kind, tuned.tensors(), facts)

    def _before(self, stage: FinetuneStage, settings: dict, resume: bool) -> dict[str, float]:
        """The judged losses before the first step, in log.jsonl and run.json."""
        path = self.out / "run.json"
        if not self.accelerator.is_main_process:
            return {}
        if resume and path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["before"]
        before = {name: round(value, 5) for name, value in stage.evaluate(stage.tuned.eval()).items()}
        with replacing(self.out / "log.jsonl") as temporary:
            temporary.write_text(json.dumps({"step": 0, "minutes": 0.0, **before}) + "\n", encoding="utf-8")
        write_json(path, {"settings": settings, "before": before, "versions": versions()})
        log.info("before: %s", before)
        return before

    def _train(self, stage: FinetuneStage, resume: bool) -> None:
        """All steps, with a state saved every `save_steps`. Raises KeyboardInterrupt where it was stopped."""
        from vace.training.trainer import Plan, train

        plan = Plan(seed=self.recipe.seed, averaging=0.99, save_steps=self.options.save_steps, workers=0, log_steps=10,
                    sheet_steps=self.options.sample_steps or NEVER, progress=self.progress)  # fmt: skip
        done = train(stage, self.out, plan, resume=resume, accelerator=self.accelerator).step
        if done < stage.steps:
            log.warning("stopped at step %d of %d; go on with the same command and --resume", done, stage.steps)
            raise KeyboardInterrupt

    def _finish(self, settings: dict, before: dict[str, float]) -> dict:
        """The best weights as the result, and the checkpoint with them put in."""
        from vace.training.finetune_output import NAMES, write_checkpoint

        name = NAMES[self.options.train]
        best = json.loads((self.out / "best" / "facts.json").read_text(encoding="utf-8"))
        with replacing(self.out / name) as temporary:
            temporary.write_bytes((self.out / "best" / name).read_bytes())
        after = {key: value for key, value in best.items() if key != "step"}
        facts = {**settings, "best_step": best["step"], "before": before, "after": after, "versions": versions()}
        write_json(self.out / "facts.json", facts)
        answer = {"weights": str(self.out / name), "checkpoint": None, "facts": str(self.out / "facts.json")}
        if not self.options.no_checkpoint:
            folder = self.out / "checkpoint"
            called = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{self.job.checkpoint.name}-{self.out.resolve().name}")
            write_checkpoint(self.job.checkpoint, self.part, self.out / name, folder, called)
            answer["checkpoint"] = str(folder)
        loss = next(key for key in before if key.endswith("_loss"))
        log.info("%s: %.4f before, %.4f after (the weights of step %d)", loss, before[loss], after[loss], best["step"])
        return answer | {"steps": self.recipe.steps, "best_step": best["step"], "before": before, "after": after,
                         "toy": self.job.checkpoint.is_toy}  # fmt: skip

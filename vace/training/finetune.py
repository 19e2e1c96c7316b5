"""`vace train`: fine-tune the context blocks, or a LoRA, of a Wan2.1-VACE checkpoint on clips of one's own.

    vace train --ckpt_dir models/Wan2.1-VACE-1.3B --data style.jsonl --out runs/style
    accelerate launch -m vace train --ckpt_dir ... --data ... --out ...        several GPUs

--data: one JSON object a line; see vace.training.finetune_rows. The folder --out holds

    lora.safetensors or context.safetensors, facts.json      the result
    checkpoint/       the model with the result put in: `vace wan --ckpt_dir runs/style/checkpoint`
    log.jsonl         losses; of validation rows at fixed noise before, at each save, and after
    cache/            rows encoded once
    state.pt, best/   what --resume goes on from; the weights that were judged best so far
    run.json          the settings that a resumed run must share
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from vace.errors import DeviceError, InputError, is_out_of_memory
from vace.job import prepare_job
from vace.materials import check_number
from vace.runs import OutputFolder
from vace.settings import check_positive
from vace.training.finetune_rows import plan_rows, read_rows
from vace.training.finetune_run import RATES, Training

log = logging.getLogger("vace")

OF_GENERATION = ("ckpt_dir", "model_name", "config", "no_download", "size", "frame_num", "frame_policy", "fill_mask",
                 "allow_truncated", "seed", "device", "dtype")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The flags that are no flags of generation, with their defaults. alpha: None is the rank."""

    train: str = "lora"
    rank: int = 16
    alpha: float | None = None
    lora_blocks: str = "context"
    steps: int = 1000
    learning_rate: float | None = None
    batch_size: int = 1
    accumulate: int = 1
    shift: float = 3.0
    prompt_dropout: float = 0.1
    context_dropout: float = 0.05
    validation: float = 0.1
    save_steps: int = 250
    sample_steps: int = 0
    gradient_checkpointing: bool | None = None
    cache_dir: str | None = None
    no_checkpoint: bool = False

    def check(self) -> None:
        """Raise InputError that names the flag."""
        for name, known in (("train", tuple(RATES)), ("lora_blocks", ("context", "all"))):
            if getattr(self, name) not in known:
                raise InputError(f"--{name} {getattr(self, name)}: unknown; give {' or '.join(known)}")
        for name in ("rank", "steps", "batch_size", "accumulate", "save_steps"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("sample_steps", self.sample_steps, 0, whole=True)
        for name in ("alpha", "learning_rate", "shift"):
            check_positive(name, getattr(self, name))
        for name in ("prompt_dropout", "context_dropout", "validation"):
            check_number(name, getattr(self, name), 0, 0.9)


def finetune(data: str | Path, out: str | Path, *, resume: bool = False, progress: bool = True, **given) -> dict:
    """Fine-tune a model. given: flags of `Options` and of OF_GENERATION; None is a flag left out.

    Returns where the results are and how the judged loss changed. Raises VaceError: InputError for flags and rows (all
    bad rows told at once), MissingWeights, CheckpointError, DeviceError, OutputError, MissingDependency; and
    KeyboardInterrupt after Ctrl-C or SIGTERM, when the state has been saved.
    """
    given = {name: value for name, value in given.items() if value is not None}
    unknown = given.keys() - set(OF_GENERATION) - Options.__dataclass_fields__.keys()
    if unknown:
        raise InputError(f"--{min(unknown)}: no flag of train")
    options = Options(**{name: value for name, value in given.items() if name not in OF_GENERATION})
    options.check()
    if int(os.environ.get("RANK", "0")):  # one process speaks for all
        log.setLevel(logging.ERROR)
        progress = False
        if given.get("seed") == -1:
            raise InputError("--seed -1: several processes would each draw their own; give a number")
    rows = read_rows(data)
    job = prepare_job(rows[0].prompt, **{name: given[name] for name in OF_GENERATION if name in given})
    if job.checkpoint.layout == "single":
        raise InputError(
            f"--ckpt_dir {job.checkpoint.path}: a transformer in a file of its own; training writes whole checkpoints, "
            "so give the folder of one"
        )
    planned = plan_rows(data, rows, job.settings)
    from vace.devices import toy_threads

    with OutputFolder(out, "--out", Path("runs")), toy_threads(job.checkpoint.is_toy):
        try:
            return Training(job, planned, options, Path(out), progress).run(resume)
        except Exception as error:
            if is_out_of_memory(error):
                raise DeviceError(
                    f"out of memory ({str(error).partition('. ')[0]}); use --gradient_checkpointing, --batch_size 1, "
                    "--train lora, a smaller --size or fewer frames (--frame_num)"
                ) from error
            raise

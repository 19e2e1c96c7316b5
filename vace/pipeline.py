"""Verb 3: materials and a prompt -> out_video. Verb 1 and verb 2 in a row, through files and their manifests."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from vace.annotators.base import Result
from vace.bases import find_base
from vace.conditioning.frames import padded_count
from vace.conditioning.plan import LEAST_FILLER, FramePlan, plan_whole
from vace.conditioning.sizes import fit_area, source_frames
from vace.errors import InputError
from vace.flags import flags_for
from vace.generate import generate
from vace.generated import Generated
from vace.job import PROMPT_FLAGS, Job, prepare_job, with_extended_prompt
from vace.layer_syntax import parse_layers
from vace.materials import report_unused
from vace.media.manifest import read_json, write_json
from vace.places import Places
from vace.prepared import Prepared
from vace.preprocess import open_networks, preprocess
from vace.rows import Task
from vace.runs import FILE_FLAGS, SCHEMA, OutputFolder, full_paths, read_manifest, split_list
from vace.settings import TRANSLATED, Settings, check_foreign
from vace.sources import open_sources, plan_footage
from vace.tasks import LAYERED, TASKS, find_task, resolve_mode

if TYPE_CHECKING:
    from vace.warm import Warm
    from vace.watching import Watch

log = logging.getLogger("vace")

JOB_FILE = "job.json"  # the resolved command, in the result's folder until the result is there
CLIP_SHARE = 5  # a clip to be continued gives one frame in five, unless all of it fits or --clip_frames says otherwise


class ModelFrames:
    """Chooses the frames of footage the model will see, so that only these are prepared."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fps = settings.fps

    def key(self) -> dict:
        """What the choice depends on besides the footage."""
        area = self.settings.area
        return {
            "area": [area.width, area.height, area.max_tokens],
            "fps": self.fps,
            "frame_policy": self.settings.frame_policy,
            "frame_num": self.settings.asked_frames,
        }

    def limit(self, width: int, height: int, name: str) -> int:
        return self.settings.asked_frames or source_frames(
            width, height, self.settings.area, self.settings.base.stride, name
        )

    def expand_num(self, result: Result, wanted: int) -> int:
        """How many of `wanted` frames to make, so that the model takes all of `result`; given frames are all kept.

        Raises InputError where they leave no room.
        """
        limit = self.limit(result.width, result.height, "the picture")
        given = result.frame_count - wanted
        if result.frame_count <= limit:
            return wanted
        if limit - given < min(LEAST_FILLER, wanted):
            raise InputError(
                f"{given} frames are given, and at this size the model takes {limit} in all: use at most "
                f"{max(1, limit - LEAST_FILLER)} of them (--clip_frames), a smaller --size, or another --frame_num"
            )
        log.info("making %d frames, not %d: the model takes %d in all", limit - given, wanted, limit)
        return limit - given

    def footage(self, clip, width: int, height: int) -> FramePlan:
        """The plan for a clip from which frames of width x height are made."""
        fit_area(width, height, self.settings.area.area, self.settings.base.stride, clip.name)
        plan = plan_footage(self.settings, clip, (width, height), self.settings.frame_policy)
        log.info("frames: %s", plan.describe())
        return plan

    def clips(self, clips: list, clip_frames: int | None, expand_num: int) -> tuple[list[FramePlan], int | None]:
        """Plans at the model's rate for clips that are kept, and how many frames of each to keep (None: all)."""
        plans = [plan_whole(clip.timestamps, self.fps, clip.name) for clip in clips]
        if clip_frames is None:
            limit = self.limit(clips[0].width, clips[0].height, clips[0].name)
            kept = sum(plan.count for plan in plans)
            if kept + min(expand_num, limit // 2) > limit:
                stride = self.settings.base.frame_stride
                clip_frames = max(1, padded_count(max(1, limit // CLIP_SHARE), stride) // len(clips))
                log.info("keeping %d of %d given frames, the rest is made; --clip_frames N keeps others",
                         clip_frames * len(clips), kept)  # fmt: skip
        return plans, clip_frames


def pipeline(
    task: str | None = None,
    prompt: str | None = None,
    *,
    base: str = "wan",
    save_dir: str | Path | None = None,
    pre_save_dir: str | Path | None = None,
    progress: bool = True,
    resume: bool = False,
    warm: Warm | None = None,
    watch: Watch | None = None,
    **given,
) -> Generated:
    """Prepare materials for `task` and generate with them.

    given: flags of both verbs. The prepared files go to pre_save_dir (processed/TASK/TIME), the result to save_dir
    (results/MODEL/TIME). resume: stages whose inputs and parameters are those of what the folders hold are not run.
    warm, watch: as for `generate`. Raises what the two verbs raise; settings of both are checked before the first
    begins.
    """
    if not task:
        raise InputError("--task: say what to make of the materials; `vace tasks` lists the tasks")
    row = find_task(task)
    resolve_mode(row, given.get("mode"))
    given = {name: value for name, value in given.items() if value is not None and name != "selection"}
    if not row.annotator:
        report_unused(row, None, given, aside=("size", "frame_num"))
    check_foreign(given, find_base(base))
    extension = given.pop("prompt_extension", None)
    job = prepare_job(prompt, base=base, prompt_extension=extension, **_only(find_base(base).name, given))
    given["seed"] = job.settings.seed
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(OutputFolder(save_dir, "--save_dir", Path("results") / job.checkpoint.name))
        before = None
        if row.annotator:
            before = stack.enter_context(OutputFolder(pre_save_dir, "--pre_save_dir", Path("processed") / row.name))
        _check_second_stage(out, job.settings, given, resume)
        if job.given.get("use_prompt_extend"):
            _check_files(task, given)
            job = with_extended_prompt(job, task, **_led_by(row, job.settings, given | {"task": task}))
        given = {name: value for name, value in given.items() if name not in (*PROMPT_FLAGS, *TRANSLATED, "preset")}
        parameters = full_paths(given | job.parameters()) | {"task": task}
        parameters["save_dir"] = str(out.path.resolve())
        parameters["pre_save_dir"] = str(before.path.resolve()) if before else None
        told = {"schema": SCHEMA, "command": "pipeline", "parameters": parameters}
        write_json(out.file(JOB_FILE), told | ({"prompt_extension": job.extension} if job.extension else {}))
        try:
            run = {"progress": progress, "resume": resume, "watch": watch}
            outcome = _stages(row, job, parameters, given, before and before.path, out.path, run, warm)
        except KeyboardInterrupt:
            out.keep = True
            log.warning("to go on later: vace pipeline --resume %s", out.path)
            raise
        (out.path / JOB_FILE).unlink(missing_ok=True)
    return outcome


def _check_second_stage(out: OutputFolder, settings: Settings, given: dict, resume: bool) -> None:
    """What would be found wrong only after the first stage: the result's place, further references."""
    out.protect({"path": path} for flag in FILE_FLAGS for path in split_list(given.get(flag), files=True))
    Places(out, settings, None, given.get("save_file")).check_paths([resume])
    open_sources(None, None, given.get("src_ref_images")).close()


def _check_files(task: str, given: dict) -> None:
    """Raise InputError for a file that is not there, before a language model is fetched or asked."""
    layers = parse_layers(task) if find_task(task).name == LAYERED else []
    files = [(flag, path) for flag in FILE_FLAGS for path in split_list(given.get(flag), files=True)]
    for flag, path in [*files, *(file for layer in layers for file in layer.files())]:
        if not Path(path).exists():
            raise InputError(f"--{flag} {path}: no such file")


def _led_by(row: Task, settings: Settings, given: dict) -> dict:
    """What the video will be led by, as far as the flags tell before anything is prepared."""
    rows = [(row, given)]
    if row.name == LAYERED:
        rows = [(TASKS[layer.task], given | layer.flags) for layer in parse_layers(given["task"])]
    pictures = sum(
        len(split_list(flags.get("image"), files=True)) for one, flags in rows if "src_ref_images" in one.outputs
    )
    extra = len(split_list(given.get("src_ref_images"), files=True))
    has = {f"has_{kind}": any(f"src_{kind}" in one.outputs for one, _ in rows) for kind in ("video", "mask")}
    # How long a clip is, is seen when it is prepared.
    seconds = None if given.get("video") or row.name == LAYERED else settings.frame_num / settings.fps
    return {"refs": pictures + extra, "seconds": seconds, **has}


def resumed(folder: Path) -> dict:
    """The parameters of the pipeline run in `folder`, finished or not, as keywords for `pipeline`."""
    job = folder / JOB_FILE
    if job.is_file():
        manifest = read_json(job)
    else:
        manifest = read_manifest(folder, "--resume")
        if manifest["command"] != "pipeline":
            raise InputError(
                f"--resume {folder}: made by `vace {manifest['command']}`; give a pipeline's result folder"
            )
    parameters = manifest["parameters"] | {"save_dir": str(folder), "resume": True}
    if manifest.get("prompt_extension"):
        parameters["prompt_extension"] = manifest["prompt_extension"]
    return parameters


def _only(command: str, given: dict) -> dict:
    """The flags among `given` that `command` takes."""
    names = {flag.name for flag in flags_for(command)}
    return {name: value for name, value in given.items() if name in names}


def _stages(
    row: Task,
    job: Job,
    parameters: dict,
    given: dict,
    prepared: Path | None,
    result: Path,
    run: dict,
    warm: Warm | None,
) -> Generated:
    sources, stage = {}, {}
    if row.annotator:
        first = _prepare(row, parameters["task"], job, given, prepared, run, warm)
        sources = {"src_video": first.src_video, "src_mask": first.src_mask, "src_ref_images": first.src_ref_images}
        stage = {"preprocess": first.manifest["parameters"], "materials": first.manifest["inputs"]}
        stage["prepared"] = first.manifest["stages"]
        stage["networks"] = first.manifest.get("networks", [])
    extra = given.get("src_ref_images")
    if extra:
        sources["src_ref_images"] = [*sources.get("src_ref_images", []), *split_list(extra, files=True)]
    return generate(
        **sources, save_dir=result, save_file=given.get("save_file"), job=job, warm=warm, **run,
        save_latents=bool(given.get("save_latents")),
        pipeline={"parameters": parameters, **stage},
    )  # fmt: skip


def _prepare(row: Task, task: str, job: Job, given: dict, folder: Path, run: dict, warm: Warm | None) -> Prepared:
    settings, flags = job.settings, _only("preprocess", given)
    flags.pop("task", None)
    # What is approximate leads a toy, but no real model unless asked for by name.
    chosen = {"backend": flags.pop("backend", "auto"), "device": flags.pop("device", "auto")}
    chosen |= {"batch_size": flags.pop("batch_size", None), "no_download": flags.pop("no_download", False)}
    networks = (warm.networks if warm else open_networks)(**chosen, accept_approximate=job.checkpoint.is_toy)
    if "size" in row.params or row.name == LAYERED:  # what is drawn for the model is drawn at its size and length
        flags |= {"size": str(settings.area), "frame_num": settings.frame_num}
    else:
        flags = {name: value for name, value in flags.items() if name not in ("size", "frame_num")}
    flags |= {"seed": settings.seed, "intermediates": settings.intermediates}
    return preprocess(
        task, pre_save_dir=folder, select=ModelFrames(settings), networks=networks, **run, **flags,
    )  # fmt: skip

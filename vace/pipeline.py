"""Verb 3: materials and a prompt -> out_video. Verb 1 and verb 2 in a row, through files and their manifests."""

from __future__ import annotations

import logging
from pathlib import Path

from vace.conditioning.frames import padded_count
from vace.conditioning.plan import FramePlan, plan_frames
from vace.conditioning.sizes import fit_area, source_frames
from vace.errors import InputError
from vace.flags import flags_for
from vace.generate import Generated, Job, generate, prepare_job
from vace.media.manifest import read_json, write_json
from vace.preprocess import Prepared, preprocess
from vace.runs import SCHEMA, OutputFolder, draw_seed, free_name, full_paths, read_manifest, split_list
from vace.settings import Settings
from vace.tasks import Task, find_task, resolve_mode

log = logging.getLogger("vace")

JOB_FILE = "job.json"  # the resolved command, in the result's folder until the result is there
CLIP_SHARE = 5  # a clip to be continued gives one frame in five, unless all of it fits or --clip_frames says otherwise


class ModelFrames:
    """Chooses the frames of footage the model will see, so that only these are prepared."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def key(self) -> dict:
        """What the choice depends on besides the footage."""
        area = self.settings.area
        return {
            "area": [area.width, area.height, area.max_tokens],
            "frame_policy": self.settings.frame_policy,
            "frame_num": self.settings.asked_frames,
        }

    def limit(self, width: int, height: int, name: str) -> int:
        return self.settings.asked_frames or source_frames(width, height, self.settings.area, name=name)

    def footage(self, clip, width: int, height: int) -> FramePlan:
        """The plan for a clip from which frames of width x height are made."""
        fit_area(width, height, self.settings.area.area, name=clip.name)
        plan = plan_frames(
            clip.timestamps, source_frames(width, height, self.settings.area, name=clip.name),
            policy=self.settings.frame_policy, frame_num=self.settings.asked_frames, name=clip.name,
        )  # fmt: skip
        log.info("frames: %s", plan.describe())
        return plan

    def clips(self, clips: list, clip_frames: int | None, expand_num: int) -> tuple[list[FramePlan], int | None]:
        """Plans at the model's rate for clips that are kept, and how many frames of each to keep (None: all)."""
        plans = [plan_frames(clip.timestamps, clip.frame_count * 100, name=clip.name) for clip in clips]
        if clip_frames is None:
            limit = self.limit(clips[0].width, clips[0].height, clips[0].name)
            kept = sum(plan.count for plan in plans)
            if kept + min(expand_num, limit // 2) > limit:
                clip_frames = max(1, padded_count(max(1, limit // CLIP_SHARE)) // len(clips))
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
    **given,
) -> Generated:
    """Prepare materials for `task` and generate with them.

    given: flags of both verbs. The prepared files go to pre_save_dir (processed/TASK/TIME), the result to save_dir
    (results/MODEL/TIME). resume: stages whose inputs and parameters are those of what the folders hold are not run.
    Raises what the two verbs raise; settings of both are checked before the first begins.
    """
    if not task:
        raise InputError("--task: say what to make of the materials; `vace tasks` lists the tasks")
    row = find_task(task)
    resolve_mode(row, given.get("mode"))
    given = {name: value for name, value in given.items() if value is not None}
    given["seed"] = draw_seed(int(given["seed"])) if "seed" in given else None
    job = prepare_job(prompt, base=base, **_only("wan", given))
    result = Path(save_dir) if save_dir else free_name(Path("results") / job.checkpoint.name)
    prepared = Path(pre_save_dir) if pre_save_dir else free_name(Path("processed") / task)
    if resume:
        read_back = _restored(result, prepared)
        prepared = read_back or prepared
    parameters = {"task": task, "base": base, "prompt": prompt, "pre_save_dir": str(prepared.resolve())}
    parameters |= {"save_dir": str(result.resolve())} | full_paths({k: v for k, v in given.items() if v is not None})
    with OutputFolder(result, "--save_dir") as out:
        write_json(out.file(JOB_FILE), {"schema": SCHEMA, "command": "pipeline", "parameters": parameters})
        try:
            outcome = _stages(row, job, parameters, given, prepared, result, progress, resume)
        except KeyboardInterrupt:
            out.keep = True
            log.warning("to go on later: vace pipeline --resume %s", result)
            raise
        (result / JOB_FILE).unlink(missing_ok=True)
    return outcome


def resumed(folder: Path) -> dict:
    """The parameters of the pipeline run in `folder`, finished or not, as keywords for `pipeline`."""
    job = folder / JOB_FILE
    if job.is_file():
        parameters = dict(read_json(job)["parameters"])
    else:
        manifest = read_manifest(folder, "--resume")
        if manifest["command"] != "pipeline":
            raise InputError(
                f"--resume {folder}: made by `vace {manifest['command']}`; give a pipeline's result folder"
            )
        parameters = dict(manifest["parameters"])
    return parameters | {"save_dir": str(folder), "resume": True}


def _restored(result: Path, prepared: Path) -> Path | None:
    job = result / JOB_FILE
    return Path(read_json(job)["parameters"]["pre_save_dir"]) if job.is_file() else None


def _only(command: str, given: dict) -> dict:
    """The flags among `given` that `command` takes."""
    names = {flag.name for flag in flags_for(command)}
    return {name: value for name, value in given.items() if name in names}


def _stages(
    row: Task, job: Job, parameters: dict, given: dict, prepared: Path, result: Path, progress: bool, resume: bool
) -> Generated:
    sources, stage = {}, {}
    if row.annotator:
        first = _prepare(row, job.settings, given, prepared, progress, resume)
        sources = {"src_video": first.src_video, "src_mask": first.src_mask, "src_ref_images": first.src_ref_images}
        stage = {"preprocess": first.manifest["parameters"], "materials": first.manifest["inputs"]}
        stage["prepared"] = first.manifest["stages"]
    extra = given.get("src_ref_images")
    if extra:
        sources["src_ref_images"] = [*sources.get("src_ref_images", []), *split_list(extra, files=True)]
    return generate(
        **sources, save_dir=result, save_file=given.get("save_file"), progress=progress, resume=resume, job=job,
        pipeline={"parameters": parameters, **stage},
    )  # fmt: skip


def _prepare(row: Task, settings: Settings, given: dict, folder: Path, progress: bool, resume: bool) -> Prepared:
    flags = _only("preprocess", given)
    flags.pop("device", None)
    if "size" in row.params:  # what is drawn for the model is drawn at its size and length
        flags |= {"size": settings.size, "frame_num": settings.frame_num}
    else:
        flags = {name: value for name, value in flags.items() if name not in ("size", "frame_num")}
    flags |= {"seed": settings.seed, "intermediates": settings.intermediates}
    flags.pop("task", None)
    return preprocess(
        row.name, pre_save_dir=folder, progress=progress, resume=resume, select=ModelFrames(settings), **flags
    )

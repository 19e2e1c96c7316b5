"""Verb 1: materials -> src_video, src_mask, src_ref_images and a manifest, on disk."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vace.annotators.base import Result
from vace.conditioning.frames import check_frame_num
from vace.conditioning.plan import plan_whole
from vace.errors import InputError
from vace.materials import (
    Materials,
    Selector,
    annotator_parameters,
    check_number,
    open_materials,
    report_unused,
    use_clips,
    use_frames,
)
from vace.media.clip import SelectedClip
from vace.media.manifest import read_json
from vace.runs import (
    OutputFolder,
    Stages,
    draw_seed,
    finished,
    input_records,
    outputs_by_role,
    paths_by_flag,
    run_key,
    write_manifest,
)
from vace.tasks import Task, find_task, resolve_mode

log = logging.getLogger("vace")

DEFAULT_FPS = 16.0  # of what is made without footage: the model's own rate
DEFAULT_SEED = 2025
DEFAULT_EXPAND = 80  # frames made besides the given ones
UNEVEN = 1.5  # times the shortest step between frames: above, the rate is called variable
FASTEST = 120.0  # frames a second to which footage is evened out at most
DRAWING = ("framerefext",)  # annotators that draw from the seed for themselves
OWN_AUGMENTATION = ("inpainting", "image_reference")  # annotators that enlarge the mask before they gray or cut


@dataclass(frozen=True)
class Prepared:
    """Where the prepared files are, and the manifest that describes them."""

    folder: Path
    manifest: dict
    src_video: Path | None = None
    src_mask: Path | None = None
    src_ref_images: list[Path] = field(default_factory=list)

    def as_json(self) -> dict:
        return {
            "out_video": None,
            "src_video": str(self.src_video) if self.src_video else None,
            "src_mask": str(self.src_mask) if self.src_mask else None,
            "src_ref_images": [str(path) for path in self.src_ref_images],
            "seed": self.manifest["seed"],
            "manifest": str(self.folder / "manifest.json"),
            "toy": False,
        }


def prepared_in(folder: Path, manifest: dict) -> Prepared:
    """The `Prepared` that a manifest in `folder` describes."""
    named = outputs_by_role(folder, manifest)
    first = {role: paths[0] for role, paths in named.items()}
    return Prepared(folder, manifest, first.get("src_video"), first.get("src_mask"), named.get("src_ref_images", []))


def preprocess(
    task: str,
    *,
    mode: str | None = None,
    pre_save_dir: str | Path | None = None,
    save_fps: float | None = None,
    size: str | None = None,
    frame_num: int | None = None,
    seed: int = DEFAULT_SEED,
    intermediates: str = "exact",
    allow_truncated: bool = False,
    progress: bool = True,
    select: Selector | None = None,
    resume: bool = False,
    **given,
) -> Prepared:
    """Prepare materials for `task`.

    given: the material flags and parameters of the task (video, image, mask, bbox, direction, expand_ratio ...), each a
    string as on the command line or a list. select: chooses the frames of footage that are used (`vace pipeline` gives
    it). Files go to pre_save_dir, by default processed/TASK/TIME; nothing stays there when it fails. resume: files that
    are there already, made of the same inputs with the same parameters, are not made again.
    Raises InputError for what is wrong with the input, OutputError for what cannot be written.
    """
    row = find_task(task)
    if not row.annotator:
        raise InputError(f"--task {task}: nothing to prepare; run `vace pipeline --task {task} --prompt '...'`")
    mode = resolve_mode(row, mode)
    check_number("save_fps", save_fps, 0.01, 1000)
    if frame_num is not None and "frame_num" in row.params:
        check_frame_num(frame_num)
    settings = {"task": task, "mode": mode, "seed": draw_seed(seed), "save_fps": save_fps, "size": size}
    settings |= {"frame_num": frame_num, "intermediates": intermediates, "allow_truncated": allow_truncated}
    settings |= {name: value for name, value in given.items() if value is not None}
    report_unused(row, mode, settings)
    parameters = annotator_parameters(row, mode, settings)
    settings |= _defaults(row, settings)
    if select is not None:
        settings["selection"] = select.key()
    materials = open_materials(row, mode, settings, allow_truncated=allow_truncated)
    try:
        inputs = input_records(materials.files)
        settings |= paths_by_flag(inputs)
        if resume and pre_save_dir:
            done = finished(Path(pre_save_dir), run_key("preprocess", settings, inputs))
            if done is not None:
                log.info("%s: already prepared in %s", task, pre_save_dir)
                return prepared_in(Path(pre_save_dir), done)
        result, used = _selected(row, materials, parameters, select)
        with OutputFolder(pre_save_dir, "--pre_save_dir", Path("processed") / task) as out:
            out.protect(inputs)
            _check_others(out.path, task)
            return _write(row, materials, result, settings, inputs, used, out, progress)
    finally:
        materials.close()


def _defaults(row: Task, settings: dict) -> dict:
    """The annotator's own values of the row's parameters that were not given, for the manifest."""
    from vace import annotators

    signature = inspect.signature(annotators.get(row.annotator).__call__).parameters
    found = {name: signature[name].default for name in row.params if name in signature and settings.get(name) is None}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in found.items()
        if value is not None and value is not inspect.Parameter.empty
    }


def _check_others(folder: Path, task: str) -> None:
    """One folder holds one task's files: a second manifest would take the first one's place."""
    path = folder / "manifest.json"
    if not path.is_file():
        return
    manifest = read_json(path)
    other = manifest.get("parameters", {}).get("task") if isinstance(manifest, dict) else None
    if other and other != task and any((folder / record["name"]).exists() for record in manifest.get("outputs", [])):
        raise InputError(f"--pre_save_dir {folder}: holds the files of task {other}; give each task its own folder")


def _selected(row: Task, materials: Materials, parameters: dict, select: Selector | None) -> tuple[Result, dict]:
    """The annotator's result for the frames that will be used, and the parameters that were chosen for that."""
    used: dict = {}
    if "process_type" in row.params:
        from vace.composing import match_sources

        match_sources(materials, (parameters["process_type_1"], parameters["process_type_2"]))
    if select is None:
        _even_out(materials)
        _one_rate(materials)
        return _annotate(row, materials, parameters), used
    wanted = parameters.get("expand_num", DEFAULT_EXPAND)
    if "clips" in materials.arguments:
        plans, keep = select.clips(materials.arguments["clips"], parameters.get("clip_frames"), wanted)
        use_clips(materials, plans)
        used |= {"clip_frames": keep} if keep else {}
    result = _annotate(row, materials, parameters | used)
    # Nothing was computed yet: the first call told the size, on which the number of usable frames depends.
    if materials.clip is not None:
        use_frames(materials, select.footage(materials.clip, result.width, result.height))
        result = _annotate(row, materials, parameters | used)
    if "expand_num" in row.params and result.chunks is not None:
        used["expand_num"] = select.expand_num(result, wanted)
        result = _annotate(row, materials, parameters | used)
    return result, used


def _one_rate(materials: Materials) -> None:
    """Further clips at the rate of the first, with their own speed."""
    clips = materials.arguments.get("clips", [])
    for number, clip in enumerate(clips[1:], 1):
        if abs(clip.fps - clips[0].fps) > 0.01 * clips[0].fps:
            plan = plan_whole(clip.timestamps, clips[0].fps, clip.name)
            log.info("%s: %s", clip.name, plan.describe())
            clips[number] = SelectedClip(clip, plan.ids, plan.fps)


def _even_out(materials: Materials) -> None:
    """Footage of variable frame rate at one rate, its own fastest, so that files of one rate keep its timing."""
    if materials.source is None or materials.source.frame_count < 3:
        return
    stamps = materials.source.timestamps
    steps = np.diff(stamps[:, 0].astype(np.float64))
    shortest, longest = np.percentile(steps, 5), steps.max()
    if longest <= UNEVEN * shortest:
        return
    fps = float(min(round(1 / shortest, 3), FASTEST))
    plan = plan_whole(stamps, fps, materials.source.name)
    log.info("variable frame rate: %s", plan.describe())
    use_frames(materials, plan)
    materials.selected = False


def _annotate(row: Task, materials: Materials, parameters: dict):
    from vace import annotators

    parameters = dict(parameters)
    if "size" in row.params:
        from vace.conditioning.sizes import parse_size

        chosen = parse_size(parameters.pop("size", None) or "720p")
        parameters["size"] = (chosen.width, chosen.height)
    annotator = annotators.get(row.annotator)
    if row.annotator in OWN_AUGMENTATION:
        return annotator(**materials.arguments, **parameters)
    from vace.annotators.maskaug import augmented, augmenter

    augment = {name: parameters.pop(name, None) for name in ("maskaug_mode", "maskaug_ratio")}
    seed = parameters["seed"] if row.annotator in DRAWING else parameters.pop("seed", DEFAULT_SEED)
    result = annotator(**materials.arguments, **parameters)
    if materials.filler is not None:
        result.filler = materials.filler
    if augmenter(**augment, seed=seed) is not None and result.has_masks:
        fill = row.filler if row.under_mask == "neutral" else None
        result.chunks = augmented(result.chunks, **augment, seed=seed, fill=fill)
    return result


def _write(
    row: Task,
    materials: Materials,
    result: Result,
    settings: dict,
    inputs: list,
    used: dict,
    out: OutputFolder,
    progress: bool,
) -> Prepared:
    stages, outputs = Stages(), []
    natural = materials.clip.fps if materials.clip else _clip_fps(materials) or DEFAULT_FPS
    fps = settings["save_fps"] or natural
    if "clips" in materials.arguments and abs(natural - DEFAULT_FPS) > 0.5:
        slower = "the model plays them at 16, at another speed; `vace pipeline` keeps the speed"
        log.warning("the given clips have %g frames a second: %s", natural, slower)
    log.info("%s", _plan(row, materials, result, settings, fps, out.path))
    with stages.stage("preprocess"):
        if result.chunks is not None:
            outputs += _write_video(row, materials, result, settings, fps, out, progress)
        outputs += _write_images(row, result, out)
    time = materials.time or ("model" if materials.selected else row.time)
    extra = {"fps": fps, "time": time, "under_mask": row.under_mask, "used": used}
    extra |= {"filler": [list(span) for span in result.filler], "stages": stages.rows, "device": "cpu"}
    manifest = write_manifest(
        out.file("manifest.json"), "preprocess", settings, inputs, outputs,
        seed=settings["seed"], **extra,
    )  # fmt: skip
    return prepared_in(out.path, manifest)


def _clip_fps(materials: Materials) -> float | None:
    clips = materials.arguments.get("clips")
    return clips[0].fps if clips else materials.fps


def _plan(row: Task, materials: Materials, result, settings: dict, fps: float, folder: Path) -> str:
    if result.chunks is None:
        return f"{row.name}: {len(result.images)} pictures -> {folder}"
    from vace.media.video import estimated_bytes

    made = f"{result.frame_count} frames {result.width}x{result.height} at {fps:g} fps"
    if materials.source is not None and materials.source.frame_count != result.frame_count:
        made = f"{materials.source.frame_count} frames in, " + made
    size = estimated_bytes(settings["intermediates"], result.width, result.height, result.frame_count)
    return f"{row.name}: {made}; {settings['intermediates']} files of about {max(1, round(size / 1e6))} MB -> {folder}"


def _write_video(row: Task, materials, result, settings: dict, fps: float, out: OutputFolder, progress: bool) -> list:
    from vace.annotators.masks import warn_if_useless
    from vace.media.preview import preview_frames
    from vace.media.video import VideoWriter, check_free_space, estimated_bytes

    kind = settings["intermediates"]
    shape = (result.width, result.height, result.frame_count)
    need = estimated_bytes(kind, *shape) + estimated_bytes("preview", *shape)
    check_free_space(out.path, need)
    paths = {"src_video": out.file(f"src_video-{row.name}.mp4"), "preview": out.file(f"preview-{row.name}.mp4")}
    if result.has_masks:
        paths["src_mask"] = out.file(f"src_mask-{row.name}.mp4")
    with ExitStack() as stack:
        writers = {}
        for role, path in paths.items():
            sound = _sound(materials, fps) if role == "src_video" else None
            form = "preview" if role == "preview" else kind
            writers[role] = stack.enter_context(VideoWriter(path, fps, kind=form, audio_from=sound))
        any_white = not result.has_masks
        for chunk in _counted(result.chunks, result.frame_count, progress, row.name):
            writers["src_video"].write(chunk.frames)
            if result.has_masks:
                writers["src_mask"].write(chunk.masks)
                any_white = any_white or bool(chunk.masks.any())
            writers["preview"].write(preview_frames(chunk.frames, chunk.masks))
    if row.annotator not in OWN_AUGMENTATION:  # these look at their mask themselves
        warn_if_useless(any_white, False)
    return [_record(role, path, fps, shape) for role, path in paths.items()]


def _sound(materials: Materials, fps: float) -> tuple[Path, float, float] | None:
    """Where the sound comes from: the footage, where the result runs in its time."""
    source = materials.source
    if source is None or not source.has_audio or abs(fps - materials.clip.fps) > 0.01 * fps:
        return None
    if materials.selected:
        return (source.path, *materials.sound) if materials.sound else None
    return (source.path, 0.0, source.duration)


def _counted(chunks: Iterator, total: int, progress: bool, name: str) -> Iterator:
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit="frame", disable=not progress, leave=False, delay=1) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk.frames))


def _write_images(row: Task, result, out: OutputFolder) -> list[dict]:
    from vace.media.image import write_image

    outputs = []
    for role, stem, images in (
        ("src_ref_images", "src_ref_image", result.images),
        ("image_masks", "src_mask", result.image_masks),
    ):
        for count, image in enumerate(images):
            if image is None:
                continue
            number = f"_{count}" if len(images) > 1 else ""
            path = out.file(f"{stem}{number}-{row.name}.png")
            write_image(path, image)
            outputs.append(_record(role, path))
    return outputs


def _record(role: str, path: Path, fps: float | None = None, shape: tuple | None = None) -> dict:
    from vace.media.manifest import file_record

    record = {"role": role, **file_record(path)}
    if shape:
        record |= {"width": shape[0], "height": shape[1], "frames": shape[2], "fps": fps}
    return record

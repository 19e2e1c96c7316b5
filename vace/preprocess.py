"""Verb 1: materials -> src_video, src_mask, src_ref_images and a manifest, on disk."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import numpy as np

from vace.annotators.base import Result
from vace.annotators.networks import Networks
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
from vace.prepared import OWN_AUGMENTATION, Prepared, check_others, prepared_in, write_prepared
from vace.rows import Task
from vace.runs import OutputFolder, draw_seed, finished, input_records, paths_by_flag, run_key
from vace.tasks import LAYERED, NETWORK, find_task, resolve_mode
from vace.watching import NOBODY, Watch

log = logging.getLogger("vace")

DEFAULT_SEED = 2025
DEFAULT_EXPAND = 80  # frames made besides the given ones
UNEVEN = 1.5  # times the shortest step between frames: above, the rate is called variable
FASTEST = 120.0  # frames a second to which footage is evened out at most
DRAWING = ("framerefext",)  # annotators that draw from the seed for themselves


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
    model_fps: float | None = None,
    resume: bool = False,
    backend: str = "auto",
    batch_size: int | None = None,
    device: str = "auto",
    no_download: bool = False,
    networks: Networks | None = None,
    watch: Watch | None = None,
    **given,
) -> Prepared:
    """Prepare materials for `task`.

    given: the material flags and parameters of the task (video, image, mask, bbox, direction, expand_ratio ...), each a
    string as on the command line or a list. backend, batch_size, device, no_download: of the networks a task asks for,
    see `vace.annotators.networks`; networks: given instead by whoever shares them. select: chooses the frames of
    footage that are used (`vace pipeline` gives it); model_fps: frames a second of what is made without footage, the
    selector's or 16. Files go to pre_save_dir, by default processed/TASK/TIME; nothing
    stays there when it fails. resume: files that are there already, made of the same inputs with the same parameters,
    are not made again. watch: what is told on the way; what it raises ends the run.
    Raises InputError for what is wrong with the input, OutputError for what cannot be written.
    """
    row, watch = find_task(task), watch or NOBODY
    check_number("batch_size", batch_size, 1, whole=True)
    if networks is None:
        networks = open_networks(backend, device, batch_size, no_download)
    networks.begin()
    if row.name == LAYERED:
        from vace.layers import preprocess_layers

        shared = {"seed": draw_seed(seed), "save_fps": save_fps, "intermediates": intermediates, "size": size}
        shared |= {"allow_truncated": allow_truncated, "frame_num": frame_num, "mode": mode} | given
        return preprocess_layers(task, shared, pre_save_dir, select, resume, networks, progress, watch)
    if not row.annotator:
        raise InputError(f"--task {task}: nothing to prepare; run `vace pipeline --task {task} --prompt '...'`")
    mode = resolve_mode(row, mode)
    check_number("save_fps", save_fps, 0.01, 1000)
    if frame_num is not None and "frame_num" in row.params:
        check_frame_num(frame_num)
    settings = {"task": task, "mode": mode, "seed": draw_seed(seed), "save_fps": save_fps, "size": size}
    settings |= {"frame_num": frame_num, "intermediates": intermediates, "allow_truncated": allow_truncated}
    if set(NETWORK) <= set(row.params):
        settings["backend"] = networks.backend
    settings |= {name: value for name, value in given.items() if value is not None}
    report_unused(row, mode, settings)
    parameters = annotator_parameters(row, mode, settings)
    settings |= _defaults(row, settings)
    if select is not None:
        settings["selection"] = select.key()
    materials = open_materials(row, mode, settings, allow_truncated=allow_truncated)
    if model_fps or select:
        materials.model_fps = model_fps or select.fps
    try:
        inputs = input_records(materials.files)
        settings |= paths_by_flag(inputs)
        if resume and pre_save_dir:
            done = finished(Path(pre_save_dir), run_key("preprocess", settings, inputs))
            if done is not None and networks.would_serve(done.get("networks", [])):
                log.info("%s: already prepared in %s", task, pre_save_dir)
                return prepared_in(Path(pre_save_dir), done)
        if set(NETWORK) <= set(row.params):
            materials.arguments["networks"] = networks
        watch.stage("prepare")
        result, used = _selected(row, materials, parameters, select)
        with OutputFolder(pre_save_dir, "--pre_save_dir", Path("processed") / task) as out:
            out.protect(inputs)
            check_others(out.path, row.name)
            return write_prepared(row, materials, result, settings, inputs, used, out, progress, networks, watch)
    finally:
        materials.close()


def open_networks(
    backend: str, device: str, batch_size: int | None, no_download: bool, accept_approximate: bool = True
) -> Networks:
    """The networks of one run; `device` is looked at only when a neural one is chosen."""

    def picked():
        from vace.devices import pick_device

        return pick_device(device)

    return Networks(
        backend, device=picked, batch_size=batch_size, no_download=no_download, accept_approximate=accept_approximate
    )


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

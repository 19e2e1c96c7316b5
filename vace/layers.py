"""more_anything: any tasks joined into one, each prepared by itself and composed by the rule of the task groups.

Every layer is a run of the preprocessing verb into a folder of its own, which the next ones read; these folders go when
the outcome is there.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from vace.annotators.composition import CONTROL, EXTENSION, KEPT, REPAINT, process_group
from vace.annotators.networks import Networks
from vace.errors import InputError
from vace.layer_syntax import Layer, format_layers, parse_layers
from vace.materials import MATERIAL_FLAGS, PARAMETER_FLAGS
from vace.prepared import Prepared, prepared_in
from vace.runs import OutputFolder, finished, full_paths, input_records, run_key, write_manifest
from vace.tasks import LAYERED, NETWORK, TASKS

log = logging.getLogger("vace")

LAYERS_FOLDER = "layers"
RUN_FLAGS = ("seed", "save_fps", "intermediates", "allow_truncated")  # the same for every layer
# The outcome of two groups, as what it enters a further composition.
_JOINED = {
    (EXTENSION, EXTENSION): EXTENSION, (EXTENSION, REPAINT): REPAINT, (EXTENSION, CONTROL): KEPT,
    (REPAINT, EXTENSION): EXTENSION, (REPAINT, REPAINT): REPAINT, (REPAINT, CONTROL): REPAINT,
    (CONTROL, EXTENSION): CONTROL, (CONTROL, REPAINT): REPAINT, (CONTROL, CONTROL): CONTROL,
}  # fmt: skip


@dataclass
class Stack:
    """What the layers so far made: files of the video part, its group for the next composition, references."""

    video: Path | None = None
    mask: Path | None = None
    group: str = ""
    hints: dict | None = None
    references: list[Path] | None = None


def preprocess_layers(
    task: str,
    given: dict,
    pre_save_dir: str | Path | None,
    select,
    resume: bool,
    networks: Networks,
    progress: bool,
) -> Prepared:
    """Prepare every layer of `task` (see `layer_syntax`) and join them.

    given: flags of the whole command; what a layer was not given itself it takes from there, if its task has a use for
    it. A repainting layer without a video repaints what the layers before it made. The other parameters are those of
    `preprocess`. Raises what it raises.
    """
    layers = [_completed(layer, given) for layer in parse_layers(task)]
    _report_unused(layers, given)
    settings = {name: given[name] for name in RUN_FLAGS}
    settings |= {"task": format_layers(layers), "backend": networks.backend}
    settings |= {name: value for name, value in full_paths(given).items() if value is not None}
    settings["task"] = format_layers(layers)
    if select is not None:
        settings["selection"] = select.key()
    inputs = input_records([file for layer in layers for file in layer.files()])
    if resume and pre_save_dir:
        done = finished(Path(pre_save_dir), run_key("preprocess", settings, inputs))
        if done is not None:
            log.info("%s: already prepared in %s", LAYERED, pre_save_dir)
            return prepared_in(Path(pre_save_dir), done)
    with OutputFolder(pre_save_dir, "--pre_save_dir", Path("processed") / LAYERED) as out:
        out.protect(inputs)
        scratch = out.removed_on_failure(out.path / LAYERS_FOLDER)
        run = _Run(scratch, given, select, networks, progress)
        try:
            stack = run.all(layers)
            return _finish(stack, out, settings, inputs, networks)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _completed(layer: Layer, given: dict) -> Layer:
    """`layer` with the flags of the whole command that its task takes and that it has not."""
    row = TASKS[layer.task]
    names = {*row.flags(), *row.params} - {*NETWORK, *RUN_FLAGS, "size", "frame_num"}
    return Layer(layer.task, {name: given[name] for name in names if given.get(name) is not None} | layer.flags)


def _report_unused(layers: list[Layer], given: dict) -> None:
    used = {name for layer in layers for name in layer.flags}
    for name in (*MATERIAL_FLAGS, *PARAMETER_FLAGS):
        if given.get(name) is not None and name not in (*used, *RUN_FLAGS, *NETWORK, "size", "frame_num"):
            log.warning("--%s is not used: none of the joined tasks takes it", name)
    if given.get("mode"):
        raise InputError(f"--mode {given['mode']}: several tasks are joined; give each its own, NAME(mode=...)")


class _Run:
    """The layers prepared one after the other into folders below `scratch`."""

    def __init__(self, scratch: Path, given: dict, select, networks: Networks, progress: bool) -> None:
        self.scratch, self.given, self.select = scratch, given, select
        self.networks, self.progress, self.count = networks, progress, 0

    def all(self, layers: list[Layer]) -> Stack:
        stack = Stack(references=[])
        for number, layer in enumerate(layers, 1):
            log.info("layer %d of %d: %s", number, len(layers), layer.task)
            self._add(layer, stack)
        return stack

    def _add(self, layer: Layer, stack: Stack) -> None:
        row = TASKS[layer.task]
        needs_video = any(item.flag == "video" for item in row.inputs)
        if needs_video and not layer.flags.get("video") and stack.video and row.group == "repainting":
            self._repaint(layer, stack)
            return
        made = self._prepare(layer.task, layer.flags, self.select)
        stack.references += made.src_ref_images
        if made.src_video is None:
            return
        group = process_group(layer.task)
        hints = {key: made.manifest.get(key) for key in ("time", "under_mask", "filler", "fps")}
        if stack.video is None:
            stack.video, stack.mask, stack.group, stack.hints = made.src_video, made.src_mask, group, hints
            return
        self._compose(stack, made.src_video, made.src_mask, group)

    def _compose(self, stack: Stack, video: Path, mask: Path | None, group: str) -> None:
        types = [stack.group, group]
        flags = {"src_video": [str(stack.video), str(video)], "process_type": types}
        flags["src_mask"] = [str(path) for path in (stack.mask, mask) if path]
        made = self._prepare("composition", flags, None)
        joined = tuple(CONTROL if one == KEPT else one for one in types)
        stack.group = KEPT if KEPT in types and _JOINED[joined] == CONTROL else _JOINED[joined]
        self._take(stack, made)

    def _repaint(self, layer: Layer, stack: Stack) -> None:
        """Repaint what the layers before made; what they left to be made stays so."""
        made = self._prepare(layer.task, layer.flags | {"video": str(stack.video)}, None)
        carried = stack.mask
        if carried is not None and TASKS[layer.task].annotator == "outpainting":  # the mask goes on the larger canvas
            carried = self._prepare(layer.task, layer.flags | {"video": str(carried)}, None).src_video
        if carried is not None:
            flags = {"src_video": [str(made.src_video)] * 2, "src_mask": [str(made.src_mask), str(carried)]}
            made = self._prepare("composition", flags | {"process_type": [REPAINT, REPAINT]}, None)
        group = stack.group
        self._take(stack, made)
        stack.group = EXTENSION if group == EXTENSION else REPAINT

    def _take(self, stack: Stack, made: Prepared) -> None:
        before = stack.hints or {}
        stack.video, stack.mask = made.src_video, made.src_mask
        stack.hints = {key: made.manifest.get(key) for key in ("time", "under_mask", "filler", "fps")}
        if before.get("time") == "model":
            stack.hints |= {"time": "model", "filler": before.get("filler") or stack.hints["filler"]}

    def _prepare(self, task: str, flags: dict, select) -> Prepared:
        from vace.preprocess import preprocess

        self.count += 1
        shared = {name: self.given[name] for name in RUN_FLAGS if self.given.get(name) is not None}
        if "size" in TASKS[task].params:
            shared |= {name: self.given.get(name) for name in ("size", "frame_num")}
        return preprocess(
            task, **(shared | flags), pre_save_dir=self.scratch / f"{self.count}-{task}", select=select,
            networks=self.networks, progress=self.progress,
        )  # fmt: skip


def _finish(stack: Stack, out: OutputFolder, settings: dict, inputs: list, networks: Networks) -> Prepared:
    """Move what the last layer made to its final names, and describe it."""
    from vace.media.manifest import file_record

    outputs = []

    def keep(role: str, source: Path, name: str) -> None:
        target = out.file(name)
        shutil.move(source, target)
        outputs.append({"role": role, **file_record(target)})

    if stack.video is not None:
        preview = next(stack.video.parent.glob("preview-*.mp4"))
        keep("src_video", stack.video, f"src_video-{LAYERED}.mp4")
        if stack.mask is not None:
            keep("src_mask", stack.mask, f"src_mask-{LAYERED}.mp4")
        keep("preview", preview, f"preview-{LAYERED}.mp4")
    for number, image in enumerate(stack.references):
        place = f"_{number}" if len(stack.references) > 1 else ""
        keep("src_ref_images", image, f"src_ref_image{place}-{LAYERED}.png")
    hints = stack.hints or {"time": "footage", "under_mask": "content", "filler": [], "fps": None}
    manifest = write_manifest(
        out.file("manifest.json"), "preprocess", settings, inputs, outputs, seed=settings["seed"], used={}, stages=[],
        device=networks.device_in_use(), networks=[choice.as_dict() for choice in networks.chosen.values()], **hints,
    )  # fmt: skip
    return prepared_in(out.path, manifest)

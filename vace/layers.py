"""more_anything: any tasks joined into one, each prepared by itself and composed by the rule of the task groups.

Every layer is a run of the preprocessing verb into a folder of its own, which the next ones read; these folders go when
the outcome is there.
"""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from vace.annotators.align import same_aspect
from vace.annotators.composition import CONTROL, EXTENSION, KEPT, REPAINT, process_group
from vace.annotators.networks import Networks
from vace.errors import InputError
from vace.layer_syntax import Layer, format_layers, parse_layers
from vace.materials import MATERIAL_FLAGS, PARAMETER_FLAGS, annotator_parameters, missing
from vace.media.manifest import write_json
from vace.prepared import Prepared, check_others, earlier, prepared_in
from vace.runs import OutputFolder, finished, full_paths, input_records, remove_stale, run_key, write_manifest
from vace.tasks import LAYERED, NETWORK, TASKS, resolve_mode
from vace.trimming import check_ranges
from vace.watching import Watch

log = logging.getLogger("vace")

RUN_FLAGS = ("seed", "intermediates", "allow_truncated")  # the same for every layer
OWN = ("save_fps", "size", "frame_num")  # of the whole: the rate of the outcome, the size of what is drawn
# The outcome of two groups, as what it enters a further composition.
_JOINED = {
    (EXTENSION, EXTENSION): EXTENSION, (EXTENSION, REPAINT): REPAINT, (EXTENSION, CONTROL): KEPT,
    (REPAINT, EXTENSION): EXTENSION, (REPAINT, REPAINT): REPAINT, (REPAINT, CONTROL): REPAINT,
    (CONTROL, EXTENSION): CONTROL, (CONTROL, REPAINT): REPAINT, (CONTROL, CONTROL): CONTROL,
}  # fmt: skip


@dataclass
class Stack:
    """What the layers so far made: the video part, its group for the next composition, its tasks, the references."""

    video: Path | None = None
    mask: Path | None = None
    group: str = ""
    task: str = ""
    size: tuple[int, int] = (0, 0)
    manifest: dict | None = None
    references: list[Path] = field(default_factory=list)


def preprocess_layers(
    task: str,
    given: dict,
    pre_save_dir: str | Path | None,
    select,
    resume: bool,
    networks: Networks,
    progress: bool,
    watch: Watch | None = None,
) -> Prepared:
    """Prepare every layer of `task` (see `layer_syntax`) and join them.

    given: flags of the whole command; what a layer was not given itself it takes from there, if its task has a use for
    it. A repainting layer without a video of its own repaints what the layers before it made, where that is footage
    repainted or extended. The other parameters are those of `preprocess`. Raises what it raises; what can be seen to be
    wrong with any layer is told before the first begins.
    """
    layers = [_completed(layer, given) for layer in parse_layers(task)]
    _check(layers, given)
    settings = {name: given[name] for name in RUN_FLAGS}
    settings |= {name: value for name, value in full_paths(given).items() if value is not None}
    settings |= {"task": format_layers(layers), "backend": networks.backend}
    if select is not None:
        settings["selection"] = select.key()
    inputs = input_records([file for layer in layers for file in layer.files()])
    if resume and pre_save_dir:
        done = finished(Path(pre_save_dir), run_key("preprocess", settings, inputs))
        if done is not None and networks.would_serve(done.get("networks", [])):
            log.info("%s: already prepared in %s", LAYERED, pre_save_dir)
            return prepared_in(Path(pre_save_dir), done)
    with OutputFolder(pre_save_dir, "--pre_save_dir", Path("processed") / LAYERED) as out:
        check_others(out.path, LAYERED)
        out.protect(inputs)
        for role in ("src_video", "src_mask", "preview"):
            out.place(f"{role}-{LAYERED}.mp4")
        with tempfile.TemporaryDirectory(prefix=".layers-", dir=out.path) as scratch:
            run = _Run(Path(scratch), given, select, networks, progress, watch)
            return _finish(run, run.all(layers), out, settings, inputs)


def _completed(layer: Layer, given: dict) -> Layer:
    """`layer` with the flags of the whole command that its task takes in its mode and that it has not."""
    row = TASKS[layer.task]
    inputs = row.inputs_for(resolve_mode(row, layer.flags.get("mode")))
    names = {*row.params, *(flag for item in inputs for flag in (item.flag, item.instead))}
    names -= {*NETWORK, *RUN_FLAGS, *OWN, ""}
    outer = {name: given[name] for name in sorted(names) if given.get(name) is not None}
    return Layer(layer.task, outer | layer.flags, frozenset(outer.keys() - layer.flags.keys()))


def _check(layers: list[Layer], given: dict) -> None:
    """Raise for what any layer lacks or has wrong; warn of flags of the command that no layer takes."""
    used = {name for layer in layers for name in layer.flags}
    for name in (*MATERIAL_FLAGS, *PARAMETER_FLAGS):
        if given.get(name) is not None and name not in (*used, *RUN_FLAGS, *NETWORK, *OWN):
            log.warning("--%s is not used: none of the joined tasks takes it", name)
    if given.get("mode"):
        raise InputError(f"--mode {given['mode']}: several tasks are joined; give each its own, NAME(mode=...)")
    follows = False
    for layer in layers:
        row = TASKS[layer.task]
        mode = resolve_mode(row, layer.flags.get("mode"))
        annotator_parameters(row, mode, layer.flags)
        check_ranges(layer.flags.get("frame_range"))
        if _has_own_range(layer) and not layer.flags.get("video"):
            raise _nothing_to_trim(layer)
        for item in row.inputs_for(mode):
            is_given = layer.flags.get(item.flag) or layer.flags.get(item.instead)
            if item.low and not is_given and not (item.flag == "video" and follows and row.group == "repainting"):
                raise missing(item, row, mode)
        follows = follows or "src_video" in row.outputs


def _has_own_range(layer: Layer) -> bool:
    return "frame_range" in layer.flags and "frame_range" not in layer.outer


def _nothing_to_trim(layer: Layer) -> InputError:
    return InputError(
        f"--task: frame_range={layer.flags['frame_range']} in {layer.task}: it repaints what the tasks before it made, "
        f"all of it; leave it out, or give {layer.task} a video of its own"
    )


class _Run:
    """The layers prepared one after the other into folders below `scratch`."""

    def __init__(
        self, scratch: Path, given: dict, select, networks: Networks, progress: bool, watch: Watch | None
    ) -> None:
        self.scratch, self.given, self.select = scratch, given, select
        self.networks, self.progress, self.watch, self.count = networks, progress, watch, 0
        self.stages: list[dict] = []
        self.used: list[dict] = []

    def all(self, layers: list[Layer]) -> Stack:
        stack = Stack()
        moving = [number for number, layer in enumerate(layers) if "src_video" in TASKS[layer.task].outputs]
        for number, layer in enumerate(layers):
            log.info("layer %d of %d: %s", number + 1, len(layers), layer.task)
            self._add(layer, stack, is_last=number in moving[-1:])
        return stack

    def _add(self, layer: Layer, stack: Stack, is_last: bool) -> None:
        """Prepare `layer` and put it on the stack. is_last: whether no layer after it changes the video."""
        row = TASKS[layer.task]
        if stack.video and row.group == "repainting" and self._repaints(layer, stack):
            self._repaint(layer, stack, is_last)
            return
        alone = stack.video is None
        made = self._prepare(layer.task, layer.flags, self.select, is_last and alone)
        stack.references += made.src_ref_images
        if made.src_video is None:
            return
        group = process_group(layer.task)
        if alone:
            self._take(stack, made, group, layer.task)
            return
        self._compose(stack, made, group, layer.task, is_last)

    def _repaints(self, layer: Layer, stack: Stack) -> bool:
        """Whether a repainting layer is meant for what is there: it has no video, or only the one they all have."""
        if not layer.flags.get("video"):
            return True
        return "video" in layer.outer and stack.group == REPAINT

    def _compose(self, stack: Stack, made: Prepared, group: str, task: str, is_last: bool) -> None:
        size, other = stack.size, size_of(made)
        if not same_aspect(size, other):
            raise InputError(
                f"--task: {stack.task} makes {size[0]}x{size[1]}, {task} {other[0]}x{other[1]}, which is of another "
                "shape; give both materials of one shape"
            )
        if group == EXTENSION and stack.group not in (EXTENSION, KEPT):
            log.warning("%s after %s: what the extension does not keep is made anew, the rest is lost; put the "
                        "extension first to keep both", task, stack.task)  # fmt: skip
        if {group, stack.group} == {CONTROL}:
            log.warning("%s after %s: the later control takes the place of the earlier", task, stack.task)
        types = [stack.group, group]
        flags = {"src_video": [str(stack.video), str(made.src_video)], "process_type": types}
        flags["src_mask"] = [str(path) for path in (stack.mask, made.src_mask) if path]
        composed = self._prepare("composition", flags, None, is_last)
        joined = tuple(CONTROL if one == KEPT else one for one in types)
        keeps = KEPT in types and (_JOINED[joined] == CONTROL or EXTENSION in types)
        self._take(stack, composed, KEPT if keeps else _JOINED[joined], f"{stack.task}+{task}")

    def _repaint(self, layer: Layer, stack: Stack, is_last: bool) -> None:
        """Repaint what the layers before made; what they left to be made stays so."""
        if stack.mask is None:
            raise InputError(f"--task: {layer.task} after {stack.task}: that is a control, all of which is made anew; "
                             f"give {layer.task} a video of its own")  # fmt: skip
        if _has_own_range(layer):
            raise _nothing_to_trim(layer)
        flags = {name: value for name, value in layer.flags.items() if name != "frame_range"}  # that is trimmed already
        flags["video"] = str(stack.video)
        made = self._prepare(layer.task, flags, None)
        carried = stack.mask
        if TASKS[layer.task].annotator == "outpainting":  # the mask goes on the larger canvas
            carried = self._prepare(layer.task, flags | {"video": str(carried)}, None).src_video
        flags = {"src_video": [str(made.src_video)] * 2, "src_mask": [str(made.src_mask), str(carried)]}
        before = {name: stack.manifest.get(name) for name in ("time", "filler", "under_mask")}
        both = self._prepare("composition", flags | {"process_type": [REPAINT, REPAINT]}, None, is_last)
        both.manifest.update(before)  # the same frames in the same time: what was filler is filler
        write_json(both.folder / "manifest.json", both.manifest)
        group = EXTENSION if stack.group == EXTENSION else REPAINT
        self._take(stack, both, group, f"{stack.task}+{layer.task}")

    def _take(self, stack: Stack, made: Prepared, group: str, task: str) -> None:
        stack.video, stack.mask, stack.group, stack.task = made.src_video, made.src_mask, group, task
        stack.manifest, stack.size = made.manifest, size_of(made)

    def _prepare(self, task: str, flags: dict, select, is_final: bool = False) -> Prepared:
        from vace.preprocess import preprocess

        self.count += 1
        shared = {name: self.given[name] for name in RUN_FLAGS if self.given.get(name) is not None}
        if "size" in TASKS[task].params:
            shared |= {name: self.given.get(name) for name in ("size", "frame_num")}
        if is_final:
            shared["save_fps"] = self.given.get("save_fps")
        made = preprocess(
            task, **(shared | flags), pre_save_dir=self.scratch / f"{self.count}-{task}", select=select,
            model_fps=self.select.fps if self.select else None, networks=self.networks, progress=self.progress,
            watch=self.watch,
        )  # fmt: skip
        self.stages += [row | {"name": f"{row['name']}: {task}"} for row in made.manifest["stages"]]
        self.used += [{"task": task, **made.manifest["used"]}] if made.manifest["used"] else []
        return made


def size_of(made: Prepared) -> tuple[int, int]:
    """Width and height of the prepared video."""
    record = next(record for record in made.manifest["outputs"] if record["role"] == "src_video")
    return record["width"], record["height"]


def _finish(run: _Run, stack: Stack, out: OutputFolder, settings: dict, inputs: list) -> Prepared:
    """Move what the last layer made to its final names, and describe it."""
    from vace.media.manifest import file_record

    outputs = []

    def keep(role: str, source: Path, name: str) -> None:
        target = out.file(name)
        os.replace(source, target)
        outputs.append({"role": role, **file_record(target)})

    if stack.video is not None:
        shape = next(record for record in stack.manifest["outputs"] if record["role"] == "src_video")
        parts = {
            "src_video": stack.video,
            "src_mask": stack.mask,
            "preview": next(stack.video.parent.glob("preview-*")),
        }
        for role, source in parts.items():
            if source is not None:
                keep(role, source, f"{role}-{LAYERED}.mp4")
                outputs[-1] |= {name: shape[name] for name in ("width", "height", "frames", "fps")}
    for number, image in enumerate(stack.references):
        place = f"_{number}" if len(stack.references) > 1 else ""
        keep("src_ref_images", image, f"src_ref_image{place}-{LAYERED}.png")
    remove_stale(out.path, earlier(out.path), outputs)
    found = stack.manifest or {"time": "footage", "under_mask": "content", "filler": [], "fps": None}
    hints = {name: found.get(name) for name in ("time", "under_mask", "filler", "fps")}
    networks = [choice.as_dict() for choice in run.networks.chosen.values()]
    manifest = write_manifest(
        out.file("manifest.json"), "preprocess", settings, inputs, outputs, seed=settings["seed"], used=run.used,
        stages=run.stages, device=run.networks.device_in_use(), networks=networks, **hints,
    )  # fmt: skip
    return prepared_in(out.path, manifest)

"""What preprocessing leaves on disk: src_video, src_mask, src_ref_images, the preview and their manifest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from vace.annotators.base import Result
from vace.annotators.networks import Networks
from vace.errors import InputError
from vace.materials import Materials
from vace.media.manifest import read_json
from vace.rows import Task
from vace.runs import OutputFolder, Stages, outputs_by_role, remove_stale, write_manifest
from vace.tasks import LAYERED
from vace.watching import Watch

log = logging.getLogger("vace")

# Annotators that enlarge the mask before they gray, cut or draw.
OWN_AUGMENTATION = ("inpainting", "image_inpainting", "image_reference", "layout_track", "reference_anything",
                    "animate_anything", "swap_anything", "expand_anything")  # fmt: skip


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


def write_prepared(
    row: Task,
    materials: Materials,
    result: Result,
    settings: dict,
    inputs: list,
    used: dict,
    out: OutputFolder,
    progress: bool,
    networks: Networks,
    watch: Watch,
) -> Prepared:
    """Make and write what `result` promises, then the manifest that describes it."""
    stages, outputs = Stages(), []
    natural = materials.clip.fps if materials.clip else _clip_fps(materials) or materials.model_fps
    fps = settings["save_fps"] or natural
    if "clips" in materials.arguments and abs(natural - materials.model_fps) > 0.5:
        slower = "the model plays them at %g, at another speed; `vace pipeline` keeps the speed"
        log.warning(f"the given clips have %g frames a second: {slower}", natural, materials.model_fps)
    log.info("%s", _plan(row, materials, result, settings, fps, out.path) + networks.describe())
    device = networks.device_in_use()
    with stages.stage("preprocess", device):
        if result.chunks is not None:
            outputs += _write_video(row, materials, result, settings, fps, out, progress, watch)
        outputs += _write_images(row, result, out)
    remove_stale(out.path, earlier(out.path), outputs)
    time = materials.time or ("model" if materials.selected else row.time)
    extra = {"fps": fps, "time": time, "under_mask": row.under_mask, "used": used}
    extra |= {"filler": [list(span) for span in result.filler], "stages": stages.rows, "device": device}
    extra["networks"] = [choice.as_dict() for choice in networks.asked.values()]
    manifest = write_manifest(
        out.file("manifest.json"), "preprocess", settings, inputs, outputs,
        seed=settings["seed"], **extra,
    )  # fmt: skip
    return prepared_in(out.path, manifest)


def earlier(folder: Path) -> dict | None:
    """The manifest of an earlier run in `folder`, where there is a readable one."""
    path = folder / "manifest.json"
    manifest = read_json(path) if path.is_file() else None
    return manifest if isinstance(manifest, dict) else None


def check_others(folder: Path, task: str) -> None:
    """One folder holds one task's files: a second manifest would take the first one's place. Raises InputError."""
    manifest = earlier(folder) or {}
    other = str(manifest.get("parameters", {}).get("task") or task)
    other = LAYERED if "(" in other or "+" in other else other
    if other != task and any((folder / record["name"]).exists() for record in manifest.get("outputs", [])):
        raise InputError(f"--pre_save_dir {folder}: holds the files of task {other}; give each task its own folder")


def _clip_fps(materials: Materials) -> float | None:
    clips = materials.arguments.get("clips")
    return clips[0].fps if clips else materials.fps


def _plan(row: Task, materials: Materials, result, settings: dict, fps: float, folder: Path) -> str:
    if result.chunks is None:
        return f"{row.name}: {len(result.images)} picture{'s' * (len(result.images) > 1)} -> {folder}"
    from vace.media.video import estimated_bytes

    made = f"{result.frame_count} frames {result.width}x{result.height} at {fps:g} fps"
    if materials.source is not None and materials.source.frame_count != result.frame_count:
        made = f"{materials.source.frame_count} frames in, " + made
    size = estimated_bytes(settings["intermediates"], result.width, result.height, result.frame_count)
    return f"{row.name}: {made}; {settings['intermediates']} files of about {max(1, round(size / 1e6))} MB -> {folder}"


def _write_video(
    row: Task, materials, result, settings: dict, fps: float, out: OutputFolder, progress: bool, watch: Watch
) -> list[dict]:
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
        written = 0
        for chunk in _counted(result.chunks, result.frame_count, progress, row.name, watch):
            writers["src_video"].write(chunk.frames)
            if result.has_masks:
                writers["src_mask"].write(chunk.masks)
                any_white = any_white or bool(chunk.masks.any())
            writers["preview"].write(preview_frames(chunk.frames, chunk.masks))
            written += len(chunk.frames)
        if written != result.frame_count:
            raise RuntimeError(f"{row.name} made {written} frames of {result.frame_count}")
    if row.annotator not in OWN_AUGMENTATION:  # these look at their mask themselves
        warn_if_useless(any_white, False)
    return [_record(role, path, fps, shape) for role, path in paths.items()]


def _sound(materials: Materials, fps: float) -> tuple[Path, float, float] | None:
    """Where the sound comes from: the footage, where the result runs in its time."""
    source = materials.source
    if source is None or not source.has_audio or abs(fps - materials.clip.fps) > 0.01 * fps:
        return None
    start, length = (materials.sound or (0.0, 0.0)) if materials.selected else (0.0, source.duration)
    return (source.path, source.begins + start, length) if length else None


def _counted(chunks: Iterator, total: int, progress: bool, name: str, watch: Watch) -> Iterator:
    from tqdm import tqdm

    done = 0
    with tqdm(total=total, desc=name, unit="frame", disable=not progress, leave=False, delay=1) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk.frames))
            done += len(chunk.frames)
            watch.frames(done, total)


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

"""`--decode DIR`: the videos of latents that a run has left there, byte for byte those it would have written.

Of the checkpoint the VAE alone is loaded. Nothing is denoised, so nothing that was asked for can be changed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.bases import Base, find_base
from vace.decoding import video_record, write_video
from vace.errors import InputError, is_out_of_memory
from vace.generated import Generated, generated_in
from vace.job import MODEL_FLAGS
from vace.latents_file import ROLE, Header, read_latents, vae_mark
from vace.media.manifest import write_json
from vace.places import KINDS_OF, output_record
from vace.runs import OutputFolder, Stages, is_intact, read_manifest
from vace.speed.memory_plans import PLANS, parse_memory
from vace.spread import STARTED

if TYPE_CHECKING:
    import torch

    from vace.models.parts import Part
    from vace.speed.memory_plans import Plan

log = logging.getLogger("vace")

NAMING = ("ckpt_dir", "model_name", "vae_path", "config", "text_encoder_path")  # flags that say where the VAE is
IDLE = ("offload_model", "t5_cpu")  # taken and of no effect: the parts they are for are not loaded


def decode_again(
    folder: str | Path,
    *,
    base: str = "wan",
    save_file: str | Path | None = None,
    save_latents: bool = False,
    device: str | None = None,
    memory: str | None = None,
    no_download: bool = False,
    progress: bool = True,
    **given: Any,
) -> Generated:
    """Decode the latents in the result folder of an earlier run and write its videos and its manifest.

    base: whose latents they are. save_file: where the (first) video goes instead. save_latents: keep the latents,
    which otherwise go with the video's arrival. device: that of the run. memory: the plan of the run. given: NAMING,
    when the checkpoint is not where the manifest says. When it fails the latents stay.
    Raises InputError without latents, for those of another base or VAE, and for flags that could change what was
    denoised; MissingWeights, CheckpointError, DeviceError, OutputError.
    """
    _check_flags(given)
    manifest = read_manifest(folder, "--decode")
    folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    found = _latents_in(folder, manifest, find_base(base))
    own = manifest.get("stage_parameters", {}).get(base, manifest["parameters"])
    named = {name: given[name] for name in NAMING if given.get(name) is not None}
    decoder = _Decoder(find_base(base), named, own, device, no_download)
    for record, _, header in found:
        decoder.check(folder / record["name"], header)
    with OutputFolder(folder, "--decode", folder) as out, decoder.threads():
        out.protect([*manifest["inputs"], *manifest.get("materials", [])])
        decoder.plan = decoder.planned(memory, manifest, *found[0][1:])
        for count, (record, latents, header) in enumerate(found):
            path = out.place(_place(record, save_file, count))
            stages = Stages()
            with stages.stage("decode again", str(decoder.device)):
                decoder.write(latents, header, path, _sound(header, manifest["inputs"]))
            keeps = save_latents or record.get("kept", False)
            made = video_record(output_record(folder, path), header)
            manifest = _told(manifest, record, made, keeps, stages.rows, own["num_videos"])
            write_json(folder / "manifest.json", manifest)
            if not keeps:  # after the manifest, which never names what is not there
                (folder / record["name"]).unlink(missing_ok=True)
    if manifest.get("interrupted"):
        log.warning("%d of %d videos are there; the others were never denoised: repeat the run for them",
                    len(_of_role(manifest, "out_video")), own["num_videos"])  # fmt: skip
    else:
        from vace.pipeline import JOB_FILE

        (folder / JOB_FILE).unlink(missing_ok=True)  # a pipeline that broke off has nothing left to go on with
    return generated_in(folder, manifest)


def _check_flags(given: Mapping[str, Any]) -> None:
    """Raise InputError for flags that belong to a run that denoises, and under torchrun."""
    foreign = [name for name, value in given.items() if value is not None and name not in (*NAMING, *IDLE)]
    if foreign:
        named = ", ".join(f"--{name}" for name in foreign)
        raise InputError(f"{named}: not with --decode, which changes nothing of what was denoised; leave it out, or "
                         "make the video anew")  # fmt: skip
    if STARTED in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("--decode takes one process; leave torchrun out")


def _of_role(manifest: Mapping[str, Any], role: str) -> list[dict]:
    return [record for record in manifest["outputs"] if record.get("role") == role]


def _latents_in(folder: Path, manifest: Mapping[str, Any], base: Base) -> list[tuple[dict, torch.Tensor, Header]]:
    """(record, latents [C, refs + T, h, w], header) of each video not decoded yet. Raises InputError without any."""
    records = _of_role(manifest, ROLE)
    if not records:
        raise InputError(
            f"--decode {folder}: no latents there; a run leaves them when it breaks off while decoding, or with "
            "--save_latents: give the folder of such a run"
        )
    found = []
    for record in records:
        path = folder / record["name"]
        latents, header = read_latents(path)
        if not is_intact(folder, record):
            raise InputError(f"{path}: is not what the manifest beside it describes; make the video again")
        if header.base != base.name:
            raise InputError(f"--decode {folder}: latents of {header.base}; give it to `vace {header.base}`")
        found.append((record, latents, header))
    return found


def _place(record: Mapping[str, Any], save_file: str | Path | None, count: int) -> Path:
    """Where the run would have written the video, or --save_file, numbered as --num_videos numbers."""
    if not save_file:
        return Path(record["video"])
    name = Path(save_file).absolute()
    return name.with_name(f"{name.stem}_{count}{name.suffix}") if count else name


def _sound(header: Header, inputs: list[dict]) -> Path | None:
    """The file whose sound the video carries; a warning where it is gone or is not the same any more."""
    source = next((record for record in inputs if record["flag"] == "src_video"), None)
    if header.sound is None or source is None:
        return None
    if is_intact(Path(), {"name": source["path"], "sha256": source["sha256"]}):
        return Path(source["path"])
    log.warning("%s is gone or has changed: the video will be without its sound", source["path"])
    return None


def _told(manifest: dict, record: dict, made: dict, keeps: bool, rows: list[dict], wanted: int) -> dict:
    """The manifest with a video that was made of latents; whole, when it is the last one that was wanted."""
    outputs = [one for one in manifest["outputs"] if (one.get("role"), one.get("seed")) != ("out_video", made["seed"])]
    at = outputs.index(record)
    outputs[at : at + 1] = [*([record] if keeps else []), made]
    manifest = {**manifest, "outputs": outputs, "stages": [*manifest["stages"], *rows]}
    if len(_of_role(manifest, "out_video")) >= wanted:
        manifest.pop("interrupted", None)
    return manifest


class _Decoder:
    """The VAE of the checkpoint that denoised, as an engine that has nothing else.

    named: the flags that say which checkpoint; without any, those of the run, among its parameters `own`. device: the
    run's own where it is None.
    """

    def __init__(self, base: Base, named: dict, own: Mapping[str, Any], device: str | None, no_download: bool) -> None:
        from vace.devices import pick_device
        from vace.models.checkpoints import find_checkpoint
        from vace.models.parts import read_part

        where = named or {name: own.get(name) for name in NAMING if name in MODEL_FLAGS}
        where = {"ckpt_dir": None, "model_name": None} | where
        self.device = pick_device(device or own["device"])
        self.base = base
        self.checkpoint = find_checkpoint(**where, base=base, no_download=no_download or bool(own.get("no_download")))
        self.part: Part = read_part(self.checkpoint, "vae")
        self.mark = vae_mark(self.part)
        self.vae_dtype: str = own.get("vae_dtype") or "float32"
        self.plan: Plan | None = None
        self._made: tuple[tuple, Any] | None = None

    def threads(self) -> Any:
        """As many as the run had: their number decides how sums are rounded."""
        from vace.devices import toy_threads

        return toy_threads(self.checkpoint.is_toy)

    def check(self, path: Path, header: Header) -> None:
        """Raise InputError for latents of another VAE."""
        if header.vae != self.mark:
            raise InputError(
                f"{path}: latents of the VAE {header.vae} (of {header.model}), {self.part.source} holds {self.mark}; "
                "name the checkpoint that made them with --ckpt_dir"
            )

    def planned(self, memory: str | None, manifest: Mapping, latents: torch.Tensor, header: Header) -> Plan | None:
        """What --memory asks for, else the plan of the run; None where it had none. Raises InputError, DeviceError."""
        if memory is not None and self.base.name != "wan":
            raise InputError(f"--memory {memory}: planned for wan alone; leave it out")
        asked = memory or manifest.get("used", {}).get("plan")
        if asked is None:
            return None
        import torch

        from vace.plan_verb import decided
        from vace.speed.memory import of_decoding

        sizes = latents.shape[1] - header.refs, header.width, header.height
        found = of_decoding(self.part, *sizes, vae_dtype=getattr(torch, self.vae_dtype))
        return decided(found, parse_memory(asked), self.device)[0]

    def write(self, latents: torch.Tensor, header: Header, path: Path, sound: Path | None) -> None:
        """Write the video; in tiles where there is no memory for whole pictures."""
        from vace.media.video import check_free_space, estimated_bytes

        kind = KINDS_OF[header.out_format]
        check_free_space(path.parent, estimated_bytes(kind, header.width, header.height, header.frames))
        tiled = " in tiles" if self.plan is not None and self.plan.tile_vae else ""
        log.info("decoding seed %d%s: %d frames of %dx%d, on %s in %s", header.seed, tiled, header.frames,
                 header.width, header.height, self.device, path)  # fmt: skip
        engine = self._engine(header)
        try:
            return write_video(engine, latents, header, path, sound)
        except Exception as error:
            if self.plan is None or self.plan.tile_vae or not is_out_of_memory(error):
                raise
        log.warning("out of memory: once more, in tiles; the result differs a little near their edges")
        engine.release()  # outside of the handler, whose traceback holds tensors
        self.plan = PLANS["tiled"]
        write_video(self._engine(header), latents, header, path, sound)

    def _engine(self, header: Header) -> Any:
        """One for all videos, as long as the plan stays."""
        key = (self.plan, header.dtype)
        if self._made is None or self._made[0] != key:
            plan = {"plan": self.plan, "vae_dtype": self.vae_dtype} if self.base.name == "wan" else {}
            self._made = (
                key,
                self.base.module("engine").load_engine(
                    self.checkpoint, self.device, header.dtype, checked=({"vae": self.part}, None), **plan
                ),
            )
        return self._made[1]

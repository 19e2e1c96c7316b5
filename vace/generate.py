"""Verb 2: src_video, src_mask, src_ref_images and a prompt -> out_video, by a base model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vace.decoding import video_record, write_video
from vace.errors import CheckpointError, OutputError, is_out_of_memory
from vace.generated import Generated, generated_in
from vace.job import Job, prepare_job, with_extended_prompt
from vace.latents_file import ROLE, Header, vae_mark
from vace.latents_kept import KeptLatents
from vace.media.manifest import read_json
from vace.places import Places, plan_line, words_notice
from vace.plan_verb import plan_line as memory_line
from vace.plan_verb import with_plan
from vace.runs import (
    SCHEMA,
    OutputFolder,
    Stages,
    finished,
    full_paths,
    input_records,
    is_intact,
    paths_by_flag,
    public_recipe,
    remove_stale,
    run_key,
    versions,
    write_manifest,
)
from vace.sources import Shape, Sources, open_sources, plan_shape, read_tensors
from vace.speed.memory_plans import retry_plan
from vace.warm import load_engine
from vace.watching import NOBODY, Watch

if TYPE_CHECKING:
    import torch

    from vace.models.denoise import OnStep
    from vace.models.previews import Previews
    from vace.warm import Warm

log = logging.getLogger("vace")

T = TypeVar("T")
STAYING = ("out_video", ROLE)  # roles of what stays when a run breaks off


def generate(
    prompt: str | None = None,
    *,
    src_video=None,
    src_mask=None,
    src_ref_images=None,
    save_dir: str | Path | None = None,
    save_file: str | Path | None = None,
    save_latents: bool = False,
    progress: bool | str = True,
    job: Job | None = None,
    resume: bool = False,
    pipeline: dict | None = None,
    warm: Warm | None = None,
    watch: Watch | None = None,
    **given,
) -> Generated:
    """Make videos.

    prompt: what is seen. src_video, src_mask: prepared files (white = generate). src_ref_images: pictures, a comma list
    or a list. given: further flags (see vace.flags and vace.settings.DEFAULTS). job: a `prepare_job` of the same flags,
    to spare a second look. resume: a finished result of the same inputs and parameters in save_dir is not made again,
    and what was denoised is only decoded. save_latents: keep the denoised latents beside the result.
    pipeline: what `vace pipeline` adds to the manifest: its own parameters, and those of the stage before. warm: keeps
    the model loaded for further calls. watch: what is told on the way; what it raises ends the run.
    Results go to save_dir, by default results/MODEL/TIME; nothing stays there when it fails, but finished videos are
    kept, and so are denoised latents (see vace.decode_again) when the decoding fails.
    Raises VaceError: InputError, MissingWeights, CheckpointError, DeviceError, OutputError.
    """
    job = job or prepare_job(prompt, **given)
    sources = open_sources(src_video, src_mask, src_ref_images, job.settings.allow_truncated)
    try:
        shape = plan_shape(sources, job.settings)
        inputs = input_records(sources.files)
        job = with_extended_prompt(
            job, sources.hints.get("task"), len(sources.refs), sources.video is not None, sources.mask is not None,
            shape.count / shape.fps,
        )  # fmt: skip
        done = finished(Path(save_dir), _key(job, inputs)) if resume and save_dir else None
        if done is not None and _is_named(done, save_file):
            log.info("already made in %s", save_dir)
            return generated_in(Path(save_dir), done)
        from vace.devices import toy_threads

        default = Path("results") / job.checkpoint.name
        with OutputFolder(save_dir, "--save_dir", default) as out, toy_threads(job.checkpoint.is_toy):
            places = Places(out, job.settings, shape, save_file)
            return _Run(
                job, sources, shape, inputs, places, progress, pipeline, resume, warm, watch, save_latents
            ).run()
    finally:
        sources.close()


class _Run:
    """One generation at work: its stages in order, each finished video on disk before the next begins."""

    def __init__(
        self, job: Job, sources: Sources, shape: Shape, inputs: list, places: Places, progress: bool,
        pipeline: dict | None, resume: bool, warm: Warm | None, watch: Watch | None, save_latents: bool,
    ) -> None:  # fmt: skip
        self.job, self.sources, self.shape, self.inputs = job, sources, shape, inputs
        self.places, self.out = places, places.out
        self.settings, self.base, self.progress = job.settings, job.base, progress
        self.pipeline, self.watch = pipeline, watch or NOBODY
        self.load = warm.engine if warm else load_engine
        self.encode = warm.encode_context if warm else lambda engine, *given: engine.encode_context(*given)
        self.out.protect([*inputs, *(pipeline or {}).get("materials", [])])
        self.stages, self.outputs = Stages(), []
        self.latents = KeptLatents(places, self.outputs, lambda: self._write_manifest(interrupted=True), save_latents)
        path = self.out.path / "manifest.json"
        before = read_json(path) if path.is_file() else None
        self.before = before if isinstance(before, dict) else None
        self.resume = resume
        self.model = {"name": job.checkpoint.name, "toy": job.checkpoint.is_toy, "layout": job.checkpoint.layout}
        self.model["fingerprint"] = job.fingerprint

    def _warn_of_stand_ins(self) -> None:
        """Tell where prepared files that came by themselves hold an approximation, which misleads real models."""
        from vace.annotators.networks import NETWORKS

        for record in self.sources.hints.get("networks", []) if not self.pipeline else []:
            row = NETWORKS.get(record.get("name"))
            if row and row.is_approximate and record.get("backend") == "embedded" and not self.job.checkpoint.is_toy:
                log.warning("the prepared video holds %s; with the trained network: vace models pull %s, then prepare "
                            "it again", row.stand_in, row.name)  # fmt: skip

    def run(self) -> Generated:
        from vace.devices import pick_device, pick_dtype

        settings = self.settings
        device = pick_device(settings.device)
        self.device, self.dtype, self.torch_device = str(device), pick_dtype(settings.dtype, device), device
        kept = [self._made_before(settings.seed + count) is not None for count in range(settings.num_videos)]
        self.places.check_paths(kept)
        self.places.check_space(kept)
        self._warn_of_stand_ins()
        log.info("%s", plan_line(self.job.checkpoint, settings, self.shape, len(self.sources.refs), device, self.dtype))
        notice = words_notice(settings.prompt, self.job.checkpoint.defaults)
        if notice is not None:
            log.warning("%s", notice)
        self.job = with_plan(self.job, len(self.sources.refs), (self.shape.width, self.shape.height),
                             self.shape.model_count)  # fmt: skip
        with self._stage("load"):
            self.engine = self.load(self.job, device)
            self.vae = vae_mark(self.job.checked[0]["vae"])
        engine = self.engine
        self.sampling = engine.sampling(settings, self.shape.fps, self.shape.tokens)
        with self._stage("read sources"):
            given = read_tensors(self.sources, self.shape, settings)
        with self._stage("encode prompt"):
            cond, uncond = engine.encode_prompts(settings.prompt, self._negative())
        with self._stage("encode context"):
            context = self._fitting(lambda engine, given=given: self.encode(engine, *given))
        with self._stage("write sources"):
            self._write_sources(*given)
        refs = len(given[2])
        del given
        self.previews = self._previews(refs)
        try:
            for count in range(settings.num_videos):
                self._make_video(count, context, cond, uncond, refs)
                if count + 1 < settings.num_videos:  # a run that is killed later can go on after this one
                    self._write_manifest(interrupted=True)
        except BaseException:  # whatever happened, what is finished or denoised stays
            if any(record["role"] in STAYING for record in self.outputs):
                self.out.keep = True
                with suppress(OutputError):  # a full disk: what was told before counts
                    self._write_manifest(interrupted=True)
            raise
        return generated_in(self.out.path, self._write_manifest())

    def _stage(self, name: str):
        self.watch.stage(name)
        return self.stages.stage(name, self.device)

    def _negative(self) -> str | None:
        if not self.base.is_guided(self.settings.guidance_scale):
            return None
        own = self.settings.negative_prompt
        return self.base.negative if own is None else own

    def _fitting(self, work: Callable[[Any], T]) -> T:
        """What `work` makes with the engine; once more under the next plan when memory ran out."""
        try:
            return work(self.engine)
        except Exception as error:
            if self.job.plan is None or not is_out_of_memory(error):
                raise
            following = retry_plan(self.job.plan, approximate=False)
            if following is None:
                raise
        log.warning("out of memory under the plan '%s'; once more: %s", self.job.plan.name,
                    memory_line(following, "the next one"))  # fmt: skip
        self.engine.release()  # outside of the handler, whose traceback holds tensors
        self.job = replace(self.job, plan=following)
        self.engine = self.load(self.job, self.torch_device)
        return work(self.engine)

    def _make_video(self, count: int, context, cond, uncond, refs: int) -> None:
        seed = self.settings.seed + count
        kept = self._made_before(seed)
        if kept is not None:
            self.outputs += [kept, *filter(None, [self._made_before(seed, ROLE) if self.latents.stay else None])]
            return
        header = self._header(refs, seed)
        latents = self.latents.again(self._made_before(seed, ROLE), header)
        if latents is None:
            latents = self._denoise(count, context, cond, uncond, seed)
            self.latents.keep(count, latents, header)
        path, sound = self.out.removed_on_failure(self.places.path(count)), getattr(self.sources.video, "path", None)
        with self.latents.told_on_failure(header), self._stage(f"decode {count}" if count else "decode"):
            self._fitting(lambda engine: write_video(engine, latents, header, path, sound))
        self.outputs.append(video_record(self.places.record(path), header))
        self.latents.let_go(seed)

    def _denoise(self, count: int, context, cond, uncond, seed: int) -> torch.Tensor:
        from vace.devices import pick_device

        settings = self.settings
        with self._stage(f"denoise {count}" if count else "denoise"), _step_bar(settings.steps, self.progress) as bar:
            latents = self._fitting(lambda engine: bar.reset() or engine.denoise(
                context, cond, uncond, seed=seed, noise_device=str(pick_device(settings.noise_device)),
                on_step=self._told(bar), **self.sampling,
            ))  # fmt: skip
        if not bool(latents.isfinite().all()):
            raise CheckpointError(
                f"{self.job.checkpoint.path}: the model gave numbers that are not finite, in {self.dtype}; "
                "try --dtype float32, or get the weights again"
            )
        return latents.contiguous()  # as they come back from a file, so that the decoder rounds alike

    def _header(self, refs: int, seed: int) -> Header:
        shape, settings, plan = self.shape, self.settings, self.shape.frames
        has_sound = plan is not None and plan.sound is not None and self.sources.video.has_audio
        return Header(
            base=self.base.name, model=self.model["name"], vae=self.vae, refs=refs, frames=shape.count,
            width=shape.width, height=shape.height, fps=float(shape.fps), seed=seed,
            dtype=str(self.dtype).removeprefix("torch."), out_format=settings.out_format,
            decoding=self.engine.decoding(settings, seed), sound=tuple(map(float, plan.sound)) if has_sound else None,
            comment=None if settings.no_metadata else public_recipe(self._recipe() | {"seed": seed}),
        )  # fmt: skip

    def _previews(self, refs: int) -> Previews | None:
        """What shows how the videos come along, if somebody wants to see it and there is memory for it."""
        if self.watch.on_preview is None:
            return None
        if self.settings.offload_model:
            log.info("no previews: --offload_model keeps the decoder out of memory while the video is denoised")
            return None
        from vace.models.previews import Previews

        drawn = self.engine.decoding(self.settings, self.settings.seed)
        return Previews(lambda latents: self.engine.preview(latents, refs, **drawn), self.watch.on_preview)

    def _told(self, bar) -> OnStep:
        def told(i, steps, latents, estimate) -> None:
            bar.update()
            self.watch.step(i, steps, latents, estimate)
            if self.previews is not None:
                self.previews.after_step(i, steps, estimate)

        return told

    def _made_before(self, seed: int, role: str = "out_video") -> dict | None:
        """The record of a video (or latents) with this seed that an interrupted run of the same job has finished."""
        if not (self.resume and self.before and self.before.get("key") == _key(self.job, self.inputs)):
            return None
        records = [r for r in self.before["outputs"] if r["role"] == role and r["seed"] == seed]
        return next((record for record in records if is_intact(self.out.path, record)), None)

    def _recipe(self) -> dict:
        own = _parameters(self.job, self.inputs)
        command, parameters = ("pipeline", self.pipeline["parameters"]) if self.pipeline else (self.base.name, own)
        inputs = (self.pipeline or {}).get("materials", self.inputs)
        recipe = {"schema": SCHEMA, "command": command, "parameters": parameters, "inputs": inputs}
        return recipe | {"model": self.model, "versions": versions()}

    def _write_sources(self, frames, mask, refs) -> None:
        """The sources as the model sees them, the padding left out."""
        from vace.conditioning.pixels import to_pixels
        from vace.media.image import write_image
        from vace.media.manifest import file_record
        from vace.media.video import VideoWriter

        shape, kind, paths = self.shape, self.settings.intermediates, {}
        if self.sources.video is not None:
            videos = {"src_video": frames, "src_mask": mask * 2 - 1 if self.sources.mask is not None else None}
            for role, video in videos.items():
                if video is None:
                    continue
                paths[role] = self.out.file(f"{role}.mp4")
                pixels = to_pixels(video[:, : shape.count])
                with VideoWriter(paths[role], shape.fps, kind=kind) as writer:
                    writer.write(pixels if role == "src_video" else pixels[..., 0])
        for role, path in paths.items():
            self.outputs.append({"role": role, **file_record(path)})
        for count, ref in enumerate(refs):
            path = self.out.file(f"src_ref_image_{count}.png")
            write_image(path, to_pixels(ref)[0])
            self.outputs.append({"role": "src_ref_images", **file_record(path)})

    def _write_manifest(self, interrupted: bool = False) -> dict:
        """Tell what is there; latents that no manifest names any more go after that."""
        more = {"seed": self.settings.seed, "device": self.device, "model": self.model, "stages": self.stages.rows}
        more["frames"] = {"count": self.shape.count, "made": self.shape.model_count, "tokens": self.shape.tokens}
        more["networks"] = (self.pipeline or {}).get("networks", self.sources.hints.get("networks", []))
        more["used"] = {"dtype": str(self.dtype).removeprefix("torch."), "negative_prompt": self._negative()}
        more["used"] |= {name: _plain(value) for name, value in self.sampling.items()}
        more["used"] |= {"plan": self.job.plan.name} if self.job.plan else {}
        outputs = self.outputs
        if interrupted:
            more["interrupted"] = True
            done = {record.get("seed") for record in outputs}
            seeds = range(self.settings.seed, self.settings.seed + self.settings.num_videos)
            later = [self._made_before(seed, kind) for seed in seeds if seed not in done for kind in STAYING]
            outputs = [*outputs, *filter(None, later)]  # what an earlier run has finished is not forgotten
        if self.job.extension:
            more["prompt_extension"] = self.job.extension
        own, command = _parameters(self.job, self.inputs), self.base.name
        parameters = own
        if self.pipeline:
            command, parameters = "pipeline", self.pipeline["parameters"]
            more["stage_parameters"] = {"preprocess": self.pipeline.get("preprocess"), self.base.name: own}
            more["materials"] = self.pipeline.get("materials", [])
            more["stages"] = self.pipeline.get("prepared", []) + self.stages.rows
        more["key"] = _key(self.job, self.inputs)
        path = self.out.file("manifest.json")
        manifest = write_manifest(path, command, parameters, self.inputs, outputs, **more)
        if not interrupted:
            remove_stale(self.out.path, self.before, outputs)
        self.latents.sweep()
        return manifest


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _parameters(job: Job, inputs: list[dict]) -> dict:
    """The flags that would make this again, files with their full paths."""
    return full_paths(job.parameters()) | paths_by_flag(inputs)


def _is_named(manifest: dict, save_file) -> bool:
    """Whether the finished video is where --save_file asks for it."""
    first = next(record["name"] for record in manifest["outputs"] if record["role"] == "out_video")
    return save_file is None or Path(first) == Path(save_file).absolute()


def _key(job: Job, inputs: list[dict]) -> str:
    """What the result depends on; the model that served counts, not how it was asked for."""
    settings = {k: v for k, v in _parameters(job, inputs).items() if k not in ("ckpt_dir", "model_name", "no_download")}
    return run_key(job.base.name, settings | {"model": [job.checkpoint.name, job.fingerprint]}, inputs)


@contextmanager
def _step_bar(steps: int, progress: bool | str) -> Iterator:
    """The line of progress; a text names the job at work in it."""
    from tqdm import tqdm

    words = {"desc": "denoise", "unit": "step"}
    if isinstance(progress, str):
        label = progress.replace("{", "{{").replace("}", "}}")  # names of files may hold what tqdm fills in
        shown = " · {n_fmt}/{total_fmt} steps · {rate_inv_fmt} · ETA {remaining}"
        words = {"bar_format": label + shown, "unit": "it"}
    with tqdm(total=steps, disable=not progress, **words) as bar:
        yield bar

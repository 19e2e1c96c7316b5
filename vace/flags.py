"""Every flag of the command line, as data: name, other names, kind, help, and the commands that take it.

Values that were not given stay absent: the defaults live in the verbs (and in the checkpoint's `vace.json`).
Names of the original command lines are kept beside the shared short ones.
"""

from __future__ import annotations

from vace.flag import Flag
from vace.prompts.modes import AUTO, MODES
from vace.train_flags import EVAL_FLAGS, TRAIN_FLAGS

__all__ = ["AUGMENT_MODES", "FLAGS", "Flag", "flags_for"]


PREPARE, WAN, LTX, PIPELINE = "preprocess", "wan", "ltx", "pipeline"
PROMPT, BATCH, DEMO, PLAN = "prompt", "batch", "demo", "plan"
_MAKE = (WAN, LTX, PIPELINE)
_WAN = (WAN, PIPELINE)
_SHAPING = (WAN, PIPELINE, PLAN)  # what decides how much memory a run takes
_LTX = (LTX, PIPELINE)
_TAKE = (PREPARE, PIPELINE)
_ALL = (PREPARE, WAN, LTX, PIPELINE)
_EXTEND = (*_MAKE, PROMPT)

AUGMENT_MODES = ("original", "original_expand", "hull", "hull_expand", "bbox", "bbox_expand")

FLAGS = (
    # materials
    Flag("task", "text", "what to make of the materials; `vace tasks` lists them", (*_TAKE, PROMPT)),
    Flag("mode", "text", "the variant of the task; in compositions 'video mode,image mode'", _TAKE),
    Flag("video", "list", "video files, GIFs or folders of pictures, separated by commas", _TAKE),
    Flag("image", "list", "picture files, separated by commas", _TAKE),
    Flag("mask", "list", "picture, video or folder of pictures; white = make anew, black = keep", _TAKE),
    Flag("bbox", "list", "boxes 'x1,y1,x2,y2' in pixels of the source; two boxes: 'x1,y1,x2,y2 x1,y1,x2,y2'", _TAKE),
    Flag("label", "list", "what things are called, separated by commas", _TAKE),
    Flag("caption", "phrases", "what a thing looks like, in words; again for a further picture", _TAKE),
    Flag("ref_mask", "list", "as --mask, for the reference pictures of a task with a video part", _TAKE),
    Flag("ref_bbox", "list", "as --bbox, for them", _TAKE),
    Flag("ref_label", "list", "as --label, for them", _TAKE),
    Flag("ref_caption", "phrases", "as --caption, for them", _TAKE),
    Flag("direction", "list", "sides to expand: left,right,up,down in any combination", _TAKE),
    Flag("expand_ratio", "float", "how much each side grows, as part of the size, 0 to 1 (0.25)", _TAKE),
    Flag("expand_num", "int", "frames to make besides the given ones (80)", _TAKE),
    Flag("clip_frames", "int", "frames of a clip to use: the last ones of a first clip, the first of a last (all)",
         _TAKE),
    Flag("frame_range", "list", "frames of the video to use, FIRST:LAST counted from 0, LAST included; an open end is"
         " the clip's own; one for all videos, or one each", _TAKE),
    Flag("mask_blur", "int", "soft edge of an outpainting mask, in pixels (0)", _TAKE),
    Flag("ref_num", "int", "framerefext: how many frames are kept (1)", _TAKE),
    Flag("ref_cfg", "text", "framerefext: which frames: first, last, firstlast or random (one of these, drawn)", _TAKE),
    Flag("maskaug_mode", AUGMENT_MODES, "how to enlarge and simplify the mask", _TAKE),
    Flag("maskaug_ratio", "float", "how far an _expand mode grows the mask, 0 to 1", _TAKE),
    Flag("normalize", ("frame", "clip"), "depth and flow: full scale in each frame, or one scale for the clip (frame)",
         _TAKE),
    Flag("backend", ("auto", "neural", "embedded"),
         "which networks: trained ones where they can be had (auto), or one kind only", _TAKE),
    Flag("batch_size", "int", "frames a network takes at a time (as many as fit)", _TAKE),
    Flag("process_type", "list", "composition: the tasks the two sources come from, separated by a comma", _TAKE),
    Flag("pre_save_dir", "text", "folder for what preprocessing writes (processed/TASK/TIME)", _TAKE),
    Flag("save_fps", "float", "frames a second of the written videos (that of the source, else the model's)", _TAKE),
    Flag("allow_truncated", "bool", "go on with what a damaged video still holds", _ALL),
    Flag("intermediates", ("exact", "small"), "exact keeps every pixel of src_video and src_mask; small is h264",
         _ALL),
    # generation
    Flag("base", "text", "the base model: wan or ltx (wan)", (PIPELINE, PROMPT)),
    Flag("src_video", "list", "the prepared video (composition: two)", (*_ALL, PROMPT)),
    Flag("src_mask", "list", "the prepared mask (composition: two)", (*_ALL, PROMPT)),
    Flag("src_ref_images", "list", "reference pictures, separated by commas", _EXTEND),
    Flag("prompt", "text", "what the video shows, described (not an instruction)", _MAKE),
    Flag("negative_prompt", "text", "what it shall not look like (the model's own; '' for none)", _MAKE),
    Flag("ckpt_dir", "text", "checkpoint: original Wan folder, diffusers folder, a transformer's .safetensors or .gguf,"
         " T2V.safetensors+VACE_MODULE.safetensors, LTX's .safetensors or its folder, hub id, or tiny",
         (*_MAKE, DEMO, PLAN), ("ckpt_path",)),
    Flag("model_name", "text", "checkpoint by name: vace-1.3B, vace-14B, vace-1.3B-preview, vace-ltx-0.9, tiny",
         (*_MAKE, DEMO, PLAN)),
    Flag("text_encoder_path", "text", "folder with text_encoder/ and tokenizer/, or Wan's text encoder as a file (the"
         " checkpoint's own)", (*_MAKE, PLAN)),
    Flag("vae_path", "text", "the VAE's file or folder, for a transformer in a file of its own (found beside it)",
         _SHAPING),
    Flag("lora", "text", "LoRAs fused into the transformer: FILE, FOLDER or HUB_ID[:FILE], each with =WEIGHT (1),"
         " separated by commas", _WAN),
    Flag("quantize", ("int8", "fp8"), "round weights to 8 bits as they are read: half the memory; needs vace[quant]",
         (*_MAKE, PLAN)),
    Flag("config", "text", "a config.json for a checkpoint that has none of its own", (*_MAKE, PLAN)),
    Flag("no_download", "bool", "never fetch weights", (*_ALL, PROMPT, DEMO, PLAN)),
    Flag("size", "text", "480p, 720p, or WxH; with a source video the aspect follows it (wan 480p, ltx 768x512)",
         (*_ALL, PLAN)),
    Flag("height", "int", "height of the result in pixels, instead of --size (512)", _LTX),
    Flag("width", "int", "width of the result in pixels, instead of --size (768)", _LTX),
    Flag("frame_num", "int", "frames of the result: wan 4n+1 (81), ltx 8n+1 (97)", (*_ALL, PLAN), ("num_frames",)),
    Flag("frame_rate", "float", "frames a second of the result; footage is played at that rate (25)", _LTX),
    Flag("frame_policy", ("auto", "uniform"), "auto: real-time speed, trimmed; uniform: the whole clip squeezed in",
         _MAKE),
    Flag("fill_mask", ("auto", "neutral", "keep"), "gray under the white of the mask: as the manifest says, yes, no",
         _MAKE),
    Flag("preset", "text", "several settings at once, which flags of their own still change: quality (as published), or"
         " balanced (3/5 of the steps), or turbo (Wan with a LoRA distilled to 4 steps)", _MAKE),
    Flag("steps", "int", "denoising steps (wan 50, ltx 40)", _MAKE, ("sample_steps", "num_inference_steps")),
    Flag("shift", "float", "time shift of the schedule (wan 16, ltx by the number of tokens)", _MAKE,
         ("sample_shift",)),
    Flag("guidance_scale", "float", "how strictly the prompt is followed; 1 = off, faster (wan 5, ltx 3)",
         (*_MAKE, PLAN), ("sample_guide_scale",)),
    Flag("context_scale", "float", "how strongly video, mask and references lead; 0 = not at all (1)", _MAKE),
    Flag("sampler", "text", "unipc or dpm++; lcm or euler for models distilled to few steps", _WAN, ("sample_solver",)),
    Flag("context_end", "float", "video, mask and references lead in this first part of the steps only, 0 to 1; below 1"
         " faster (1)", _WAN),
    Flag("guidance_interval", "text", "guidance in this part of the steps only, LOW,HIGH, such as 0,0.8; faster (0,1)",
         _WAN),
    Flag("step_cache", "float", "serve a step from the one before while inputs have changed by less than this share,"
         " 0.03 to 0.1; approximate, faster (0: off)", _SHAPING),
    Flag("attention", "text", "kernel: auto, sdpa, cudnn, flash, flash3, or sage (approximate); each proven before use",
         _WAN),
    Flag("vae_dtype", ("float32", "bfloat16"), "number format of the VAE; bfloat16: half its memory, and 55 dB from"
         " float32 (float32)", _SHAPING),
    Flag("memory", "text", "auto: the cheapest plan that fits what the device has free; 'NN GB'; max: all on the"
         " device; or a plan: evict, tiled, offload, int8, int8+offload (`vace plan` shows them)", _SHAPING),
    Flag("compile", "bool", "compile the transformer's blocks: some minutes once, then faster", _WAN),
    Flag("stg_scale", "float", "spatio-temporal guidance: how far from what skipped layers give; 0 = off, faster (1)",
         _LTX),
    Flag("stg_rescale", "float", "how far its result is brought back to the usual contrast; exactly 1 = off, as in the"
         " original (0.7)",
         _LTX),
    Flag("stg_mode", ("stg_a", "stg_r"), "what is skipped: the attention (stg_a), or the whole layer (stg_r)", _LTX),
    Flag("stg_skip_layers", "list", "which layers, counted from 0 (19)", _LTX),
    Flag("posterior", ("sample", "mode"), "source latents: drawn with the seed as in training (sample), or the mean",
         _LTX),
    Flag("decode_timestep", "float", "noise level told to a decoder that asks for one, of 0.9.1 files (0.05)", _LTX),
    Flag("decode_noise_scale", "float", "noise mixed into the latents for such a decoder (0.025)", _LTX),
    Flag("image_cond_noise_scale", "float", "no effect, taken because the original takes it", _LTX),
    Flag("seed", "int", "start of all randomness; -1 draws one and tells it (wan 2025, ltx 42)", (*_ALL, PROMPT),
         ("base_seed",)),
    Flag("num_videos", "int", "videos to make, with seeds s, s+1, ...", _MAKE, ("num_images_per_prompt",)),
    Flag("noise_device", "text", "where the noise is drawn: cpu gives the same on every machine", _MAKE),
    Flag("device", "text", "auto, cpu, cuda or cuda:N", (*_ALL, PROMPT, DEMO, PLAN)),
    Flag("precision", ("bfloat16", "mixed_precision"), "--dtype bfloat16 or float32, as the original spells it", _LTX),
    Flag("dtype", ("auto", "float32", "bfloat16", "float16"), "auto: bfloat16 on CUDA, float32 on CPU",
         (*_EXTEND, PLAN)),
    Flag("offload_model", "bool", "keep on the device only the part at work", _MAKE, ("offload_to_cpu",)),
    Flag("t5_cpu", "bool", "run the text encoder on the CPU", _MAKE),
    Flag("use_prompt_extend", (AUTO, *MODES), "have a language model write the prompt out; the bare flag: as fits base"
         " and language; plain: as it is; *_ds: by DashScope", _EXTEND, bare=AUTO),
    Flag("prompt_model", "text", "folder or hub id of the language model (Qwen/Qwen2.5-3B-Instruct on a GPU, else"
         " 1.5B)", _EXTEND),
    Flag("prompt_api", "text", "an OpenAI-compatible API instead, https://HOST/v1; its key from VACE_PROMPT_API_KEY or"
         " OPENAI_API_KEY", _EXTEND),
    Flag("prompt_api_model", "text", "the model to ask there (*_ds: qwen-plus)", _EXTEND),
    Flag("prompt_api_timeout", "float", "seconds it may take, each of three tries (60; at most 3600)", _EXTEND),
    Flag("prompt_fallback", "bool", "go on with the prompt as it is when it cannot be written out", _EXTEND),
    Flag("ulysses_size", "int", "processes that share one video, by heads; times --ring_size it is what torchrun"
         " started (1)", _WAN),
    Flag("ring_size", "int", "likewise, by tokens, where there are more processes than heads (1)", _WAN),
    Flag("dit_fsdp", "bool", "spread the transformer's weights over these processes", _WAN),
    Flag("t5_fsdp", "bool", "likewise the text encoder's", _WAN),
    Flag("save_dir", "text", "folder for the result (results/MODEL/TIME)", _MAKE),
    Flag("save_file", "text", "path of the result's file instead of out_video.mp4 in save_dir", _MAKE),
    Flag("out_format", ("mp4", "exact", "png"), "mp4 plays in a browser; exact is lossless; png is a folder", _MAKE),
    Flag("no_metadata", "bool", "leave the recipe out of the video file", _MAKE),
    Flag("save_latents", "bool", "keep the denoised latents beside the result, for --decode", _MAKE),
    # runs
    Flag("from", "text", "repeat the run of this manifest.json; further flags change it", _ALL),
    Flag("decode", "text", "make the videos whose latents a run has left in this folder, as one does that breaks off"
         " while decoding; loads the VAE alone", (WAN, LTX)),
    Flag("resume", "text", "go on with the run of this folder; finished stages are not run again", (PIPELINE,)),
    Flag("quiet", "bool", "no progress, no log", (*_ALL, PROMPT, BATCH, DEMO, PLAN)),
    Flag("verbose", "bool", "more log; a traceback with every error", (*_ALL, PROMPT, BATCH, DEMO, PLAN)),
    *TRAIN_FLAGS,
    *EVAL_FLAGS,
)  # fmt: skip


def flags_for(command: str) -> tuple[Flag, ...]:
    return tuple(flag for flag in FLAGS if command in flag.commands)

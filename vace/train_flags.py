"""The flags of `vace train` and `vace eval`, data as those of vace.flags; the defaults live where they are used."""

from __future__ import annotations

from vace.flag import Flag

TRAIN, EVAL = ("train",), ("eval",)
TRAIN_FLAGS = (
    Flag("data", "text", "the examples (.jsonl), one object a line: prompt, target, and src_video, src_mask,"
         " src_ref_images, or prepared: a folder of `vace preprocess`; paths count from its folder", TRAIN),
    Flag("out", "text", "folder for the result, its log and its state", TRAIN),
    Flag("ckpt_dir", "text", "checkpoint: original Wan folder, diffusers folder, hub id, or tiny", TRAIN),
    Flag("model_name", "text", "checkpoint by name: vace-1.3B, vace-14B, vace-1.3B-preview, tiny", TRAIN),
    Flag("config", "text", "a config.json for a checkpoint that has none of its own", TRAIN),
    Flag("no_download", "bool", "never fetch weights", TRAIN),
    Flag("train", ("lora", "context"), "a LoRA, or all weights of the context blocks (lora)", TRAIN),
    Flag("rank", "int", "of the LoRA: more learns more, and takes more room (16)", TRAIN),
    Flag("alpha", "float", "of the LoRA: it counts alpha / rank (the rank)", TRAIN),
    Flag("lora_blocks", ("context", "all"), "a LoRA in the context blocks alone, or in those of the base too"
         " (context)", TRAIN),
    Flag("steps", "int", "steps of training; a finished run goes on with more and --resume (1000)", TRAIN),
    Flag("learning_rate", "float", "after a short warm-up, constant (lora 1e-4, context 1e-5)", TRAIN),
    Flag("batch_size", "int", "examples of one size at a time (1)", TRAIN),
    Flag("accumulate", "int", "batches whose gradients make one step (1)", TRAIN),
    Flag("size", "text", "480p, 720p, or WxH: the budget of a clip, whose aspect is kept (the model's own)", TRAIN),
    Flag("frame_num", "int", "frames of a clip at most, 4n+1 (as many as the budget takes)", TRAIN),
    Flag("frame_policy", ("auto", "uniform"), "auto: real-time speed, trimmed; uniform: the whole clip squeezed in",
         TRAIN),
    Flag("fill_mask", ("auto", "neutral", "keep"), "gray under the white of the mask: as the manifest says, yes, no",
         TRAIN),
    Flag("allow_truncated", "bool", "go on with what a damaged video still holds", TRAIN),
    Flag("shift", "float", "time shift of the noise levels: more trains more on strong noise (3)", TRAIN),
    Flag("prompt_dropout", "float", "share of examples without their prompt, for guidance (0.1)", TRAIN),
    Flag("context_dropout", "float", "share of examples without src_video and src_mask (0.05)", TRAIN),
    Flag("validation", "float", "share of the targets that is kept to judge by, of five or more (0.1)", TRAIN),
    Flag("seed", "int", "of the LoRA's start, batches and noise; -1 draws one (2025)", TRAIN),
    Flag("save_steps", "int", "steps between two saves, each with the validation loss (250)", TRAIN),
    Flag("sample_steps", "int", "steps between two sheets of samples (0: none)", TRAIN),
    Flag("gradient_checkpointing", "bool", "less memory, a third more time (True, for the toy model False)", TRAIN),
    Flag("device", "text", "auto, cpu, cuda or cuda:N", TRAIN),
    Flag("dtype", ("auto", "float32", "bfloat16"), "auto: bfloat16 on CUDA, float32 on CPU", TRAIN),
    Flag("cache_dir", "text", "folder for encoded rows, which several runs may share (OUT/cache)", TRAIN),
    Flag("no_checkpoint", "bool", "leave out the whole model with the result put in", TRAIN),
    Flag("resume", "bool", "go on from the state in --out", TRAIN),
    Flag("quiet", "bool", "no progress, no log", TRAIN),
    Flag("verbose", "bool", "more log; a traceback with every error", TRAIN),
)  # fmt: skip
EVAL_FLAGS = (
    Flag("ckpt_dir", "text", "the checkpoint (a model on this machine, or tiny)", EVAL),
    Flag("model_name", "text", "the checkpoint by its name", EVAL),
    Flag("seed", "int", "draws the worlds; -1 draws the seed itself and tells it (0)", EVAL),
    Flag("seeds", "int", "draws of worlds (3; with --fast 1)", EVAL),
    Flag("per_task", "int", "rows of a task in each draw (5; with --fast 2)", EVAL),
    Flag("tasks", "text", "only these, separated by commas (all that training knows)", EVAL),
    Flag("size", "text", "WxH of the worlds (64x64 and 96x64; real checkpoints 256x256)", EVAL),
    Flag("steps", "int", "denoising steps (the checkpoint's own)", EVAL),
    Flag("guidance_scale", "float", "guidance (the checkpoint's own)", EVAL),
    Flag("workers", "int", "processes that share the rows (2 for a toy model on a CPU, else 1)", EVAL),
    Flag("device", "text", "auto, cpu, cuda or cuda:N", EVAL),
    Flag("out", "text", "folder for scores.json, table.md and the sheets (results/eval/TIME)", EVAL),
    Flag("fast", "bool", "a subset, in two minutes", EVAL),
    Flag("json", "bool", "only the scores, as one line of JSON", EVAL),
    Flag("quiet", "bool", "no progress, no log", EVAL),
    Flag("verbose", "bool", "more log; a traceback with every error", EVAL),
)  # fmt: skip

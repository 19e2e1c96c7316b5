"""LTX checkpoint folders for tests: a golden single file with its text encoder and tokenizer beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from goldens_io import goldens_dir, model_document

NAME = "ltx-video-2b-v0.9.safetensors"  # what the published file is called
# A narrow VAE of the kind of 0.9.1: its decoder is told a timestep and adds noise of its own.
VAE_091 = {
    "block_out_channels": (4, 8, 16, 16),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (True, True, True, False),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}


def golden_checkpoints() -> list[str]:
    """Stems of the golden single files that are there."""
    return sorted(path.stem for path in (goldens_dir() / "ltx").glob("ckpt_*.safetensors"))


def pipeline_cases() -> list[str]:
    """Stems of the golden pipeline calls whose checkpoint is there."""
    stems = sorted(path.stem for path in (goldens_dir() / "ltx").glob("e2e_*.json"))
    return [stem for stem in stems if checkpoint_of(stem) in golden_checkpoints()]


def checkpoint_of(stem: str) -> str:
    return Path(model_document("ltx", stem)["ckpt"]).stem


def write_single(folder: Path, stem: str = "ckpt_v090") -> Path:
    """The published layout: one file, text_encoder/, tokenizer/."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(goldens_dir() / "ltx" / f"{stem}.safetensors", folder / NAME)
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(goldens_dir() / "ltx" / "text_models" / name, folder / name)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def write_091(folder: Path) -> Path:
    """The embedded toy with another VAE, that of VAE_091 with weights drawn from a seed."""
    from safetensors.torch import load_file, save_file

    from vace.bases import LTX
    from vace.models.checkpoints import single_file, tiny_folder
    from vace.models.ltx.keymaps import PREFIXES, file_names
    from vace.models.ltx.metadata import stated_config

    toy = tiny_folder(LTX)
    single = single_file(toy)
    tensors = {key: value for key, value in load_file(single).items() if key.startswith(PREFIXES["transformer"])}
    drawn = _drawn_091()
    tensors |= {name: drawn[key].clone() for key, name in file_names("vae", drawn).items()}
    stated = stated_config(single)
    stated["vae"] = {
        key: stated["vae"][key] for key in ("in_channels", "out_channels", "latent_channels", "patch_size")
    }
    stated["vae"]["timestep_conditioning"] = True
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / NAME, {"config": json.dumps(stated)})
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(toy / name, folder / name)
    shutil.copyfile(toy / "vace.json", folder / "vace.json")
    return folder


def _drawn_091() -> dict:
    """Tensors of that VAE under the class's names, none of them zero, of a size that keeps videos within -1..1."""
    import torch
    from diffusers import AutoencoderKLLTXVideo

    generator = torch.Generator().manual_seed(1)
    model = AutoencoderKLLTXVideo(**VAE_091)
    tensors = {key: value.detach() for key, value in model.state_dict().items()}
    for name, tensor in tensors.items():
        if name == "decoder.timestep_scale_multiplier":
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        size = tensor[0].numel() ** 0.5 if tensor.dim() > 3 or name.endswith("linear_1.weight") else 3.0
        tensors[name] = 1 + noise.abs() if name == "latents_std" else noise / size
    return tensors

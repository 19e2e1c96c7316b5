"""Text encoder, VAE and tokenizer for a transformer that came as a single file.

Looked for, in this order: where the user says, in the same file, beside it, in the folders of a ComfyUI tree around it,
in any other Wan model of this machine. A file is taken for what its tensors are and only where it fits the transformer;
of several that fit, the most exact one. Pickles (.pth) go by name, since telling one apart means reading it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vace.errors import InputError
from vace.models import file_kinds
from vace.models.embedded_tokenizer import embedded_tokenizer
from vace.models.file_kinds import listed, readable_shapes
from vace.models.layouts import Component, component, pickled_or_safe, tokenizer_folder
from vace.models.scaled_fp8 import FLOAT8
from vace.weight_files import PICKLED, find_files, open_weights

log = logging.getLogger("vace")

_TEXTS, _VAES, _TRANSFORMERS = ("text_encoders", "clip"), ("vae",), ("diffusion_models", "unet", "checkpoints")
_DEPTH = 4  # folders above the transformer in which a ComfyUI tree is looked for
_TOKENIZERS = ("tokenizer", "google/umt5-xxl", "umt5-xxl")  # by name: another model's would be read without complaint
_EXACTNESS = ("F64", "F32", "BF16", "F16", "", *FLOAT8)


class Search:
    """Where to look. fit: (text width, latent channels). others: folders of other models, asked for last."""

    def __init__(self, files: Sequence[Path], fit: tuple[int, int], others: Callable[[], Iterable[Path]]) -> None:
        self._files = tuple(files)
        self._width, self._channels = fit
        home = self._files[0].parent
        self._near = [home, *([home.parent] if home.name == "transformer" else [])]
        self._others = others

    def text_encoder(self) -> Component | None:
        return self._first("text encoder", self._near, _TEXTS, text_candidates, self._is_text)

    def vae(self) -> Component | None:
        return self._first("VAE", self._near, _VAES, vae_candidates, self._is_vae)

    def tokenizer(self, encoder: Component | None) -> Path | None:
        """The encoder's own, else one beside the transformer or the encoder, else of another Wan model."""
        return own_tokenizer(encoder) or next(
            (found for folder in (*self._near, *self._others()) if (found := named_tokenizer(folder))), None
        )

    def _first(self, what: str, near: list[Path], comfy: tuple[str, ...], candidates, fits) -> Component | None:
        bundled = [Component((file,)) for file in self._files if file.suffix == ".safetensors"]
        places = [*near, *_comfy_folders(near[0], comfy)]
        for found in (*bundled, *(one for place in _lazily(places, self._others) for one in candidates(place))):
            if fits(found):
                log.info("%s: %s", what, found.files[0])
                return found
        return None

    def _is_text(self, found: Component) -> bool:
        return _is_pickled(found) or file_kinds.text_width(_shapes(found), str(found.files[0])) == self._width

    def _is_vae(self, found: Component) -> bool:
        return _is_pickled(found) or file_kinds.vae_channels(_shapes(found), str(found.files[0])) == self._channels


def given_text_encoder(path: str) -> tuple[Component, Path | None]:
    """The text encoder at `--text_encoder_path`, a file or a folder, and the tokenizer there, if any. InputError."""
    place = Path(path).expanduser()
    found = [Component((place,))] if place.is_file() else list(text_candidates(place)) if place.is_dir() else []
    chosen = next((one for one in found if _is_pickled(one) or file_kinds.text_width(_shapes(one), path)), None)
    if chosen is None:
        raise InputError(f"--text_encoder_path {path}: {_instead(place, 'UMT5 text encoder')}")
    beside = tokenizer_folder(place) if place.is_dir() else None
    return chosen, own_tokenizer(chosen) or beside


def given_vae(path: str) -> Component:
    """The VAE at `--vae_path`, a file or a folder. Raises InputError."""
    place = Path(path).expanduser()
    found = [Component((place,))] if place.is_file() else list(vae_candidates(place)) if place.is_dir() else []
    chosen = next((one for one in found if _is_pickled(one) or file_kinds.vae_channels(_shapes(one), path)), None)
    if chosen is None:
        raise InputError(f"--vae_path {path}: {_instead(place, 'Wan2.1 VAE')}")
    return chosen


def text_candidates(folder: Path) -> Iterator[Component]:
    """What in a folder may be a text encoder: the original's name, diffusers' folder, then any file."""
    yield from _named(pickled_or_safe(folder, "models_t5_*"))
    for place in [folder / "text_encoder", *([folder] if folder.name == "text_encoder" else [])]:
        yield from _named(find_files(place, "model"), place / "config.json")
    yield from _by_content(folder)


def vae_candidates(folder: Path) -> Iterator[Component]:
    """What in a folder may be a VAE, likewise."""
    yield from _named(pickled_or_safe(folder, "Wan2.1_VAE"))
    for place in [folder / "vae", *([folder] if folder.name == "vae" else [])]:
        yield from _named(find_files(place, "diffusion_pytorch_model"), place / "config.json")
    yield from _by_content(folder)


def own_tokenizer(encoder: Component | None) -> Path | None:
    """The tokenizer within a text encoder's file, else one beside it."""
    if encoder is None:
        return None
    home = encoder.files[0].parent
    around = [home, *([home.parent] if home.name == "text_encoder" else [])]
    beside = next((found for at in around if (found := named_tokenizer(at))), None)
    return embedded_tokenizer(encoder.files[0]) or beside


def named_tokenizer(folder: Path) -> Path | None:
    """The folder below `folder` that is called as UMT5's tokenizer is and holds one."""
    return next((folder / name for name in _TOKENIZERS if tokenizer_folder(folder / name) == folder / name), None)


def _named(files: tuple[Path, ...], config: Path | None = None) -> list[Component]:
    found = component(files, config)
    return [found] if found else []


def _by_content(folder: Path) -> list[Component]:
    """Every safetensors file at the top of a folder, the most exact first."""
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file()) if folder.is_dir() else []
    return [Component((file,)) for file in sorted(files, key=_inexactness)]


def _inexactness(file: Path) -> int:
    """How far down _EXACTNESS the coarsest type of a file stands."""
    if not readable_shapes(file):
        return len(_EXACTNESS)
    return max(_EXACTNESS.index(dtype) for dtype in open_weights((file,)).dtypes.values())


def _comfy_folders(home: Path, names: tuple[str, ...]) -> list[Path]:
    """Folders of these names in the ComfyUI tree around `home`, and the folders within them."""
    home = home.resolve()
    inside = [folder for folder in (home, *home.parents[: _DEPTH - 1]) if folder.name in _TRANSFORMERS]
    found = [folder.parent / name for folder in inside for name in names if (folder.parent / name).is_dir()]
    return [place for folder in found for place in (folder, *sorted(one for one in folder.iterdir() if one.is_dir()))]


def _lazily(first: Iterable[Path], others: Callable[[], Iterable[Path]]) -> Iterator[Path]:
    yield from first
    yield from others()


def _is_pickled(found: Component) -> bool:
    return found.files[0].suffix in PICKLED


def _shapes(found: Component) -> file_kinds.Shapes:
    return {key: shape for file in found.files for key, shape in readable_shapes(file).items()}


def _instead(place: Path, what: str) -> str:
    """Why nothing at a place could be used."""
    if not place.exists():
        return "no such file or folder"
    if place.is_file():
        return f"no {what} in a layout that is known here; its tensors: {listed(file_kinds.shapes_in(place))}"
    return f"no {what} in this folder; give its file"

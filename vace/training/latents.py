"""Rows encoded once for all steps of a training: a folder of shards, made by `build` and read by `LatentRows`.

    build("vae", "rows", rows=10_000, workers=2)
    rows = LatentRows("rows")
    batch = rows.batch(rng, 32)                     32 rows of one shape
    nothing = rows.empty(batch["shape"])            the context where it is dropped

A row is encoded as the engine does it (`vace.conditioning.context.encode_context`), with the VAE over whole clips at
once (`quick_encode`). Row k comes from `make_row(seed * 1_000_000 + k)`. A folder holds

    rows.json                what the rows are made by, so that other ones are not mixed in
    rows-00000.safetensors   a shard: the arrays of each shape; prompts, tasks and order in its metadata
    empty.safetensors        of each size, the latents of a neutral video and of a white reference

Letters of shapes: R references, F = R + T' latent frames, h and w latent pixels (an eighth of the picture's).
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vace.errors import CheckpointError, InputError
from vace.media.files import replacing
from vace.training.rows import TASKS, Row, make_row

SIZES = {(64, 64): 0.45, (96, 64): 0.25, (64, 96): 0.10, (80, 64): 0.10, (112, 64): 0.10}  # (width, height): share
SEEDS_APART = 1_000_000  # from the rows of one seed to those of the next
SHARD = 64  # rows
FRAMES = 17
FORM = 2  # of the folder: another number is another layout
PARTS = {"target": np.float16, "context": np.float16, "mask": np.uint8, "things": np.uint8}


class Shape(NamedTuple):
    """What rows of one batch have in common. width, height: pixels. refs: how many references."""

    width: int
    height: int
    refs: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.refs}"


def build(
    vae_folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    rows: int,
    seed: int = 0,
    split: str = "train",
    frames: int = FRAMES,
    workers: int = 1,
    device: str = "cpu",
    shard: int = SHARD,
    progress: bool = True,
) -> LatentRows:
    """Encode `rows` rows into the folder `out`; shards that are there already are kept, so that it can be resumed.

    vae_folder: a VAE in the diffusers layout, or a checkpoint with one in vae/. frames: of a row, see `make_row`.
    workers: processes, each on one thread; 0: this one. device: where the VAE runs, of every worker. A folder may grow:
    `rows` larger than before adds shards.
    Raises CheckpointError for a VAE that cannot be read, InputError where `out` holds rows made otherwise.
    """
    from tqdm import tqdm

    folder, out = _vae_folder(vae_folder), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    facts = {"form": FORM, "seed": seed, "split": split, "shard": shard, "frames": frames, "vae": _fingerprint(folder),
             "tasks": {name: recipe.weight for name, recipe in TASKS.items()}}  # fmt: skip
    _claim(out, facts)
    spans = [(start, min(start + shard, rows)) for start in range(0, rows, shard)]
    todo = [span for span in spans if _rows_in(_shard_file(out, span[0] // shard)) < span[1] - span[0]]
    work = _Work(folder, out, seed, split, shard, device, frames)
    bar = tqdm(total=rows, unit="row", disable=None if progress else True, desc="rows")
    bar.update(rows - sum(stop - start for start, stop in todo))
    with bar:
        if not (out / "empty.safetensors").is_file():
            write_empty(load_vae(folder, device), out, frames)
        for count in _done(work, todo, workers):
            bar.update(count)
    return LatentRows(out)


class LatentRows:
    """The rows of a folder that `build` wrote, memory-mapped. Raises InputError where it holds none.

    shapes: {Shape: how many rows}. facts: what they are made by.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        files = sorted(self.folder.glob("rows-*.safetensors"))
        if not files:
            raise InputError(f"{self.folder} holds no encoded rows; make them: python scripts/train_tiny.py rows")
        self.facts = json.loads((self.folder / "rows.json").read_text(encoding="utf-8"))
        self._places: list[tuple[Shape, dict[str, np.ndarray], int]] = []  # of each row: where its arrays are
        self.prompts: list[str] = []
        self.tasks: list[str] = []
        for file in files:
            self._open(file)
        found: dict[Shape, list[int]] = {}
        for k, (shape, _, _) in enumerate(self._places):
            found.setdefault(shape, []).append(k)
        self._of_shape = {shape: np.array(rows) for shape, rows in sorted(found.items())}
        self.shapes = {shape: len(rows) for shape, rows in self._of_shape.items()}
        self._empty = _mapped(self.folder / "empty.safetensors")[0]

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, k: int) -> Shape:
        """The shape of row k."""
        return self._places[k][0]

    def rows_of(self, shape: Shape | None = None, task: str | None = None) -> np.ndarray:
        """The numbers of the rows of a shape and of a task, ascending; None: of any."""
        rows = np.arange(len(self)) if shape is None else self._of_shape.get(Shape(*shape), np.arange(0))
        return rows if task is None else rows[[self.tasks[k] == task for k in rows]]

    def batch(
        self, rng: np.random.Generator | None = None, count: int = 1, *, indices: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """`count` rows of one shape, drawn in proportion to its rows, none twice where there are enough; or named ones.

        "target" float16 [B,16,F,h,w], the references' latents in front; "context" float16 [B,32,F,h,w], inactive and
        reactive; "mask" uint8 [B,64,F,h,w], 255 times the folded mask; "things" uint8 [B,1,F,h,w], 255 times the share
        of each latent pixel that shows a thing, 0 in references; "prompts" and "tasks", lists; "refs" R; "shape".
        Raises InputError for named rows of several shapes.
        """
        if indices is None:
            shapes = list(self.shapes)
            shares = np.array(list(self.shapes.values()), float)
            rows = self._of_shape[shapes[int(rng.choice(len(shapes), p=shares / shares.sum()))]]
            indices = rng.choice(rows, count, replace=len(rows) < count)
        places = [self._places[int(k)] for k in indices]
        shape = places[0][0]
        if any(other != shape for other, _, _ in places):
            raise InputError(f"rows {list(indices)} are of several shapes: a batch takes one")
        made: dict[str, Any] = {name: np.stack([arrays[name][n] for _, arrays, n in places]) for name in PARTS}
        made["prompts"] = [self.prompts[int(k)] for k in indices]
        made["tasks"] = [self.tasks[int(k)] for k in indices]
        return made | {"refs": shape.refs, "shape": shape}

    def empty(self, shape: Shape) -> dict[str, np.ndarray]:
        """{"context" float16 [32,F,h,w], "mask" uint8 [64,F,h,w]} of a source that says nothing.

        A neutral video of which all is to be made, as for words alone; in front of it white pictures as references, R
        of them.
        """
        shape = Shape(*shape)
        neutral, white = (self._empty[f"{shape.width}x{shape.height}.{name}"] for name in ("neutral", "white"))
        pictures = np.repeat(np.concatenate([white, np.zeros_like(white)]), shape.refs, axis=1)
        context = np.concatenate([pictures, np.concatenate([neutral, neutral])], axis=1)
        mask = np.full((64, *context.shape[1:]), 255, np.uint8)
        mask[:, : shape.refs] = 0
        return {"context": context, "mask": mask}

    def _open(self, file: Path) -> None:
        arrays, metadata = _mapped(file)
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            shape, _, part = name.partition(".")
            groups.setdefault(shape, {})[part] = array
        for row in json.loads(metadata["rows"]):
            size, _, refs = row["shape"].partition("+")
            self._places.append((Shape(*map(int, size.split("x")), int(refs)), groups[row["shape"]], row["place"]))
            self.prompts.append(row["prompt"])
            self.tasks.append(row["task"])


# Encoding.


def load_vae(folder: str | os.PathLike, device: str = "cpu"):
    """The VAE of a folder in the diffusers layout, float32, not to be trained. Raises CheckpointError."""
    import torch
    from diffusers import AutoencoderKLWan

    folder = _vae_folder(folder)
    try:
        vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: no VAE can be read there ({error}); give a VAE's folder") from None
    return vae.to(device).eval().requires_grad_(False)


def encoder(vae: Any) -> Callable[[list], list]:
    """What `encode_context` takes: videos [3,t,H,W] -> normalised latents [16,t',h,w], float32, on the CPU."""
    import torch

    from vace.training.quick_encode import encode

    weight = vae.post_quant_conv.weight
    mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))

    def encoded(videos: list) -> list:
        return [(encode(vae, video.to(weight)).float().cpu() - mean) / std for video in videos]

    return encoded


def encode_row(encode: Callable[[list], list], row: Row, zeros: dict | None = None) -> dict[str, np.ndarray]:
    """One row's target, context, mask and things, see `LatentRows.batch` (without B). zeros: see `encode_context`."""
    import torch

    from vace.conditioning.context import encode_context
    from vace.conditioning.pixels import to_model_space

    context = encode_context(encode, row.frames, row.mask, row.refs, zeros)
    (target,) = encode([to_model_space(row.target)])
    pictures = context[:16, : len(row.refs)]  # the references' latents: the context already holds them
    target = torch.cat([pictures, target], dim=1)
    mask = context[32:].mul(255).round().byte()
    return {
        "target": target.half().numpy(),
        "context": context[:32].half().numpy(),
        "mask": mask.numpy(),
        "things": things_of(row.clip.masks.any(axis=1), len(row.refs)),
    }


def things_of(masks: np.ndarray, refs: int) -> np.ndarray:
    """Masks bool [T,H,W] of what is a thing, as 255 times its share of each latent pixel: uint8 [1,R+T',h,w].

    The first frame is a latent frame of its own, then four make one (the stride of Wan's VAE); references show none.
    """
    from vace.conditioning.context import CELL

    shares = masks.reshape(len(masks), masks.shape[1] // CELL, CELL, masks.shape[2] // CELL, CELL).mean(axis=(2, 4))
    later = shares[1:].reshape(-1, 4, *shares.shape[1:]).mean(axis=1)
    latent = np.concatenate([np.zeros((refs, *shares.shape[1:])), shares[:1], later])
    return np.rint(255 * latent[None]).astype(np.uint8)


def size_of(seed: int) -> tuple[int, int]:
    """The size, (width, height), of the row made from a seed."""
    shares = np.array(list(SIZES.values()))
    return list(SIZES)[int(np.random.default_rng([seed, 7]).choice(len(SIZES), p=shares / shares.sum()))]


class _Work:
    """What a worker does: whole shards. Made once in each process."""

    def __init__(self, folder: Path, out: Path, seed: int, split: str, shard: int, device: str, frames: int):
        self.folder, self.out, self.seed, self.split = folder, out, seed, split
        self.shard, self.device, self.frames = shard, device, frames

    def __call__(self, span: tuple[int, int]) -> int:
        vae = _vae_of(self.folder, self.device)
        encode, zeros, groups, order = encoder(vae), {}, {}, []
        for k in range(*span):
            seed = self.seed * SEEDS_APART + k
            row = make_row(seed, split=self.split, size=size_of(seed), frames=self.frames)
            shape = str(Shape(row.target.shape[2], row.target.shape[1], len(row.refs)))
            made = groups.setdefault(shape, [])
            order.append({"shape": shape, "place": len(made), "prompt": row.prompt, "task": row.task})
            made.append(encode_row(encode, row, zeros))
        arrays = {f"{shape}.{part}": np.stack([one[part] for one in made])
                  for shape, made in groups.items() for part in PARTS}  # fmt: skip
        _write(
            _shard_file(self.out, span[0] // self.shard), arrays, {"rows": json.dumps(order), "count": str(len(order))}
        )
        return len(order)


@functools.lru_cache(maxsize=1)
def _vae_of(folder: Path, device: str):
    """One VAE in each process."""
    return load_vae(folder, device)


def _done(work: _Work, todo: list[tuple[int, int]], workers: int) -> Iterator[int]:
    """Rows done, a shard at a time, in any order."""
    if not workers or not todo:
        yield from map(work, todo)
        return
    context = multiprocessing.get_context("spawn")  # OpenCV's and torch's threads do not survive a fork
    with context.Pool(min(workers, len(todo)), _start_worker) as pool:  # leaving it ends the workers
        yield from pool.imap_unordered(work, todo)


def _start_worker() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the first process ends the others


def write_empty(vae: Any, out: Path, frames: int = FRAMES) -> None:
    """The latents of a neutral video and of a white reference, of each of SIZES."""
    import torch

    encode, arrays = encoder(vae), {}
    for width, height in SIZES:
        videos = {"neutral": torch.zeros(3, frames, height, width), "white": torch.ones(3, 1, height, width)}
        for name, video in videos.items():
            arrays[f"{width}x{height}.{name}"] = encode([video])[0].half().numpy()
    _write(out / "empty.safetensors", arrays, {})


# Files.


def _vae_folder(folder: str | os.PathLike) -> Path:
    folder = Path(folder)
    return folder / "vae" if (folder / "vae" / "config.json").is_file() else folder


def _fingerprint(folder: Path) -> str:
    """A hash of a VAE's files. Raises CheckpointError where it has none."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])
    if not any(file.suffix == ".safetensors" for file in files):
        raise CheckpointError(f"{folder}: no VAE is there; give a folder with config.json and its .safetensors")
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def _claim(out: Path, facts: dict) -> None:
    """Say in `out` what its rows are made by. Raises InputError where it holds others."""
    path = out / "rows.json"
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        if different := sorted(key for key in facts if old.get(key) != facts[key]):
            raise InputError(
                f"{out} holds rows made otherwise ({', '.join(different)}): remove it or give another folder"
            )
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _shard_file(out: Path, number: int) -> Path:
    return out / f"rows-{number:05d}.safetensors"


def _write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # `save` takes memory as it lies
    with replacing(path) as temporary:
        temporary.write_bytes(save(whole, metadata=metadata or None))


def _header(path: Path) -> tuple[dict, int]:
    """The header of a safetensors file, and where its arrays begin."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _rows_in(path: Path) -> int:
    return int(_header(path)[0]["__metadata__"]["count"]) if path.is_file() else 0


def _mapped(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, memory-mapped, and its metadata."""
    header, start = _header(path)
    metadata = header.pop("__metadata__", {})
    data = np.memmap(path, np.uint8, mode="r", offset=0)[start:]
    kinds = {"F16": np.float16, "U8": np.uint8}
    arrays = {
        name: data[slice(*entry["data_offsets"])].view(kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }
    return arrays, metadata

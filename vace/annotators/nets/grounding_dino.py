"""Grounding DINO: things found in a picture by their names.

Liu et al. 2023, "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection". The network
is transformers' `GroundingDinoForObjectDetection`; what stands before and after it is the original's
(IDEA-Research/GroundingDINO's inference, as vace/annotators/gdino.py calls it).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vace.annotators.nets.prompts import Detection
from vace.annotators.networks import Weights
from vace.errors import InputError, MissingWeights

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vace")

SHORT_SIDE, LONG_SIDE = 800, 1333
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
BOX_SCORE, WORD_SCORE = 0.25, 0.2  # above which a box counts, and a word belongs to it
OVERLAP = 0.5  # above which the less sure of two boxes goes
FINEST_STRIDE = 8  # of the maps that proposals are taken from; each next one has twice the stride
TEXT_FOLDER = "bert-base-uncased"  # beside the original's file
UNUSED = (r"relative_position_index$", r"position_ids$", r"\.pooler\.")  # in folders of older transformers


def fitted_size(width: int, height: int) -> tuple[int, int]:
    """The width and height at which a picture is looked at: short side 800, or long side 1333 where it would be longer.

    Rounded as in DETR's transforms, which the original uses: the side that is set is rounded, the other cut.
    """
    short, long = min(width, height), max(width, height)
    side = SHORT_SIDE if long / short * SHORT_SIDE <= LONG_SIDE else max(1, round(LONG_SIDE * short / long))
    if short == side:
        return width, height
    return (side, int(side * height / width)) if width < height else (int(side * width / height), side)


def prepared(image: np.ndarray) -> np.ndarray:
    """RGB uint8 [H,W,3] -> float32 [3,h,w] of the `fitted_size`, bilinear (Pillow), normalised by ImageNet's."""
    from PIL import Image

    height, width = image.shape[:2]
    size = fitted_size(width, height)
    picture = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float32) / np.float32(255)
    return np.ascontiguousarray(((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1))


def sentence(caption: str) -> str:
    """`caption` as the network was taught to read: lower case, one full stop at the end."""
    text = caption.lower().strip()
    return text if text.endswith(".") else text + "."


def corners(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes (centre x, centre y, width, height) in 0..1, float32 [n,4], as (x1, y1, x2, y2) in pixels."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    scale = np.float32([width, height, width, height])
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32) * scale


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float = OVERLAP) -> list[int]:
    """The boxes (x1, y1, x2, y2), float32 [n,4], that stay, best first: none covers a surer one by more than `overlap`.

    That is intersection over union, areas without a pixel added (torchvision's nms).
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    areas, left = (x2 - x1) * (y2 - y1), np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        wide = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left])
        high = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        with np.errstate(invalid="ignore"):  # two boxes without area overlap by nothing
            left = left[~(shared / (areas[best] + areas[left] - shared) > overlap)]
    return kept


def best_first(boxes: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> list[Detection]:
    """Detections without those that a surer one covers, best first, each with its own name.

    The original leaves captions' names in the order they had before.
    """
    return [Detection(tuple(boxes[i].tolist()), float(scores[i]), names[i]) for i in suppress(boxes, scores)]


def class_of(phrase: str, classes: Sequence[str]) -> int | None:
    """The index of the first of `classes` that is part of `phrase`, None where none is (the original fails there)."""
    return next((i for i, name in enumerate(classes) if name.lower().strip() in phrase), None)


class GroundingDino:
    """Grounding DINO with trained weights: the original's file, a BERT beside it, or a folder in transformers' layout.

    device: a torch.device. batch_size: not used, pictures come one by one. Runs in float32, as the original.
    """

    def __init__(self, weights: Weights, *, device: torch.device, batch_size: int | None = None) -> None:
        network, self.tokenizer = load(weights)
        self.network, self.device = network.to(device), device

    def find(
        self, image: np.ndarray, label: Sequence[str] | None = None, caption: str | None = None
    ) -> list[Detection]:
        """What in `image` (RGB uint8 [H,W,3]) answers to one of the names `label`, else to `caption`: best first.

        A detection is called by the name out of `label`, or by the words of `caption`, that it answers to. Boxes may
        reach a little outside the picture. Nothing found: an empty list. Raises InputError for no words at all, and for
        a picture too narrow to look at.
        """
        names = [label] if isinstance(label, str) else list(label or [])
        classes = [" ".join(name.replace(".", " ").split()) for name in names]  # full stops separate the names
        if classes and not all(classes):
            raise InputError("--label: an empty name; give what to look for, separated by commas: --label cat,dog")
        text = sentence(". ".join(classes) if classes else caption or "")
        if not text.strip(". "):
            raise InputError("--label or --caption: no words to look for; give one: --label cat")
        words = self._words(text)
        scores, boxes = self._run(image, words)
        sure = scores.max(axis=1) > BOX_SCORE
        scores, boxes = scores[sure], corners(boxes[sure], image.shape[1], image.shape[0])
        answers = [answer(row, words, classes, self.tokenizer) for row in scores]
        called = [found if isinstance(found, str) else names[found] for found in answers]
        return best_first(boxes, scores.max(axis=1), called)

    def _words(self, text: str) -> list[int]:
        """The tokens of `text`, the first and the last of which enclose it."""
        words, limit = self.tokenizer(text)["input_ids"], self.network.config.max_text_len
        if len(words) > limit:
            log.warning("--label or --caption: %d words and signs, only the first %d are read", len(words), limit)
        return words[:limit]

    def _run(self, image: np.ndarray, words: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 [n,words] in 0..1 of every proposal for every token, and their boxes [n,4] for `corners`."""
        import torch

        pixels = prepared(image)
        self._check_places(pixels, image)
        tokens = torch.tensor([words], device=self.device)
        with torch.inference_mode():
            found = self.network(pixel_values=torch.from_numpy(pixels)[None].to(self.device), input_ids=tokens)
            scores = found.logits[0, :, : len(words)].sigmoid().float()
        return scores.cpu().numpy(), found.pred_boxes[0].float().cpu().numpy()

    def _check_places(self, pixels: np.ndarray, image: np.ndarray) -> None:
        """The network looks closer at its best places: there must be enough of them."""
        _, height, width = pixels.shape
        strides = [FINEST_STRIDE << level for level in range(self.network.config.num_feature_levels)]
        if sum(-(-height // stride) * -(-width // stride) for stride in strides) < self.network.config.num_queries:
            raise InputError(
                f"a picture of {image.shape[1]}x{image.shape[0]} is too narrow to find things in; crop it to less than "
                "30 times as long as wide"
            )


def answer(row: np.ndarray, words: Sequence[int], classes: Sequence[str], tokenizer: Any) -> int | str:
    """What a box whose tokens score `row` answers to: the index of one of `classes`; without any, the words themselves.

    words: the text's tokens, which score as `row` says. Where no class is whole among the words said, it is that of the
    best token (the original fails there); where none is said, the whole text.
    """
    inside = np.arange(1, len(words) - 1)  # without the signs that enclose the text
    said = tokenizer.decode([words[i] for i in inside if row[i] > WORD_SCORE])
    phrase = " ".join(said.replace(".", " ").split())
    if not classes:
        return phrase or tokenizer.decode(words[1:-1]).rstrip(".")
    found = class_of(phrase, classes)
    if found is not None:
        return found
    is_stop = np.asarray([words[i] for i in inside]) == tokenizer.convert_tokens_to_ids(".")
    best = int(np.argmax(np.where(is_stop, -1, row[inside])))
    return min(int(is_stop[:best].sum()), len(classes) - 1)  # a full stop ends each class


def load(weights: Weights) -> tuple[Any, Any]:
    """The network with `weights`, as float32 on the CPU, and its tokenizer.

    Raises CheckpointError for weights that do not fit, MissingWeights without the text encoder's own files.
    """
    from transformers import BertConfig, GroundingDinoForObjectDetection

    from vace.annotators.nets import grounding_dino_keys, loading_hf

    if weights.folder is not None:
        network = loading_hf.from_folder(GroundingDinoForObjectDetection, weights.folder, UNUSED)
        return network, loading_hf.tokenizer_of(weights.folder)
    path = weights.files[0]
    folder = text_folder(path)
    with loading_hf.quiet(), loading_hf.readable(str(folder)):
        text_config = BertConfig.from_pretrained(str(folder), local_files_only=True)
    with loading_hf.quiet():
        config, tensors = grounding_dino_keys.read(path, text_config)
    network = loading_hf.from_tensors(GroundingDinoForObjectDetection, config, tensors, str(path))
    return network, loading_hf.tokenizer_of(folder)


def text_folder(path: Path) -> Path:
    """The folder beside the original's file with the text encoder's config and vocabulary. Raises MissingWeights."""
    folder = path.parent / TEXT_FOLDER
    has_words = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if not ((folder / "config.json").is_file() and has_words):
        raise MissingWeights(
            f"{folder}: config.json and tokenizer.json (or vocab.txt) of {TEXT_FOLDER} are needed beside {path.name}; "
            "put google-bert/bert-base-uncased's there"
        )
    return folder

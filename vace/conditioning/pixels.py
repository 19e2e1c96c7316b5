"""Pixels to model space: source frames, masks and reference images at the size the model works in.

Letters: T frames, H and W source pixels, h and w model pixels. Source pixels are uint8 0..255; model space is float32
-1..1, where 0.0 is neutral. All of it runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F

from vace.errors import InputError

CHUNK = 16  # frames resized at a time


def resize_crop(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cover width x height and cut the centre: uint8 [T,H,W,3] -> uint8 [T,h,w,3].

    Bicubic with antialias on the uint8 values themselves: rounding after a float resize is up to 5 levels away from
    what the models were trained on. Frames already of that size come back unchanged (the same array).
    """
    count, source_height, source_width = frames.shape[:3]
    if (source_width, source_height) == (width, height):
        return frames
    out = np.empty((count, height, width, frames.shape[3]), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        out[start : start + CHUNK] = _resize_crop_chunk(frames[start : start + CHUNK], width, height)
    return out


def resize_crop_mask(masks: np.ndarray, width: int, height: int) -> np.ndarray:
    """`resize_crop` for masks: uint8 [T,H,W] -> uint8 [T,h,w], through RGB as the original reads them."""
    if masks.shape[1:] == (height, width):
        return masks
    out = np.empty((len(masks), height, width), dtype=np.uint8)
    for start in range(0, len(masks), CHUNK):
        chunk = np.repeat(masks[start : start + CHUNK, :, :, None], 3, axis=3)
        out[start : start + CHUNK] = _resize_crop_chunk(chunk, width, height)[..., 0]
    return out


def to_model_space(frames: np.ndarray) -> torch.Tensor:
    """uint8 [T,h,w,3] -> float32 [3,T,h,w] in -1..1 (x / 127.5 - 1)."""
    tensor = torch.from_numpy(np.ascontiguousarray(frames))
    video = torch.empty(tensor.shape[3], *tensor.shape[:3], dtype=torch.float32)
    return video.copy_(tensor.permute(3, 0, 1, 2)).div_(127.5).sub_(1.0)


def to_pixels(video: torch.Tensor) -> np.ndarray:
    """float [3,T,h,w] in -1..1 -> uint8 [T,h,w,3]: clamped, rounded to the nearest level."""
    count = video.shape[1]
    out = np.empty((count, *video.shape[2:], video.shape[0]), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        levels = video[:, start : start + CHUNK].float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round()
        out[start : start + CHUNK] = levels.to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
    return out


def mask_to_unit(masks: np.ndarray) -> torch.Tensor:
    """uint8 [T,h,w], 255 = generate -> float32 [1,T,h,w] in 0..1, by way of model space as the original does."""
    tensor = torch.from_numpy(np.ascontiguousarray(masks)).float()
    return tensor.div_(127.5).sub_(1.0).add_(1.0).div_(2.0).clamp_(0.0, 1.0).unsqueeze(0)


def video_from_chunks(chunks: Iterable[np.ndarray], width: int, height: int, count: int) -> torch.Tensor:
    """A clip read a chunk at a time (uint8 [t,H,W,3]) -> float32 [3,count,h,w] in -1..1, resized and cropped.

    The last frame is repeated up to `count`; nothing is read beyond it. Raises InputError where no frame comes.
    """
    video = torch.empty(3, count, height, width, dtype=torch.float32)
    return _fill(video, chunks, lambda chunk: to_model_space(resize_crop(chunk, width, height)), "src_video")


def mask_from_chunks(chunks: Iterable[np.ndarray], width: int, height: int, count: int) -> torch.Tensor:
    """`video_from_chunks` for masks: uint8 [t,H,W] -> float32 [1,count,h,w] in 0..1; a still mask serves all frames."""
    mask = torch.empty(1, count, height, width, dtype=torch.float32)
    return _fill(mask, chunks, lambda chunk: mask_to_unit(resize_crop_mask(chunk, width, height)), "src_mask")


def letterbox(image: np.ndarray, width: int, height: int) -> torch.Tensor:
    """A reference image whole and centred on a white canvas: uint8 [H,W,3] -> float32 [3,1,h,w] in -1..1.

    Bilinear without antialias and whole-pixel sizes rounded down, as the models were trained with; an image that has
    the canvas size already is not touched. Raises InputError for an image without pixels.
    """
    source_height, source_width = image.shape[:2]
    if source_height < 1 or source_width < 1:
        raise InputError(f"src_ref_images holds an image of {source_width}x{source_height} pixels: give a real one")
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).contiguous().float()
    return on_canvas(tensor.div_(255.0).sub_(0.5).div_(0.5).unsqueeze(1), width, height)


def on_canvas(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """`letterbox` of an image in model space: float32 [3,1,H,W] -> [3,1,h,w], both in -1..1."""
    source_height, source_width = image.shape[2:]
    if (source_width, source_height) == (width, height):
        return image
    scale = min(height / source_height, width / source_width)
    rows, columns = max(1, int(source_height * scale)), max(1, int(source_width * scale))
    picture = F.interpolate(image.transpose(0, 1), size=(rows, columns), mode="bilinear", align_corners=False)
    canvas = torch.ones(3, 1, height, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    canvas[:, :, top : top + rows, left : left + columns] = picture.transpose(0, 1)
    return canvas


def _fill(
    video: torch.Tensor, chunks: Iterable[np.ndarray], convert: Callable[[np.ndarray], torch.Tensor], name: str
) -> torch.Tensor:
    """`video` [C,count,h,w] filled with converted chunks, its end with the last frame; `name` for the error."""
    filled, count = 0, video.shape[1]
    for chunk in chunks:
        part = convert(chunk[: count - filled])
        video[:, filled : filled + part.shape[1]] = part
        filled += part.shape[1]
        if filled == count:
            return video
    if filled == 0:
        raise InputError(f"{name} holds no frames: give one with at least one")
    video[:, filled:] = video[:, filled - 1 : filled]
    return video


def _resize_crop_chunk(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """`resize_crop` of a few frames at once, uint8 [t,H,W,3] -> uint8 [t,h,w,3]."""
    source_height, source_width = frames.shape[1:3]
    scale = max(width / source_width, height / source_height)
    rows, columns = round(scale * source_height), round(scale * source_width)
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    pixels = F.interpolate(pixels, size=(rows, columns), mode="bicubic", antialias=True)
    top, left = (rows - height) // 2, (columns - width) // 2
    return pixels[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1).numpy()

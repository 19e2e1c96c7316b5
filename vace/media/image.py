"""Single images: read as RGB or as a mask, written whole or not at all.

Every picture is turned as its EXIF orientation says. Sixteen-bit values are cut to their high byte, as Pillow does
for RGB files, so gray and colour files agree.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vace.errors import InputError, OutputError
from vace.media.files import existing_file, replacing

# Only these decoders may look at a file: others claim videos and text files for themselves.
FORMATS = ("PNG", "JPEG", "JPEG2000", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif", ".jp2")
EXPECTED = "an image (png, jpg, webp, bmp, tiff or gif)"


def _open(path: Path) -> Image.Image:
    """The first picture in the file, decoded and turned upright, in its own mode."""
    try:
        picture = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as cause:
        raise InputError(f"{path}: is too large to open safely ({cause}); reduce it first") from cause
    except (OSError, ValueError, SyntaxError) as cause:
        raise InputError(f"{path}: is not {EXPECTED}; convert it or check the path") from cause
    try:
        with picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, EOFError) as cause:
        raise InputError(f"{path}: is damaged or cut short ({cause}); copy or download it again") from cause


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Sixteen-bit and float gray as L; every other picture unchanged."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        values = np.asarray(picture).astype(np.int64)
        return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    if picture.mode == "F":  # float TIFF: 0..1 by custom, else 0..255
        values = np.nan_to_num(np.asarray(picture))
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
    return picture


def has_alpha(picture: Image.Image) -> bool:
    """True when the picture carries transparency in a channel or in its palette."""
    return picture.has_transparency_data


def flatten(rgba: np.ndarray, background: int) -> np.ndarray:
    """RGBA uint8 [...,4] over a gray level 0..255 -> RGB uint8 [...,3], rounded to nearest."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blend = rgba[..., :3].astype(np.uint16) * alpha + np.uint16(background) * (255 - alpha)
    return ((blend + 127) // 255).astype(np.uint8)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """RGB uint8 [H,W,3] of an image file; transparent parts become white, animations give their first picture.

    Raises InputError for a missing, empty, foreign or damaged file and for a folder.
    """
    picture = _to_8_bit(_open(existing_file(path, EXPECTED)))
    if has_alpha(picture):
        return flatten(np.asarray(picture.convert("RGBA")), 255)
    return np.array(picture.convert("RGB"))


def read_mask_image(path: str | os.PathLike) -> np.ndarray:
    """Mask uint8 [H,W] of an image file, 255 = generate, 0 = keep, values between kept as stored.

    - gray or colour: its luma (L = 0.299 R + 0.587 G + 0.114 B);
    - with transparency over one single colour: the alpha channel is the mask (painted in an editor's layer);
    - with transparency otherwise: luma over black, so what is transparent is kept;
    - a palette with colours (labels, as segmentation sets store them): every label but black is 255;
    - only 0 and 1 stored: 1 means 255.

    Raises InputError as `read_image` does.
    """
    picture = _to_8_bit(_open(existing_file(path, EXPECTED)))
    if has_alpha(picture):
        mask = _mask_from_rgba(np.asarray(picture.convert("RGBA")))
    elif picture.mode == "P":
        mask = _mask_from_labels(np.asarray(picture.convert("RGB")))
    else:
        mask = np.array(picture.convert("L"))
    return mask * np.uint8(255) if mask.max(initial=0) == 1 else mask


def _mask_from_rgba(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3]
    seen = rgba[alpha > 0][:, :3]
    painted = alpha.min() < alpha.max() and (seen == seen[:1]).all()
    if painted:
        return alpha.copy()
    return np.array(Image.fromarray(flatten(rgba, 0)).convert("L"))


def _mask_from_labels(rgb: np.ndarray) -> np.ndarray:
    is_gray = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all()
    if is_gray:
        return rgb[..., 0].copy()
    return np.where(rgb.any(axis=-1), np.uint8(255), np.uint8(0))


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) as shown, from the header alone. Raises InputError as `read_image` does, damage aside."""
    path = existing_file(path, EXPECTED)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5  # orientations 5-8 swap the sides
            width, height = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as cause:
        raise InputError(f"{path}: is not {EXPECTED}; convert it or check the path") from cause
    return (height, width) if turned else (width, height)


def is_image(path: str | os.PathLike) -> bool:
    """True when the file's first bytes are those of an image format this module reads (animations too)."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def encode_png(path: Path, array: np.ndarray) -> None:
    """Write RGB uint8 [H,W,3] or gray uint8 [H,W] as PNG straight to `path`; OSError passes through."""
    import imageio.v3 as iio

    iio.imwrite(path, array, plugin="pillow", extension=".png", compress_level=1)


def write_image(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write RGB uint8 [H,W,3] or gray uint8 [H,W] as PNG, whole or not at all.

    Raises OutputError when the file cannot be written or `array` is not such a picture.
    """
    path = Path(path)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        found = f"{array.dtype} {array.shape}"
        raise OutputError(f"{path}: cannot write {found} as an image; expected uint8 [H,W,3] or [H,W]")
    with replacing(path) as temporary:
        encode_png(temporary, np.ascontiguousarray(array))

"""From denoised latents to the file of a video: what a generation and `--decode` share, so that both give its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vace.latents_file import Header
from vace.places import KINDS_OF

if TYPE_CHECKING:
    import torch


def write_video(
    engine: Any, latents: torch.Tensor, header: Header, path: Path, sound_from: str | Path | None = None
) -> None:
    """Decode latents [C, refs + T, h, w] and write each piece as it comes; under `path` is all of the video or nothing.

    sound_from: the video whose sound the header speaks of; None leaves it out. Raises what the engine and the writer
    raise.
    """
    from vace.conditioning.pixels import to_pixels
    from vace.media.video import VideoWriter

    sound = (sound_from, *header.sound) if header.sound and sound_from else None
    kind = KINDS_OF[header.out_format]
    with VideoWriter(path, header.fps, kind=kind, audio_from=sound, comment=header.comment) as writer:
        left = header.frames
        for chunk in engine.decode_chunks(latents, header.refs, **header.decoding):
            if left > 0:
                writer.write(to_pixels(chunk[:, :left]))
            left -= chunk.shape[1]


def video_record(record: dict, header: Header) -> dict:
    """The manifest's entry of a video. record: its name, sha256 and bytes."""
    shape = {name: getattr(header, name) for name in ("seed", "width", "height", "frames", "fps")}
    return {"role": "out_video", **record, **shape}

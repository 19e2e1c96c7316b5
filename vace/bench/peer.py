"""The peer of `vace.bench.media`: `python -m vace.bench.peer SOURCE FILE...`, nothing but PyAV in one plain loop.

Only the settings of the encoders are taken from vace. The last line printed is "untimed WALL CPU": the seconds spent on
fetching the frames to encode, which its caller subtracts.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

import av

from vace.bench.media import FPS, STRETCH
from vace.media.writer import BT709, KINDS, LIMITED_RANGE


def stretch_of(path: str) -> list[av.VideoFrame]:
    """Up to STRETCH consecutive frames from the middle of a file, as rgb24."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        first = max(0, (stream.frames - STRETCH) // 2)
        picked = itertools.islice(container.decode(stream), first, first + STRETCH)
        return [frame.reformat(format="rgb24") for frame in picked]


def main(source: str, files: list[str]) -> None:
    begun = time.perf_counter(), time.process_time()
    stretches = [stretch_of(file) for file in files]
    untimed = time.perf_counter() - begun[0], time.process_time() - begun[1]
    outputs = []
    for file, stretch in zip(files, stretches, strict=True):
        name = Path(file).name
        kind = KINDS["preview" if name.startswith("preview") else "exact"]
        container = av.open(f"{file}.peer", "w", format="mp4", options={"movflags": "+faststart"})
        stream = container.add_stream(kind.codec, rate=FPS, options=kind.encoder_options())
        stream.width, stream.height, stream.pix_fmt = stretch[0].width, stretch[0].height, kind.pix_fmt
        outputs.append((container, stream, kind, stretch + stretch[-2:0:-1]))
    with av.open(source) as clip:
        video = clip.streams.video[0]
        video.thread_type = "AUTO"
        for index, frame in enumerate(clip.decode(video)):
            frame.to_ndarray(format="rgb24")
            for container, stream, kind, pictures in outputs:
                picture = pictures[index % len(pictures)]
                if kind.is_subsampled:
                    picture = picture.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
                picture.pts, picture.time_base = index, 1 / stream.average_rate
                container.mux(stream.encode(picture))
    for container, stream, _, _ in outputs:
        container.mux(stream.encode(None))
        container.close()
    for file in files:
        os.remove(f"{file}.peer")
    sys.stdout.write(f"untimed {untimed[0]} {untimed[1]}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""Denoised latents on disk for as long as their video is not: kept before decoding, let go when the video is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vace.errors import InputError, OutputError, is_out_of_memory
from vace.latents_file import ROLE, Header, how_to_decode, read_latents, save_latents
from vace.places import Places, output_name, output_record

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vace")


class KeptLatents:
    """Those of one run. outputs: the records of its manifest. tell: writes the manifest of a run that is not whole.

    stay: whether latents stay beside their finished video.
    """

    def __init__(self, places: Places, outputs: list[dict], tell: Callable[[], object], stay: bool) -> None:
        self.places, self.outputs, self.tell, self.stay = places, outputs, tell, stay
        self._spent: list[Path] = []  # go when the manifest no longer names them

    @property
    def folder(self) -> Path:
        return self.places.out.path

    def keep(self, count: int, latents: torch.Tensor, header: Header) -> None:
        """Have the latents of video number `count` on disk, and told of.

        A disk that refuses them does not end the run: there may be room for the video all the same.
        """
        path = self.places.latents(count)
        try:
            save_latents(path, latents, header)
            video = output_name(self.folder, self.places.path(count))
            record = {"role": ROLE, **output_record(self.folder, path), "seed": header.seed, "video": video}
            self.outputs.append(record | ({"kept": True} if self.stay else {}))
            self.tell()
        except OutputError as error:
            log.warning("the denoised latents may not survive a failure: %s", error)

    def again(self, record: dict | None, header: Header) -> torch.Tensor | None:
        """The latents that an earlier run of the same job has left, when they are those of `header`; else None."""
        if record is None:
            return None
        try:
            latents, found = read_latents(self.folder / record["name"])
        except InputError:
            return None
        if found != header:
            return None
        log.info("seed %d is denoised already", header.seed)
        self.outputs.append(record)
        return latents

    @contextmanager
    def told_on_failure(self, header: Header) -> Iterator[None]:
        """Say what to do with the latents when the block, which decodes them, fails."""
        try:
            yield
        except BaseException as error:
            if self._records(header.seed):  # an error to the log, so that --quiet does not swallow hours of work
                less = " --memory tiled" if header.base == "wan" and is_out_of_memory(error) else ""
                log.error("what was denoised is kept; to make the video of it: %s%s",
                          how_to_decode(header.base, self.folder), less)  # fmt: skip
            raise

    def let_go(self, seed: int) -> None:
        """Latents whose video is there go, unless they shall stay; `sweep` removes the file."""
        for record in self._records(seed) if not self.stay else []:
            self.outputs.remove(record)
            self._spent.append(self.folder / record["name"])

    def sweep(self) -> None:
        """Remove what was let go: after the manifest was written, so that it never names what is not there."""
        with suppress(OSError):
            for path in self._spent:
                path.unlink(missing_ok=True)

    def _records(self, seed: int) -> list[dict]:
        return [record for record in self.outputs if record["role"] == ROLE and record["seed"] == seed]

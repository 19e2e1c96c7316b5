"""What stays loaded between jobs: the last engine and the last networks, for as long as the next job wants the same."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from vace.annotators.networks import Networks
    from vace.contexts import Contexts
    from vace.job import Job
    from vace.speed.parallel_launch import Team

log = logging.getLogger("vace")


def load_engine(job: Job, device: torch.device, team: Team | None = None) -> Any:
    """An engine for `job`, its weights read when they are first used. team: the processes that share it."""
    settings = job.settings
    return job.base.module("engine").load_engine(
        job.checkpoint, device, settings.dtype, settings.offload_model, settings.t5_cpu, job.checked,
        loras=job.loras, quantize=job.quantize, **_of_engine(job), **({"team": team} if team else {}),
    )  # fmt: skip


def _of_engine(job: Job) -> dict[str, Any]:
    """The settings that an engine is made with, rather than asked with."""
    found = {name: job.settings.options[name] for name in job.base.made_with}
    if found.pop("memory", None) is not None:
        found["plan"] = job.plan
    return found


class Warm:
    """One engine and one set of networks at a time: two large models would not fit beside each other.

    team: the processes that share the engine; they are told when it is time to look for the weights.
    """

    def __init__(self, team: Team | None = None) -> None:
        self._team = team
        self._engine: tuple[tuple, Any] | None = None
        self._networks: tuple[tuple, Networks] | None = None
        self._contexts: Contexts | None = None  # of the engine

    def engine(self, job: Job, device: torch.device) -> Any:
        """The engine of the last job where this one wants the same, else a new one, the old one's memory freed."""
        settings = job.settings
        key = (job.fingerprint, job.base.name, str(device), settings.dtype, settings.offload_model, settings.t5_cpu,
               *_of_engine(job).values())  # fmt: skip
        if self._engine is None or self._engine[0] != key:
            if self._engine is not None:
                self._engine[1].release()
            self._contexts = None
            if self._team is not None and self._engine is None:
                self._team.send("job")
            self._engine = (key, load_engine(job, device, self._team))
        else:
            log.debug("the model is loaded already")
        return self._engine[1]

    def encode_context(self, engine: Any, *given: Any) -> Any:
        """`engine.encode_context` of frames, mask and references, unless it made the same of them before."""
        if self._engine is None or self._engine[1] is not engine:
            return engine.encode_context(*given)
        if self._contexts is None:
            from vace.contexts import Contexts

            self._contexts = Contexts()
        return self._contexts.encoded(engine, *given)

    def networks(self, **chosen) -> Networks:
        """Likewise the networks that annotators ask; chosen: as for `vace.preprocess.open_networks`."""
        from vace.preprocess import open_networks

        key = tuple(sorted(chosen.items(), key=lambda item: item[0]))
        if self._networks is None or self._networks[0] != key:
            self._networks = (key, open_networks(**chosen))
        return self._networks[1]

    def release(self) -> None:
        """Free what is held."""
        if self._engine is not None:
            self._engine[1].release()
        self._engine = self._networks = self._contexts = None

"""One command over several processes that torchrun started: process 0 does it, the others compute their share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vace.errors import InputError
from vace.flags import WAN, flags_for
from vace.settings import ONE_PROCESS_FLAGS as ALONE

if TYPE_CHECKING:
    from vace.speed.parallel_launch import Layout, Team
    from vace.warm import Warm

log = logging.getLogger("vace")

STARTED = "TORCHELASTIC_RUN_ID"  # what torchrun sets
# Of the flags of `vace wan`, those that the others need nothing of: materials, places, talk.
_OF_LEADER = ("prompt", "src_video", "src_mask", "src_ref_images", "save_dir", "save_file", "save_latents",
              "from", "quiet", "verbose")  # fmt: skip


def over_processes(given: Mapping[str, Any], make: Callable[[dict, Warm | None], dict]) -> dict | None:
    """The answer of make(flags, warm), where `warm` shares its engine with the processes there are; None for followers.

    given: the flags of a generation by Wan. Without a flag of ALONE, and not under torchrun, this is make(flags, None).
    Raises InputError for flags that do not fit each other or the processes, DeviceError when another process failed.
    """
    flags = {name: value for name, value in given.items() if name not in ALONE}
    if not is_spread(given) and STARTED not in os.environ:
        return make(flags, None)
    from vace.speed.parallel_launch import join, read_layout

    layout = read_layout(given)
    if layout is None:
        return make(flags, None)
    check_flags(flags, layout)
    team = join(layout, flags.get("device") or "auto")
    flags |= {"device": str(team.device), "memory": "max"}
    with team.at_work():
        if not team.is_leader:
            log.setLevel(logging.ERROR)  # one process speaks for all
            follow_job(flags, team)
            team.leave()
            return None
        from vace.warm import Warm

        answer = make(flags, Warm(team))
        team.leave()
        return answer


def is_spread(given: Mapping[str, Any]) -> bool:
    """Whether one of the flags asks for more than one process."""
    return any(given.get(flag) not in (None, alone) for flag, alone in ALONE.items())


def check_flags(given: Mapping[str, Any], layout: Layout) -> None:
    """Raise InputError for what one process alone can do."""
    from vace.bases import WAN as WAN_BASE
    from vace.bases import find_base

    if find_base(given.get("base") or "wan") is not WAN_BASE:
        raise InputError(f"--base {given['base']}: several processes make one video of wan alone; leave torchrun out")
    for name, alone in (("compile", False), ("memory", "auto"), ("offload_model", False)):
        if given.get(name) not in (None, alone, "max"):
            raise InputError(f"--{name}: for one process; leave it out under torchrun")
    if layout.ring > 1 and given.get("attention") not in (None, "auto"):
        raise InputError("--attention: with --ring_size the kernel is torch's own; leave one of them out")
    if layout.dit_fsdp or layout.t5_fsdp:
        from vace.speed.fsdp import check_spreadable

        check_spreadable(given.get("quantize"), bool(given.get("offload_model")))
    if layout.t5_fsdp and given.get("t5_cpu"):
        raise InputError("--t5_fsdp spreads the text encoder over the devices; leave --t5_cpu out")


def follow_job(given: Mapping[str, Any], team: Team) -> None:
    """Compute what the leader asks for, until it lets go. Weights are looked for when the leader has found them."""
    from vace.job import prepare_job
    from vace.speed.parallel import follow
    from vace.warm import load_engine

    if team.receive()[0] == "end":
        return
    names = [flag.name for flag in flags_for(WAN) if flag.name in given and flag.name not in (*_OF_LEADER, *ALONE)]
    job = prepare_job(given.get("prompt") or "a video", base="wan", **{name: given[name] for name in names})
    follow(team, load_engine(job, team.device, team)._in_use)

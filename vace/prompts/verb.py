"""The verb behind `vace prompt "..."`, and behind --use_prompt_extend of a generation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vace.errors import InputError, VaceError
from vace.prompts.extend import Extended, Request, Writer, extend, resolve_mode
from vace.prompts.modes import BY_API, PLAIN

if TYPE_CHECKING:
    from vace.prompts.api import ApiWriter

log = logging.getLogger("vace")


def prompt(
    text: str,
    *,
    base: str = "wan",
    use_prompt_extend: str | bool | None = True,
    prompt_model: str | None = None,
    prompt_api: str | None = None,
    prompt_api_model: str | None = None,
    prompt_api_timeout: float | None = None,
    prompt_fallback: bool = False,
    task: str | None = None,
    refs: int | Sequence[str] = 0,
    has_video: bool = False,
    has_mask: bool = False,
    seconds: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    no_download: bool = False,
) -> Extended:
    """`text` rewritten for the base model.

    use_prompt_extend: as `extend.resolve_mode` takes it. prompt_model: folder or hub id of an instruction model.
    prompt_api, prompt_api_model: an OpenAI-compatible API instead, asked at most prompt_api_timeout seconds a try.
    prompt_fallback: go on with `text` as it is, after a warning, when the language model does not deliver. task, refs,
    has_video, has_mask, seconds: what is known of the video, as `system.complete` takes it. seed: -1 draws one, None is
    the base's own.
    Raises InputError for flags that are wrong (with prompt_fallback too) and, without prompt_fallback, the VaceError
    that says why there is no better prompt.
    """
    from vace.bases import find_base
    from vace.prompts.system import task_names
    from vace.runs import draw_seed

    mode = check(
        text, base=base, use_prompt_extend=use_prompt_extend, prompt_model=prompt_model, prompt_api=prompt_api,
        prompt_api_model=prompt_api_model, prompt_api_timeout=prompt_api_timeout,
        prompt_fallback=prompt_fallback,
    )  # fmt: skip
    seed = draw_seed(int(find_base(base).defaults["seed"] if seed is None else seed))
    if mode == PLAIN:
        return Extended(text, text, mode, seed)
    task_names(task)  # an unknown task is the user's fault, not the language model's
    request = Request(text, mode, seed, task, refs, has_video, has_mask, seconds)
    writer: Writer
    if _is_by_api(mode, prompt_api, prompt_api_model):
        writer = _api(mode, prompt_api, prompt_api_model, prompt_api_timeout)
    else:
        from vace.devices import pick_device, pick_dtype
        from vace.prompts.local import LocalWriter

        pick_dtype(dtype, pick_device(device))
        writer = LocalWriter(prompt_model, device, dtype, no_download)
    try:
        return extend(request, writer)
    except VaceError as error:
        if not prompt_fallback:
            raise
        log.warning("the prompt stays as it is: %s", error)
        return Extended(text, text, mode, seed, writer.describe(), fallback=str(error))


def check(
    text: str | None,
    *,
    base: str = "wan",
    use_prompt_extend: str | bool | None = True,
    prompt_model: str | None = None,
    prompt_api: str | None = None,
    prompt_api_model: str | None = None,
    prompt_api_timeout: float | None = None,
    prompt_fallback: bool = False,
) -> str:
    """The mode these flags mean, checked before anything heavy begins; nothing is loaded or asked.

    Raises InputError for an empty prompt, an unknown mode or one of the other base, flags that contradict each other or
    want --use_prompt_extend, an address, model or key that is wanting or wrong, a time limit that is none.
    """
    if text is None or not str(text).strip():
        raise InputError("--prompt: empty; describe in words what the video shows")
    mode = resolve_mode(use_prompt_extend, base, text)
    given = {"prompt_model": prompt_model, "prompt_api": prompt_api, "prompt_api_model": prompt_api_model}
    also = {"prompt_api_timeout": prompt_api_timeout, "prompt_fallback": prompt_fallback or None}
    named = [f"--{flag}" for flag, value in (given | also).items() if value is not None]
    empty = next((flag for flag, value in given.items() if value is not None and not str(value).strip()), None)
    if empty:
        raise InputError(f"--{empty}: empty; give a value, or leave the flag out")
    if mode == PLAIN and named:
        raise InputError(f"{named[0]}: the prompt is not extended; add --use_prompt_extend, or leave {named[0]} out")
    if prompt_api_timeout is not None:
        from vace.prompts.api import check_timeout

        check_timeout(prompt_api_timeout)
    if _is_by_api(mode, prompt_api, prompt_api_model):
        if prompt_model is not None:
            asked = f"--use_prompt_extend {mode}" if mode.endswith(BY_API) else "--prompt_api"
            raise InputError(f"--prompt_model {prompt_model}: {asked} asks a model elsewhere; leave one of them out")
        _api(mode, prompt_api, prompt_api_model, prompt_api_timeout)
    return mode


def _is_by_api(mode: str, prompt_api: str | None, prompt_api_model: str | None) -> bool:
    return mode != PLAIN and (mode.endswith(BY_API) or prompt_api is not None or prompt_api_model is not None)


def _api(mode: str, address: str | None, model: str | None, timeout: float | None) -> ApiWriter:
    from vace.prompts.api import TIMEOUT_SECONDS, open_api

    return open_api(mode, address, model, TIMEOUT_SECONDS if timeout is None else timeout)

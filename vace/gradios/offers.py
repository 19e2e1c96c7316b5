"""Which base models a page offers to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vace.bases import BASES, MODELS, Base, base_of_model, find_base
from vace.models.checkpoints import TINY, find_checkpoint


@dataclass(frozen=True)
class Model:
    """A model that can be chosen. name: as results are filed; flags: what names it on the command line."""

    name: str
    base: str
    flags: Mapping[str, str]

    @property
    def label(self) -> str:
        note = ", toy" if self.flags.get("ckpt_dir") == TINY else ""
        return f"{self.name} ({self.base}{note})"


def offered_models(
    base: str | None = None, model_name: str | None = None, ckpt_dir: str | None = None, no_download: bool = False
) -> tuple[Model, ...]:
    """The model that was named, if one was; then the published ones that are on this machine; then the toys.

    base: only models of that base. Raises what `find_checkpoint` raises for a model that was named.
    """
    from vace.listing import model_rows

    bases = [find_base(base)] if base else list(BASES.values())
    offered = [_named(bases, model_name, ckpt_dir, no_download)] if model_name or ckpt_dir else []
    here = [row["name"] for row in model_rows() if row["path"] and row["name"] in MODELS]
    offered += [Model(name, base_of_model(name).name, {"model_name": name}) for name in here]
    offered += [Model(one.tiny, one.name, {"ckpt_dir": TINY}) for one in bases]
    names = [one.name for one in bases]
    by_flags = {(model.base, *model.flags.items()): model for model in reversed(offered) if model.base in names}
    return tuple(reversed(by_flags.values()))


def _named(bases: list[Base], model_name: str | None, ckpt_dir: str | None, no_download: bool) -> Model:
    base = base_of_model(model_name) if model_name in MODELS and len(bases) > 1 else bases[0]
    found = find_checkpoint(ckpt_dir, model_name, base=base, no_download=no_download)
    if TINY in (ckpt_dir, model_name):
        return Model(found.name, base.name, {"ckpt_dir": TINY})
    return Model(found.name, base.name, {"ckpt_dir": ckpt_dir} if ckpt_dir else {"model_name": model_name})

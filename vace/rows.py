"""What a row of the task table is: a task, and the materials it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Input:
    """One flag that brings material: `low` to `high` values, separated by commas. instead: a flag that serves too."""

    flag: str
    low: int = 1
    high: int = 1
    note: str = ""
    instead: str = ""

    def describe(self) -> str:
        if self.note:
            return self.note
        if self.high == 1:
            return f"one {self.flag}"
        return f"{self.low} to {self.high} {self.flag}s" if self.low != self.high else f"{self.low} {self.flag}s"


@dataclass(frozen=True)
class Task:
    """One task.

    lead_modes: modes of the video part with what they take, in tasks that make references too; `modes` are those of the
    references then. default_lead: the video's mode where one mode is given; None: that mode serves both. annotator:
    name in `vace.annotators`. fixed: arguments the row gives it (a fixed mode, say). params: further flags.
    outputs: kinds of files written. time: "footage" when output frames are source frames in source time, "model" when
    they were made for the model one by one. under_mask: what lies under the white of src_mask: "neutral" gray or
    "content". filler: the gray written where there is nothing, 0..255.
    """

    name: str
    group: str
    annotator: str
    help: str
    inputs: tuple[Input, ...] = ()
    modes: Mapping[str, tuple[Input, ...]] = field(default_factory=dict)
    default_mode: str | None = None
    lead_modes: Mapping[str, tuple[Input, ...]] = field(default_factory=dict)
    default_lead: str | None = None
    params: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("src_video",)
    fixed: Mapping[str, object] = field(default_factory=dict)
    time: str = "footage"
    under_mask: str = "content"
    filler: int = 128
    examples: tuple[str, ...] = ()

    def inputs_for(self, mode: str | None) -> tuple[Input, ...]:
        """What the task takes in `mode`, as `resolve_mode` gives it."""
        if not mode or not self.modes:
            return self.inputs
        lead, _, own = mode.rpartition(",")
        return tuple(dict.fromkeys((*self.inputs, *self.lead_modes.get(lead, ()), *self.modes[own])))

    def flags(self) -> tuple[str, ...]:
        """Every material flag any mode takes, in order."""
        sets = [self.inputs, *self.lead_modes.values(), *self.modes.values()]
        items = [item for group in sets for item in group]
        return tuple(dict.fromkeys(flag for item in items for flag in (item.flag, item.instead) if flag))

    def as_dict(self) -> dict:
        """The row as `vace tasks --json` prints it."""
        row = {"name": self.name, "group": self.group, "inputs": list(self.flags()), "modes": list(self.modes)}
        row |= {"params": list(self.params), "outputs": list(self.outputs), "help": self.help}
        row["default_mode"] = self.default_mode
        by_mode = {"inputs_by_mode": self.modes, "inputs_by_video_mode": self.lead_modes}
        for key, modes in by_mode.items():
            if modes:
                row[key] = {mode: [i.flag for i in (*self.inputs, *inputs)] for mode, inputs in modes.items()}
        return row

"""The task table: one frozen row per task. A row is here when it runs.

Inputs are named by the flag that brings them. Where the inputs differ by mode, `modes` holds them per mode; where they
do not, `inputs` does. Everything that lists, checks, documents or runs tasks reads this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vace.errors import InputError, nearest

GROUPS = {
    "txt2vid": "a video from words alone (pipeline only: nothing to prepare)",
    "control": "the whole clip is made anew, led by what is drawn in src_video",
    "extension": "given frames or clips are kept, the rest is made",
    "repainting": "a region of the clip, or around it, is made anew",
    "reference": "pictures of what shall appear in the video",
    "composition": "several of the above in one",
}


@dataclass(frozen=True)
class Input:
    """One flag that brings material: `low` to `high` values, separated by commas."""

    flag: str
    low: int = 1
    high: int = 1
    note: str = ""

    def describe(self) -> str:
        if self.note:
            return self.note
        if self.high == 1:
            return f"one {self.flag}"
        return f"{self.low} to {self.high} {self.flag}s" if self.low != self.high else f"{self.low} {self.flag}s"


@dataclass(frozen=True)
class Task:
    """One task.

    annotator: name in `vace.annotators`. fixed: arguments the row gives it (a fixed mode, say). params: further flags.
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
    lead_modes: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("src_video",)
    fixed: Mapping[str, object] = field(default_factory=dict)
    time: str = "footage"
    under_mask: str = "content"
    filler: int = 128
    examples: tuple[str, ...] = ()

    def inputs_for(self, mode: str | None) -> tuple[Input, ...]:
        return self.modes[mode.split(",")[-1]] if mode and self.modes else self.inputs

    def flags(self) -> tuple[str, ...]:
        """Every material flag any mode takes, in order."""
        sets = [self.inputs, *self.modes.values()]
        return tuple(dict.fromkeys(item.flag for group in sets for item in group))

    def as_dict(self) -> dict:
        """The row as `vace tasks --json` prints it."""
        row = {"name": self.name, "group": self.group, "inputs": list(self.flags()), "modes": list(self.modes)}
        row |= {"params": list(self.params), "outputs": list(self.outputs), "help": self.help}
        row["default_mode"] = self.default_mode
        if self.modes:
            row["inputs_by_mode"] = {mode: [i.flag for i in inputs] for mode, inputs in self.modes.items()}
        return row


VIDEO, IMAGE, MASK = Input("video"), Input("image"), Input("mask")
BOX = Input("bbox", note="one box 'x1,y1,x2,y2'")
BOXES = Input("bbox", 2, 2, "two boxes 'x1,y1,x2,y2 x1,y1,x2,y2'")
TWO_IMAGES = Input("image", 2, 2, "two images 'a.jpg,b.jpg'")
TWO_VIDEOS = Input("video", 2, 2, "two videos 'a.mp4,b.mp4'")
IMAGES = Input("image", 1, 16, "one or more images")
PER_IMAGE_MASKS = Input("mask", 1, 16, "one mask for all images, or one each")
PER_IMAGE_BOXES = Input("bbox", 1, 16, "one box for all images, or one each")
SOURCES = (
    Input("src_video", 2, 2, "two prepared videos"),
    Input("src_mask", 0, 2, "the masks of those that have one"),
)

AUGMENT = ("maskaug_mode", "maskaug_ratio", "seed")
VIDEO_MASK = ("src_video", "src_mask")
REFERENCE = ("src_ref_images",)
OUTPAINT = ("direction", "expand_ratio", "mask_blur")

_FRAME_MODES = {"firstframe": (IMAGE,), "lastframe": (IMAGE,), "firstlastframe": (TWO_IMAGES,)}
_CLIP_MODES = {"firstclip": (VIDEO,), "lastclip": (VIDEO,), "firstlastclip": (TWO_VIDEOS,)}
_INPAINT_MODES = {"mask": (VIDEO, MASK), "bbox": (VIDEO, BOX)}


def _extension(name: str, inputs: tuple[Input, ...], what: str, example: str, clips: bool = False) -> Task:
    """A frameref or clipref row with its mode fixed."""
    return Task(
        name, "extension", "frameref", what, inputs=inputs, params=(*EXTEND_CLIP,) if clips else EXTEND,
        outputs=VIDEO_MASK, fixed={"mode": name}, time="model", under_mask="neutral", filler=127, examples=(example,),
    )  # fmt: skip


EXTEND = ("expand_num", *AUGMENT)
EXTEND_CLIP = ("expand_num", "clip_frames", *AUGMENT)

_ROWS = (
    Task("txt2vid", "txt2vid", "", "Nothing but the prompt.", outputs=(), time="model",
         examples=("--task txt2vid",)),
    Task("plain", "control", "plain", "The clip as it is, as control.", inputs=(VIDEO,),
         examples=("--task plain --video assets/videos/test.mp4",)),
    Task("gray", "control", "gray", "The clip without its colours: the model colours it.", inputs=(VIDEO,),
         examples=("--task gray --video assets/videos/test.mp4",)),
    Task("layout_bbox", "control", "layout_bbox", "A box that moves in a line from the first place to the second.",
         inputs=(BOXES,), params=("label", "size", "frame_num"), time="model",
         examples=("--task layout_bbox --bbox '80,60,240,300 400,60,600,300' --size 640x352 --label cat",)),
    Task("frameref", "extension", "frameref", "Pictures kept as first and/or last frame.", modes=_FRAME_MODES,
         params=EXTEND, outputs=VIDEO_MASK, time="model", under_mask="neutral", filler=127,
         examples=("--task frameref --mode firstframe --image assets/images/test.jpg",
                   "--task frameref --mode lastframe --image assets/images/test.jpg --expand_num 40",
                   "--task frameref --mode firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg")),
    Task("clipref", "extension", "frameref", "Clips kept as beginning and/or end.", modes=_CLIP_MODES,
         params=EXTEND_CLIP, outputs=VIDEO_MASK, time="model", under_mask="neutral", filler=127,
         examples=("--task clipref --mode firstclip --video assets/videos/test.mp4 --clip_frames 17",
                   "--task clipref --mode lastclip --video assets/videos/test.mp4 --clip_frames 17",
                   "--task clipref --mode firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4"
                   " --clip_frames 17")),
    _extension("firstframe", (IMAGE,), "A picture kept as first frame.",
               "--task firstframe --image assets/images/test.jpg"),
    _extension("lastframe", (IMAGE,), "A picture kept as last frame.",
               "--task lastframe --image assets/images/test.jpg"),
    _extension("firstlastframe", (TWO_IMAGES,), "Two pictures kept as first and last frame.",
               "--task firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg"),
    _extension("firstclip", (VIDEO,), "A clip that goes on: how long videos are made, five seconds at a time.",
               "--task firstclip --video assets/videos/test.mp4 --clip_frames 17", clips=True),
    _extension("lastclip", (VIDEO,), "A clip that gets a beginning.",
               "--task lastclip --video assets/videos/test.mp4 --clip_frames 17", clips=True),
    _extension("firstlastclip", (TWO_VIDEOS,), "Two clips with the time between them made.",
               "--task firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --clip_frames 17",
               clips=True),
    Task("framerefext", "extension", "framerefext", "Some frames of the clip kept in their places, the rest made.",
         inputs=(VIDEO,), params=("ref_cfg", "ref_num", *AUGMENT), outputs=VIDEO_MASK, time="model",
         under_mask="neutral", filler=127,
         examples=("--task framerefext --video assets/videos/test.mp4 --ref_num 3 --seed 7",)),
    Task("inpainting", "repainting", "inpainting", "A region of the clip made anew.", modes=_INPAINT_MODES,
         params=AUGMENT, outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task inpainting --mode mask --video assets/videos/test.mp4 --mask assets/masks/test.png",
                   "--task inpainting --mode bbox --video assets/videos/test.mp4 --bbox 100,60,260,220")),
    Task("inpainting_mask", "repainting", "inpainting", "A masked region made anew, the mask standing still.",
         modes={"mask": (VIDEO, MASK)}, default_mode="mask", params=AUGMENT, outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task inpainting_mask --video assets/videos/test.mp4 --mask assets/masks/test.png"
                   " --maskaug_mode hull_expand --maskaug_ratio 0.3",)),
    Task("inpainting_bbox", "repainting", "inpainting", "A box of the clip made anew.", modes={"bbox": (VIDEO, BOX)},
         default_mode="bbox", params=AUGMENT, outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task inpainting_bbox --video assets/videos/test.mp4 --bbox 100,60,260,220",)),
    Task("outpainting", "repainting", "outpainting", "The picture made larger: what lies around it is made.",
         inputs=(VIDEO,), params=(*OUTPAINT, *AUGMENT), outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task outpainting --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.25",)),
    Task("outpainting_inner", "repainting", "outpainting_inner", "The border made anew, the size kept.",
         inputs=(VIDEO,), params=(*OUTPAINT, *AUGMENT), outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task outpainting_inner --video assets/videos/test.mp4 --direction up,down --expand_ratio 0.2",)),
    Task("image_plain", "reference", "image_plain", "Pictures as they are.", inputs=(IMAGES,), outputs=REFERENCE,
         examples=("--task image_plain --image assets/images/test.jpg,assets/images/test2.jpg",)),
    Task("image_gray", "reference", "image_gray", "Pictures without their colours.", inputs=(IMAGES,),
         outputs=REFERENCE, examples=("--task image_gray --image assets/images/test.jpg",)),
    Task("image_reference", "reference", "image_reference", "The subject of a picture, cut out on white.",
         modes={"plain": (IMAGES,), "mask": (IMAGES, PER_IMAGE_MASKS), "bbox": (IMAGES, PER_IMAGE_BOXES)},
         params=AUGMENT, outputs=REFERENCE,
         examples=("--task image_reference --mode plain --image assets/images/test.jpg",
                   "--task image_reference --mode mask --image assets/images/test.jpg --mask assets/masks/test2.png",
                   "--task image_reference --mode bbox --image assets/images/test.jpg --bbox 130,20,400,420")),
    Task("image_outpainting", "reference", "image_outpainting", "Pictures on a larger gray canvas.", inputs=(IMAGES,),
         params=OUTPAINT, outputs=REFERENCE,
         examples=("--task image_outpainting --image assets/images/test.jpg --direction left,right",)),
    Task("composition", "composition", "composition", "Two prepared sources in one, by the rule of their task groups.",
         inputs=SOURCES, params=("process_type", *AUGMENT), outputs=VIDEO_MASK,
         examples=("--task composition --src_video a.mp4,b.mp4 --src_mask a_mask.mp4,b_mask.mp4"
                   " --process_type frameref,outpainting",)),
    Task("move_anything", "composition", "move_anything", "A first picture, and a box that shows where its thing goes.",
         inputs=(IMAGE, BOXES), params=("label", "expand_num", *AUGMENT), outputs=VIDEO_MASK, time="model",
         examples=("--task move_anything --image assets/images/test.jpg --bbox '150,30,380,300 20,30,250,300'",)),
    Task("expand_anything", "composition", "expand_anything",
         "The first picture made larger and into a video; the other pictures are references.",
         modes={"plain": (Input("image", 2, 16, "the picture to expand, then the references"),)}, default_mode="plain",
         lead_modes=("firstframe", "lastframe"), params=("direction", "expand_ratio", "expand_num", *AUGMENT),
         outputs=(*VIDEO_MASK, *REFERENCE), time="model",
         examples=("--task expand_anything --mode firstframe,plain --direction left,right --expand_ratio 0.2"
                   " --image assets/images/test.jpg,assets/images/test2.jpg",)),
)  # fmt: skip

TASKS: Mapping[str, Task] = {row.name: row for row in _ROWS}


def find_task(name: str) -> Task:
    """The row named `name`; raises InputError that names the nearest ones."""
    if name not in TASKS:
        raise InputError(f"--task {name}: no such task; {nearest(name, TASKS)} `vace tasks` lists them all")
    return TASKS[name]


def resolve_mode(task: Task, mode: str | None) -> str | None:
    """The mode to run: the given one, the task's default, or its only one.

    "LEAD,MODE" names the mode of the video part first, where a task has one. Raises InputError for a mode the task does
    not have, and where several exist and none was given.
    """
    if not task.modes:
        if mode:
            raise InputError(f"--mode {mode}: task {task.name} has no modes; leave --mode out")
        return None
    if not mode:
        if task.default_mode:
            return task.default_mode
        raise InputError(f"--mode: task {task.name} has several modes; give one of {', '.join(task.modes)}")
    lead, _, own = mode.rpartition(",")
    if own not in task.modes:
        raise InputError(f"--mode {mode}: task {task.name} has no mode '{own}'; {nearest(own, task.modes)}")
    if lead and lead not in task.lead_modes:
        known = nearest(lead, task.lead_modes) if task.lead_modes else f"it takes one mode: {', '.join(task.modes)}"
        raise InputError(f"--mode {mode}: task {task.name} has no mode '{lead}' for its video part; {known}")
    return mode

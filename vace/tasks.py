"""The task table: one frozen row per task. A row is here when it runs.

Inputs are named by the flag that brings them. Where the inputs differ by mode, `modes` holds them per mode; where they
do not, `inputs` does. Everything that lists, checks, documents or runs tasks reads this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vace.errors import InputError, nearest
from vace.rows import Input, Task

GROUPS = {
    "txt2vid": "a video from words alone (pipeline only: nothing to prepare)",
    "control": "the whole clip is made anew, led by what is drawn in src_video",
    "extension": "given frames or clips are kept, the rest is made",
    "repainting": "a region of the clip, or around it, is made anew",
    "reference": "pictures of what shall appear in the video",
    "composition": "several of the above in one",
}

VIDEO, IMAGE, MASK = Input("video"), Input("image"), Input("mask")
BOX = Input("bbox", note="one box 'x1,y1,x2,y2'")
BOXES = Input("bbox", 2, 2, "two boxes 'x1,y1,x2,y2 x1,y1,x2,y2'")
LABEL = Input("label", 1, 16, "one or more labels")
CAPTION = Input("caption")
COLOR_LABEL = Input("label", 0, 1, "a label for the colour, if you like")
TWO_IMAGES = Input("image", 2, 2, "two images 'a.jpg,b.jpg'")
TWO_VIDEOS = Input("video", 2, 2, "two videos 'a.mp4,b.mp4'")
IMAGES = Input("image", 1, 16, "one or more images")
THREE_IMAGES = Input("image", 1, 3, "one to three images")
EXPANDED = Input("image", 1, 17, "the picture to expand, then the references")
SOURCES = (
    Input("src_video", 2, 2, "two prepared videos"),
    Input("src_mask", 0, 2, "the masks of those that have one"),
)

LAYERED = "more_anything"  # the row of tasks joined on the command line
AUGMENT = ("maskaug_mode", "maskaug_ratio", "seed")
NETWORK = ("backend", "batch_size")
COMMON = ("seed", *NETWORK)  # flags that may stand in any command, of use or not
VIDEO_MASK = ("src_video", "src_mask")
REFERENCE = ("src_ref_images",)
OUTPAINT = ("direction", "expand_ratio", "mask_blur")

_FRAME_MODES = {"firstframe": (IMAGE,), "lastframe": (IMAGE,), "firstlastframe": (TWO_IMAGES,)}
_CLIP_MODES = {"firstclip": (VIDEO,), "lastclip": (VIDEO,), "firstlastclip": (TWO_VIDEOS,)}
# What leads each mode of `vace.annotators.regions.MODES` in a clip.
_REGION_MODES = {
    "salient": (), "mask": (MASK,), "bbox": (BOX,), "salientmasktrack": (), "salientbboxtrack": (),
    "maskpointtrack": (MASK,), "maskbboxtrack": (MASK,), "masktrack": (MASK,), "bboxtrack": (BOX,), "label": (LABEL,),
    "caption": (CAPTION,),
}  # fmt: skip
_TRACK_MODES = ("masktrack", "bboxtrack", "label", "caption")


def _per_image(prefix: str) -> dict[str, tuple[Input, ...]]:
    """What leads each region mode in pictures, by flags that begin with `prefix`; the plain flags serve as well."""
    inputs = {
        item.flag: Input(prefix + item.flag, 1, 16, f"one {item.flag} for all images, or one each",
                         instead=item.flag if prefix else "")
        for item in (MASK, BOX, LABEL, CAPTION)
    }  # fmt: skip
    return {mode: tuple(inputs[item.flag] for item in led) for mode, led in _REGION_MODES.items()}


_IMAGE_MODES = _per_image("")
_REFERENCE_MODES = {"plain": (), **_IMAGE_MODES}
_OWN_REFERENCE_MODES = {"plain": (), **_per_image("ref_")}
# Beside a clip that takes its own, the plain flags are the clip's; words serve both.
_SWAPPED_MODES = {
    mode: tuple(Input(i.flag, i.low, i.high, i.note, i.instead if i.flag in ("ref_label", "ref_caption") else "")
                for i in led)
    for mode, led in _OWN_REFERENCE_MODES.items()
}  # fmt: skip


def _inpainting(name: str, modes: tuple[str, ...], what: str, *examples: str, default: str | None = None) -> Task:
    """An inpainting row with some of the region modes."""
    return Task(
        name, "repainting", "inpainting", what, inputs=(VIDEO,), modes={mode: _REGION_MODES[mode] for mode in modes},
        default_mode=default or (modes[0] if len(modes) == 1 else None), params=(*AUGMENT, *NETWORK),
        outputs=VIDEO_MASK, under_mask="neutral",
        examples=tuple(f"--task {name} --video assets/videos/test.mp4 {example}" for example in examples),
    )  # fmt: skip


def _control(name: str, annotator: str, what: str, *params: str, video: str = "test.mp4") -> Task:
    """A control row: a clip redrawn frame by frame."""
    return Task(name, "control", annotator, what, inputs=(VIDEO,), params=(*params, *NETWORK),
                examples=(f"--task {name} --video assets/videos/{video}",))  # fmt: skip


_LED_BY = {
    "maskpointtrack": "--{0}mask assets/masks/test2.png", "maskbboxtrack": "--{0}mask assets/masks/dots2.png",
    "mask": "--{0}mask assets/masks/test2.png", "masktrack": "--{0}mask assets/masks/test2.png",
    "bbox": "--{0}bbox 130,20,400,420", "bboxtrack": "--{0}bbox 20,0,510,512", "label": "--{0}label person",
    "caption": "--{0}caption 'a woman in orange'",
}  # fmt: skip


def _image_examples(name: str, *more: str) -> tuple[str, ...]:
    """One line for each region mode of pictures, after those of `more`."""
    lines = [*more, *(f"--mode {mode} --image assets/images/test.jpg {_LED_BY.get(mode, '').format('')}"
                      for mode in _IMAGE_MODES)]  # fmt: skip
    return tuple(f"--task {name} {line}".rstrip() for line in lines)


def _led_examples(start: str, lead: str, before: str = "") -> tuple[str, ...]:
    """One line for each mode of the references beside a video part, whose mode is `lead`."""
    return tuple(
        f"--task {start} --mode {lead}{mode} --image {before}assets/images/test.jpg "
        f"{_LED_BY.get(mode, '').format('ref_')}".rstrip()
        for mode in _OWN_REFERENCE_MODES
    )  # fmt: skip


def _redrawn(name: str, annotator: str, what: str, *params: str) -> Task:
    """A reference row: pictures redrawn."""
    return Task(name, "reference", annotator, what, inputs=(IMAGES,), params=(*params, *NETWORK), outputs=REFERENCE,
                examples=(f"--task {name} --image assets/images/test.jpg",))  # fmt: skip


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
    _control("depth", "depth", "How near everything is, by MiDaS: near is bright.", "normalize"),
    _control("depthv2", "depthv2", "How near everything is, by Depth Anything V2.", "normalize"),
    _control("flow", "flow", "How everything moves, as colours.", "normalize"),
    _control("pose", "pose", "Bodies and faces of people as lines and dots.", video="person.mp4"),
    _control("pose_body", "pose_body", "Bodies of people as lines.", video="person.mp4"),
    _control("scribble", "scribble", "The clip as a line drawing."),
    Task("layout_bbox", "control", "layout_bbox", "A box that moves in a line from the first place to the second.",
         inputs=(BOXES,), params=("label", "size", "frame_num"), time="model",
         examples=("--task layout_bbox --bbox '80,60,240,300 400,60,600,300' --size 640x352 --label cat",)),
    Task("layout_track", "control", "layout_track", "The outline of a thing that is followed through the clip.",
         inputs=(VIDEO,), params=(*AUGMENT, *NETWORK),
         modes={"masktrack": (MASK, COLOR_LABEL), "bboxtrack": (BOX, COLOR_LABEL), "label": (LABEL,),
                "caption": (CAPTION, COLOR_LABEL)},
         examples=("--task layout_track --mode masktrack --video assets/videos/test.mp4 --mask assets/masks/test.png"
                   " --label rabbit",
                   "--task layout_track --mode bboxtrack --video assets/videos/test.mp4 --bbox 90,10,310,310",
                   "--task layout_track --mode label --video assets/videos/person.mp4 --label person"
                   " --maskaug_mode bbox",
                   "--task layout_track --mode caption --video assets/videos/person.mp4"
                   " --caption 'a woman in orange'")),
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
    Task("inpainting", "repainting", "inpainting", "A region of the clip made anew.", inputs=(VIDEO,),
         modes=_REGION_MODES, params=(*AUGMENT, *NETWORK), outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task inpainting --mode salient --video assets/videos/test.mp4",
                   "--task inpainting --mode mask --video assets/videos/test.mp4 --mask assets/masks/test.png",
                   "--task inpainting --mode bbox --video assets/videos/test.mp4 --bbox 100,60,260,220",
                   "--task inpainting --mode salientmasktrack --video assets/videos/test.mp4",
                   "--task inpainting --mode salientbboxtrack --video assets/videos/test.mp4",
                   "--task inpainting --mode maskpointtrack --video assets/videos/test.mp4"
                   " --mask assets/masks/test.png",
                   "--task inpainting --mode maskbboxtrack --video assets/videos/test.mp4"
                   " --mask assets/masks/dots.png",
                   "--task inpainting --mode masktrack --video assets/videos/test.mp4 --mask assets/masks/test.png",
                   "--task inpainting --mode bboxtrack --video assets/videos/test.mp4 --bbox 90,10,310,310",
                   "--task inpainting --mode label --video assets/videos/person.mp4 --label person",
                   "--task inpainting --mode caption --video assets/videos/person.mp4"
                   " --caption 'a woman in orange'")),
    _inpainting("inpainting_mask", ("salient", "mask"), "A masked region made anew, the mask standing still.",
                "--mode salient", "--mask assets/masks/test.png --maskaug_mode hull_expand --maskaug_ratio 0.3",
                default="mask"),
    _inpainting("inpainting_bbox", ("bbox",), "A box of the clip made anew.", "--bbox 100,60,260,220"),
    _inpainting("inpainting_masktrack", ("salientmasktrack", "salientbboxtrack", "masktrack"),
                "A masked thing made anew wherever it goes.", "--mode salientmasktrack", "--mode salientbboxtrack",
                "--mask assets/masks/test.png", default="masktrack"),
    _inpainting("inpainting_bboxtrack", ("bboxtrack",), "The thing in a box made anew wherever it goes.",
                "--bbox 90,10,310,310"),
    Task("inpainting_label", "repainting", "inpainting", "A thing named made anew wherever it goes.", inputs=(VIDEO,),
         modes={"label": (LABEL,)}, default_mode="label", params=(*AUGMENT, *NETWORK), outputs=VIDEO_MASK,
         under_mask="neutral",
         examples=("--task inpainting_label --video assets/videos/person.mp4 --label person",)),
    Task("inpainting_caption", "repainting", "inpainting", "A thing described made anew wherever it goes.",
         inputs=(VIDEO,), modes={"caption": (CAPTION,)}, default_mode="caption", params=(*AUGMENT, *NETWORK),
         outputs=VIDEO_MASK, under_mask="neutral",
         examples=("--task inpainting_caption --video assets/videos/person.mp4 --caption 'a woman in orange'",)),
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
    Task("image_salient", "reference", "image_salient", "What a picture is of, cut out on white.", inputs=(IMAGES,),
         params=NETWORK, outputs=REFERENCE, examples=("--task image_salient --image assets/images/test.jpg",)),
    Task("image_face", "reference", "image_face", "The face of a picture, cut out.", inputs=(IMAGES,), params=NETWORK,
         outputs=REFERENCE, examples=("--task image_face --image assets/images/test.jpg",)),
    Task("image_reference", "reference", "image_reference", "The subject of a picture, cut out on white.",
         inputs=(IMAGES,), modes=_REFERENCE_MODES, params=(*AUGMENT, *NETWORK), outputs=REFERENCE,
         examples=_image_examples("image_reference", "--mode plain --image assets/images/test.jpg")),
    Task("image_inpainting", "reference", "image_inpainting", "Pictures with a region grayed out.", inputs=(IMAGES,),
         modes=_IMAGE_MODES, params=(*AUGMENT, *NETWORK), outputs=REFERENCE,
         examples=_image_examples("image_inpainting")),
    _redrawn("image_depth", "depth", "How near everything in pictures is, by MiDaS."),
    _redrawn("image_depthv2", "depthv2", "How near everything in pictures is, by Depth Anything V2."),
    _redrawn("image_pose", "pose", "Bodies and faces of people in pictures as lines and dots."),
    _redrawn("image_scribble", "scribble", "Pictures as line drawings."),
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
    Task("reference_anything", "composition", "reference_anything", "Up to three subjects that shall appear together.",
         inputs=(THREE_IMAGES,), modes=_REFERENCE_MODES, default_mode="salientmasktrack", params=(*AUGMENT, *NETWORK),
         outputs=REFERENCE, examples=(
             *_image_examples("reference_anything", "--mode plain --image assets/images/test.jpg")[:-1],
             "--task reference_anything --mode caption --caption 'a woman in orange'"
             " --image assets/images/test.jpg,assets/images/test.jpg,assets/images/test.jpg")),
    Task("animate_anything", "composition", "animate_anything", "Subjects of pictures move as people in a clip do.",
         inputs=(VIDEO, IMAGES), modes=_OWN_REFERENCE_MODES, default_mode="salientmasktrack",
         params=(*AUGMENT, *NETWORK), outputs=("src_video", *REFERENCE),
         examples=_led_examples("animate_anything --video assets/videos/person.mp4", "")),
    Task("swap_anything", "composition", "swap_anything", "A thing of the clip gives way to the subjects of pictures.",
         inputs=(VIDEO, IMAGES), lead_modes=_REGION_MODES, modes=_SWAPPED_MODES, params=(*AUGMENT, *NETWORK),
         outputs=(*VIDEO_MASK, *REFERENCE), under_mask="neutral",
         examples=(
             *_led_examples("swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png", "masktrack,"),
             *(f"--task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode {mode}"
               for mode in ("salient,plain", "mask,plain --mask assets/masks/test.png",
                            "bbox,plain --bbox 100,60,260,220", "salientmasktrack", "salientbboxtrack",
                            "maskpointtrack,plain --mask assets/masks/test.png",
                            "maskbboxtrack,plain --mask assets/masks/dots.png",
                            "bboxtrack,plain --bbox 90,10,310,310")),
             "--task swap_anything --video assets/videos/person.mp4 --image assets/images/test.jpg --mode label"
             " --label person",
             "--task swap_anything --video assets/videos/person.mp4 --image assets/images/test.jpg --mode caption"
             " --caption 'a woman in orange'")),
    Task("expand_anything", "composition", "expand_anything",
         "The first picture made larger and into a video; the other pictures are references.", inputs=(EXPANDED,),
         lead_modes={"firstframe": (), "lastframe": ()}, default_lead="firstframe", modes=_OWN_REFERENCE_MODES,
         default_mode="plain", params=("direction", "expand_ratio", "expand_num", *AUGMENT, *NETWORK),
         outputs=(*VIDEO_MASK, *REFERENCE), time="model",
         examples=(
             *_led_examples("expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40", "firstframe,",
                            "assets/images/test2.jpg,"),
             "--task expand_anything --mode lastframe,plain --direction up --expand_num 40"
             " --image assets/images/test2.jpg,assets/images/test.jpg")),
    Task(LAYERED, "composition", LAYERED, "Any tasks joined: NAME(flag=value,...)+NAME(...)+... as --task.",
         params=("seed", *NETWORK), outputs=(*VIDEO_MASK, *REFERENCE),
         examples=('--task "frameref(mode=firstframe,image=assets/images/test.jpg)'
                   '+outpainting(direction=left,expand_ratio=0.3)'
                   '+image_reference(mode=salient,image=assets/images/test2.jpg)"',
                   '--task "inpainting(mode=masktrack,mask=assets/masks/test.png)+scribble+image_face('
                   'image=assets/images/test.jpg)" --video assets/videos/test.mp4')),
)  # fmt: skip

# Whatever is made of footage can be made of a part of it.
TASKS: Mapping[str, Task] = {
    row.name: replace(row, params=(*row.params, "frame_range")) if "video" in row.flags() else row for row in _ROWS
}


def find_task(name: str) -> Task:
    """The row named `name`; tasks joined as NAME(...)+NAME are more_anything. InputError names the nearest ones."""
    if "(" in name or "+" in name:
        return TASKS[LAYERED]
    if name not in TASKS:
        raise InputError(f"--task {name}: no such task; {nearest(name, TASKS)} `vace tasks` lists them all")
    if name == LAYERED:
        raise InputError(f"--task {name}: say which tasks, joined: {TASKS[name].examples[0]}")
    return TASKS[name]


def resolve_mode(task: Task, mode: str | None) -> str | None:
    """The mode to run: the given one, the task's default, or its only one; None for tasks without modes.

    Where a task has a video part with modes of its own, always "VIDEO,IMAGES": one mode alone serves both, or is that
    of the pictures beside the task's own lead. Raises InputError for modes the task does not have, in wrong number or
    order, and where several exist and none was given.
    """
    if not task.modes:
        if mode:
            raise InputError(f"--mode {mode}: task {task.name} has no modes; leave --mode out")
        return None
    if not mode:
        if not task.default_mode:
            known = task.lead_modes or task.modes
            two = " (or two, VIDEO,IMAGES)" if task.lead_modes else ""
            raise InputError(f"--mode: task {task.name} has several modes; give one of {', '.join(known)}{two}")
        mode = task.default_mode
    parts = [part.strip() for part in mode.split(",")]
    if not task.lead_modes:
        _check_mode(task, mode, parts[0], task.modes, "")
        if len(parts) > 1:
            raise InputError(f"--mode {mode}: task {task.name} takes one mode, {len(parts)} are given")
        return parts[0]
    if len(parts) > 2:
        raise InputError(f"--mode {mode}: task {task.name} takes two modes, for the video and for the images; "
                         f"{len(parts)} are given")  # fmt: skip
    lead = parts[0] if len(parts) == 2 else task.default_lead or parts[0]
    if len(parts) == 1 and task.default_lead and mode in task.lead_modes:
        raise InputError(f"--mode {mode}: of the video part; add that of the images, e.g. {mode},{task.default_mode}")
    _check_mode(task, mode, lead, task.lead_modes, " for its video part")
    _check_mode(task, mode, parts[-1], task.modes, " for its images")
    return f"{lead},{parts[-1]}"


def _check_mode(task: Task, given: str, mode: str, known: Mapping, part: str) -> None:
    if mode not in known:
        order = " (--mode VIDEO,IMAGES)" if part else ""
        raise InputError(f"--mode {given}: task {task.name} has no mode '{mode}'{part}{order}; {nearest(mode, known)}")

"""The table of examples: one for each row of the task table, as flags of `vace pipeline`.

{m} stands for the folder of the materials, {out} for the one that holds the examples; {..._box} and {..._path} for
boxes of `gallery.scenes.boxes`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gallery.scenes import boxes

TOY = "assets/videos/toy.mp4"
TOY_MASK, TOY_MASKS = "assets/masks/toy.png", "assets/masks/toy.mp4"  # of the first frame, of all
CAR = "an orange car moves right on sand, the camera pans right"
FISH = "a pink fish moves right over blue water"
BOAT = "a green boat moves in circles over blue water"


@dataclass(frozen=True)
class Example:
    """flags: as on the command line, without task and prompt. needs: examples whose prepared files it takes.

    layers: what --task says where several are joined. Texts may hold the names in braces of this module's first lines.
    """

    task: str
    prompt: str
    flags: Mapping[str, str]
    needs: tuple[str, ...] = ()
    layers: str = ""


def _example(task: str, prompt: str, needs: tuple[str, ...] = (), layers: str = "", **flags: str) -> Example:
    return Example(task, prompt, flags, needs, layers)


_ROWS = (
    _example("txt2vid", "a red heart bounces over green grass and a yellow bird moves left"),
    _example("plain", CAR, video="{m}/car.mp4"),
    # Red and blue are equally bright here, so the same gray can be either.
    _example("gray", "a blue house rests on the grass and a small red bird moves left", video="{m}/house.mp4"),
    _example("depth", "a purple car moves right over white snow, the camera pans right", video="{m}/car.mp4"),
    _example("depthv2", "a green puppet waves over white snow", video="{m}/puppet.mp4"),
    _example("flow", "a blue car moves right on stones, the camera pans right", video="{m}/car.mp4"),
    _example("pose", "a red puppet stands still in front of a brick wall, the camera comes closer",
             video="{m}/person.mp4"),
    _example("pose_body", "a blue puppet stands still over white snow, the camera comes closer",
             video="{m}/person.mp4"),
    _example("scribble", "a pink boat moves in circles over blue water", video="{m}/boat.mp4"),
    _example("layout_bbox", "an orange fish moves right over blue water", bbox="{fish_path}"),
    _example("layout_track", "a purple square moves right on a sandy beach", mode="masktrack", video=TOY,
             mask=TOY_MASK),
    _example("frameref", "a blue heart moves right on a wooden floor", mode="firstframe",
             image="{m}/heart.png"),
    _example("clipref", CAR, mode="firstclip", video="{m}/car_begin.mp4"),
    _example("firstframe", CAR, image="{m}/car.png"),
    _example("lastframe", FISH, image="{m}/fish_last.png"),
    _example("firstlastframe", FISH, image="{m}/fish_first.png,{m}/fish_last.png"),
    _example("firstclip", FISH, video="{m}/fish_begin.mp4"),
    _example("lastclip", FISH, video="{m}/fish_end.mp4"),
    _example("firstlastclip", FISH, video="{m}/fish_begin.mp4,{m}/fish_end.mp4", clip_frames="5"),
    _example("framerefext", FISH, video="{m}/fish.mp4", ref_cfg="random", ref_num="4"),
    _example("inpainting", "a purple square moves right and a small yellow star rests over grass", mode="mask",
             video=TOY, mask=TOY_MASKS),
    _example("inpainting_mask", "a red square moves right and a small pink heart rests over grass", video=TOY,
             mask="{m}/star_mask.png", maskaug_mode="hull_expand", maskaug_ratio="0.3"),
    _example("inpainting_bbox", "a red square moves right and a small blue bird stays still over grass", video=TOY,
             bbox="{star_box}"),
    _example("inpainting_masktrack", "a blue heart moves right and a small yellow star rests over grass", video=TOY,
             mask=TOY_MASK, maskaug_mode="bbox_expand", maskaug_ratio="0.2"),
    _example("inpainting_bboxtrack", "a purple diamond moves right and a small yellow star rests over grass",
             video=TOY, bbox="{square_box}"),
    _example("inpainting_label", "a green puppet stands still in front of a brick wall",
             video="{m}/person.mp4", label="person"),
    _example("inpainting_caption", "a blue puppet waves in front of a brick wall", video="{m}/person.mp4",
             caption="a woman in orange"),
    _example("outpainting", BOAT, video="{m}/boat.mp4", direction="left,right", expand_ratio="0.25"),
    _example("outpainting_inner", "a purple puppet waves in front of a brick wall", video="{m}/puppet.mp4",
             direction="left,right", expand_ratio="0.2"),
    _example("image_plain", "a green tree moves left on a sandy beach", image="{m}/green_tree.png"),
    _example("image_gray", "a pink tree rests over white snow", image="{m}/green_tree.png"),
    _example("image_salient", "a blue heart bounces over green grass", image="{m}/heart.png"),
    _example("image_face", "a red puppet dances over green grass", image="{m}/person.jpg"),
    _example("image_reference", "a blue heart moves up over blue water", mode="bboxtrack", image="{m}/heart.png",
             bbox="{heart_box}"),
    _example("image_inpainting", "a yellow star rests on a wooden floor", mode="mask", image="{m}/heart.png",
             mask="{m}/heart_mask.png"),
    _example("image_depth", "a red heart rests on stones", image="{m}/heart.png"),
    _example("image_depthv2", "a blue car goes right over grass", image="{m}/car.png"),
    _example("image_pose", "an orange puppet waves one hand on sand", image="{m}/person.jpg"),
    _example("image_scribble", "an orange boat goes left over blue water", image="{m}/boat.png"),
    _example("image_outpainting", BOAT, image="{m}/boat.png", direction="left,right"),
    _example("composition", "a green circle moves right and a small yellow star rests over grass",
             needs=("inpainting_masktrack", "layout_track"), process_type="inpainting_masktrack,layout_track",
             src_video="{out}/inpainting_masktrack/prepared/src_video-inpainting_masktrack.mp4,"
                       "{out}/layout_track/prepared/src_video-layout_track.mp4",
             src_mask="{out}/inpainting_masktrack/prepared/src_mask-inpainting_masktrack.mp4"),
    _example("move_anything", CAR, image="{m}/car.png", bbox="{car_path}"),
    _example("reference_anything", "a blue heart moves left and a green tree rests over white snow", mode="plain",
             image="{m}/blue_heart.png,{m}/green_tree.png"),
    _example("animate_anything", "a purple puppet stands still on stones, the camera comes closer",
             mode="plain", video="{m}/person.mp4", image="{m}/purple_puppet.png"),
    _example("swap_anything", "a blue heart moves right and a small yellow star rests over grass",
             mode="masktrack,plain", video=TOY, mask=TOY_MASK, image="{m}/blue_heart.png", maskaug_mode="bbox_expand",
             maskaug_ratio="0.2"),
    _example("expand_anything", "a green boat moves in circles and a blue heart rests over blue water",
             mode="firstframe,plain", image="{m}/boat.png,{m}/blue_heart.png", direction="left,right",
             expand_ratio="0.25"),
    _example("more_anything", "a blue heart moves right and a small pink circle rests over grass", video=TOY,
             layers=f"inpainting_masktrack(mask={TOY_MASK})+inpainting_mask(mask={{m}}/star_mask.png)"
                    "+image_plain(image={m}/blue_heart.png)"),
)  # fmt: skip
EXAMPLES: Mapping[str, Example] = {row.task: row for row in _ROWS}


def flags_of(example: Example, out: Path) -> dict[str, str]:
    """The flags of `vace pipeline` for an example whose gallery lies in `out`, all as texts."""
    known = boxes() | {"m": str(out / "materials"), "out": str(out)}
    flags = {"task": example.layers or example.task, **example.flags}
    return {name: value.format(**known) for name, value in flags.items()} | {"prompt": example.prompt}


def command_line(example: Example, out: Path) -> str:
    """The same as a line for a shell."""
    words = [word for name, value in flags_of(example, out).items() for word in (f"--{name}", shlex.quote(value))]
    return " ".join(["vace", "pipeline", *words])

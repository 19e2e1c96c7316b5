"""What a language model is told before it rewrites a prompt: the rules per mode, and what is known of the job.

VACE was trained on descriptions of finished videos and does not follow instructions, so every mode asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENGLISH, CHINESE = "en", "zh"


@dataclass(frozen=True)
class SystemPrompt:
    """The rules of one mode.

    language: of the answer. limit: words (English) or characters (Chinese) that the text encoder surely takes; longer
    answers are cut. max_tokens: what a language model may write for it. text: the rules. lead: stands before the user's
    words.
    """

    language: str
    limit: int
    max_tokens: int
    text: str
    lead: str


_RULES_EN = """\
You write prompts for a video generator. The user says what is wanted. You answer with one description of the \
finished video, in the words of somebody who has just watched it.
1. Describe, never instruct. Whatever the user asks to make, add, replace, change or remove, tell what can be seen \
once that is done.
2. Keep all that the user named: every subject, how many of each, colours, places, actions, style. Words in quotation \
marks stay exactly as they are, letter by letter and within quotation marks.
3. Fill in what the user left open, so that it fits: nothing that contradicts the user's words or draws attention away \
from them.
4. {form}
5. Write English, one paragraph, {words} words.
6. Answer with the description alone: no opening remark, no title, no list, no markdown, no quotation marks around it, \
no closing remark."""

_FORM_WAN = """\
Tell how the subjects look, what they do and how they move, in simple verbs and in the order in which it happens; \
then the place and what surrounds them, light and mood, and last the size of the shot and the camera."""

_FORM_LTX = """\
Keep to this order: the main action, with which the first words begin; further movements and gestures; how people, \
animals and things look; background and environment; camera angle and camera movement; light and colours; the kind \
of footage it is (film, phone video, animation, aerial footage and the like). Be literal and exact; name each thing \
once."""

_RULES_ZH = """\
你为视频生成模型撰写提示词。用户说明想要的内容，你用一段文字描述已经完成的视频，就像刚刚看完它的人在讲述画面。
一、只描述，不下指令。无论用户要求制作、添加、替换、修改还是去掉什么，都写成完成之后画面中能看到的样子。
二、用户提到的一切都要保留：每个主体及其数量、颜色、地点、动作、风格。引号里的文字必须逐字照抄，并保留引号。
三、用户没有说明的部分由你合理补充，不得与用户的话矛盾，也不得喧宾夺主。
四、先写主体的外貌、动作和运动过程，用简单的动词，按发生的先后顺序；再写所处的环境和周围的事物、光线与氛围；最后写景别和镜头运动。
五、用中文写成一段，{words}字。
六、只输出这段描述：不要开场白、标题、列表、任何标记符号，不要用引号把整段括起来，也不要在结尾添加说明。"""

_LEAD_EN = "Describe the finished video. The user's words:\n"
_LEAD_ZH = "请描述完成后的视频。用户的话：\n"

SYSTEM: Mapping[str, SystemPrompt] = {
    "wan_zh": SystemPrompt(CHINESE, 400, 512, _RULES_ZH.format(words="一百到二百"), _LEAD_ZH),
    "wan_en": SystemPrompt(ENGLISH, 250, 512, _RULES_EN.format(form=_FORM_WAN, words="80 to 120"), _LEAD_EN),
    # LTX's T5 takes 128 tokens, about 1.4 of them per word; what comes after is lost.
    "ltx_en": SystemPrompt(ENGLISH, 90, 256, _RULES_EN.format(form=_FORM_LTX, words="60 to 80"), _LEAD_EN),
}

# What a task's group means to the description. The key "" is a generation whose task is not known.
_GROUPS = {
    ENGLISH: {
        "txt2vid": "Words alone lead this video.",
        "control": "A control video fixes movements, shapes and places of the whole clip. Describe the natural scene "
        "that comes of it; the control itself (depth map, lines, skeletons, boxes, gray frames) is not seen in it.",
        "extension": "Some frames are given and stay as they are, the others are made to join them. Describe the whole "
        "video as one continuous shot, the given part included.",
        "repainting": "A region of a given video, or what lies around its picture, is made anew, the rest stays. "
        "Describe the whole scene with the new part in its place. Where the user wants something removed, describe the "
        "place as it looks without it and do not name the removed thing at all, not even to say that it is gone; where "
        "one thing replaces another, name the new one only; this goes before rule 2.",
        "reference": "Subjects given as pictures shall appear in the video. Describe them within one scene.",
        "composition": "Given material is kept, followed or made anew in several ways at once. Describe the one scene "
        "that comes of it. What the user wants removed or replaced is not named; this goes before rule 2.",
        "": "Describe the whole scene, not only what changes. What the user wants removed or replaced is not named; "
        "this goes before rule 2.",
    },
    CHINESE: {
        "txt2vid": "这段视频只由文字决定。",
        "control": "控制视频决定了整段画面的动作、形状和位置。请描述由此得到的自然画面；"
        "深度图、线条、骨架、方框、灰度等控制内容本身不会出现在画面里。",
        "extension": "部分帧已经给定并保持不变，其余部分与之衔接。请把整段视频（包括给定的部分）描述成一个连贯的镜头。",
        "repainting": "给定视频的某个区域或画面以外的部分会重新生成，其余保持不变。请描述新内容已经就位的完整画面。"
        "如果用户要去掉某样东西，就描述没有它时的样子，完全不要提到它，也不要说它消失了；"
        "如果用一样东西换掉另一样，只写新的东西；这一条优先于第二条。",
        "reference": "以图片给定的主体会出现在视频中。请在同一个场景里描述它们。",
        "composition": "给定的素材同时以几种方式被保留、跟随或重新生成。请描述由此得到的同一个画面。"
        "用户要去掉或换掉的东西不要提到；这一条优先于第二条。",
        "": "请描述完整的画面，而不只是变化的部分。用户要去掉或换掉的东西不要提到；这一条优先于第二条。",
    },
}

_CUT_OUT = ("a subject cut out on white", "从背景中抠出的主体")
# What the reference pictures of a task are; where nothing is said here: pictures as they are.
_REFERENCES = {
    "image_face": ("a face cut out", "抠出的人脸"),
    "image_depth": ("a picture of how near everything is", "深度图"),
    "image_depthv2": ("a picture of how near everything is", "深度图"),
    "image_pose": ("the pose of people, as lines", "人物姿态线条图"),
    "image_scribble": ("a line drawing", "线稿"),
    "image_gray": ("a picture without colours", "黑白图片"),
    "image_inpainting": ("a picture with a region left out", "缺少一块区域的图片"),
    "image_outpainting": ("a picture whose surroundings are open", "四周待补全的图片"),
} | dict.fromkeys(
    ("image_salient", "image_reference", "reference_anything", "animate_anything", "swap_anything"), _CUT_OUT
)
_PLAIN_REFERENCE = ("a picture", "图片")

_WORDS = {
    ENGLISH: {
        "head": "What is known of this job:",
        "task": "Task: {name} ({help})",
        "white": "What is cut out stands on white there: that white is no part of the scene. Put the subject into the "
        "place that the video shows, and mention no white ground.",
        "video": "A source video is given; you cannot see it, so invent no details of it that the user does not name.",
        "mask": "Only the masked part of it is made.",
        "refs": "Reference pictures: {count}, which you cannot see ({what}). Each shows something that appears in the "
        "video: give each its own clause on its looks and its part in the scene, from what is said of it. The words "
        "'reference' and 'picture' do not belong into the description.",
        "seconds": "The video lasts about {seconds} seconds: tell as much action as fits, and do not state the length.",
        "joint": "; ",
    },
    CHINESE: {
        "head": "关于这次任务：",
        "task": "任务：{name}",  # the help is English, and one language in the rules would draw in the other
        "white": "抠出的主体在图片里是白底：白底不属于场景。请把主体写在视频的环境之中，不要提到白色背景。",
        "video": "给定了源视频；你看不到它，用户没有提到的细节不要编造。",
        "mask": "只重新生成遮罩内的部分。",
        "refs": "参考图片共{count}张，你看不到它们（{what}）。每一张都是视频中会出现的内容：请根据已知的说明，"
        "分别写出各自的外观以及在场景中的作用。描述里不要出现“参考”“图片”这样的字眼。",
        "seconds": "视频时长约{seconds}秒：写出这段时间内能完成的动作，不要写明时长。",
        "joint": "；",
    },
}


def complete(
    mode: str,
    *,
    task: str | None = None,
    refs: int | Sequence[str] = 0,
    has_video: bool = False,
    has_mask: bool = False,
    seconds: float | None = None,
) -> str:
    """The system prompt of `mode` (a key of SYSTEM) with what is known of the job.

    task: a row's name, tasks joined as NAME(...)+NAME, or None. refs: the number of reference pictures, or what each of
    them shows, in words. seconds: the video's length. Raises InputError for a task that there is not.
    """
    system = SYSTEM[mode]
    words = _WORDS[system.language]
    names = task_names(task)
    lines = _task_lines(names, system.language, bool(has_video or has_mask or _count(refs)))
    lines += [words[key] for key, is_given in (("video", has_video), ("mask", has_mask)) if is_given]
    if _count(refs):
        what = words["joint"].join(_described(refs, names, system.language))
        lines.append(words["refs"].format(count=_count(refs), what=what))
        lines += [words["white"]] if any(_REFERENCES.get(name) == _CUT_OUT for name in names) else []
    if seconds:
        lines.append(words["seconds"].format(seconds=f"{seconds:.1f}".removesuffix(".0")))
    return "\n".join([system.text, "", words["head"], *(f"- {line}" for line in lines)]) if lines else system.text


def task_names(task: str | None) -> list[str]:
    """The rows that `task` names: one, several where tasks are joined, none for None. InputError for unknown ones."""
    if not task:
        return []
    if "(" in task or "+" in task:
        from vace.layer_syntax import parse_layers

        return [layer.task for layer in parse_layers(task)]
    from vace.tasks import find_task

    return [find_task(task).name]


def _task_lines(names: Sequence[str], language: str, has_material: bool) -> list[str]:
    """One line for each task, then what each of their groups means, said once."""
    from vace.tasks import TASKS

    groups = _GROUPS[language]
    if not names:
        return [groups[""]] if has_material else []
    rows = [TASKS[name] for name in names]
    lines = [_WORDS[language]["task"].format(name=row.name, help=row.help.rstrip(".")) for row in rows]
    return lines + list(dict.fromkeys(groups[row.group] for row in rows))


def _count(refs: int | Sequence[str]) -> int:
    return refs if isinstance(refs, int) else len(refs)


def _described(refs: int | Sequence[str], names: Sequence[str], language: str) -> list[str]:
    """What each reference is: in the user's words where there are some, else the kind that the task makes."""
    if not isinstance(refs, int):
        return [f"{number}: {text}" for number, text in enumerate(refs, 1)]
    kinds = [_REFERENCES[name] for name in names if name in _REFERENCES] or [_PLAIN_REFERENCE]
    return list(dict.fromkeys(kind[language == CHINESE] for kind in kinds))

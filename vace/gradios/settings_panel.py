"""What a generation is asked for: prompt, model, size, seed, and all else that the base model can be told, folded away.

The folded part follows from vace.settings, vace.bases and vace.flags: a new setting shows up by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import gradio as gr
from gradio.components import Component

from vace.bases import BASES, Base, find_base
from vace.errors import InputError, VaceError
from vace.flags import FLAGS, Flag
from vace.gradios.form import MOST_SEED
from vace.gradios.offers import Model
from vace.gradios.run_panel import QUIET
from vace.gradios.studio import Studio
from vace.parsing import parse_flags
from vace.prompts.modes import AUTO, KINDS
from vace.settings import CHOICES, SHORT_NAMES, defaults_of, describe_preset, resolve_settings

ROWS = {flag.name: flag for flag in FLAGS}
# Not asked here: the server's own device, and kinds of files that a browser cannot play.
SERVERS = ("device", "noise_device", "out_format")
IN_FRONT = ("prompt", "negative_prompt", "preset", "size", "frame_num", "seed", "num_videos")
MACHINE = ("dtype", "offload_model", "t5_cpu", "intermediates", "no_metadata", "allow_truncated")
LABELS = {
    "frame_num": "Frames", "num_videos": "Videos", "stg_scale": "STG scale", "stg_rescale": "STG rescale",
    "stg_mode": "STG mode", "stg_skip_layers": "STG layers", "dtype": "Number format", "t5_cpu": "Text encoder on CPU",
    "no_metadata": "No recipe in the file", "use_prompt_extend": "Write the prompt out",
    "vae_dtype": "Number format of the VAE",
}  # fmt: skip
EXTENDING = (("no", ""), ("as fits model and language", AUTO), *((kind, kind) for kind in KINDS))
# Where the command line's own help speaks of flags.
HELPS = {
    "size": "Or type WxH.",
    "use_prompt_extend": "Have a language model write the prompt out; it is fetched when it is not here.",
    "sampler": "How the steps are taken.",
}  # fmt: skip
MODEL_INFO = "What makes the video."
QUARTERS = (1, 2, 3, 4, 5)  # lengths offered, in quarters of the model's own
PROMPT_LIMIT = 8000
NO_NAME = re.compile(r"[^\w. +-]")  # what no model is called by: the note that shows a name takes markup
_DEFAULT = re.compile(r"\s*\([^()]*\)$")


def asked_settings() -> list[str]:
    """Every setting of any base that is asked folded away, in the order of vace.settings."""
    names = dict.fromkeys(name for base in BASES.values() for name in defaults_of(base))
    return [name for name in names if name not in (*SERVERS, *IN_FRONT)]


def belongs(name: str, base: Base) -> bool:
    """Whether `base` knows the setting."""
    return name in (*defaults_of(base), "prompt", "preset", "use_prompt_extend")


class SettingsPanel:
    """The widgets, built in the current Blocks context; `inputs` in the order in which `flags` takes their values.

    prefix: of the elements' names, #PREFIX-FLAG. seed_outputs: what `seed_used` gives updates for after a run.
    """

    def __init__(self, studio: Studio, prefix: str) -> None:
        self.studio, self.prefix = studio, prefix
        self._usual = [usual_settings(model) for model in studio.models]
        self._widgets: dict[str, Component] = {}
        self._build_front()
        with gr.Accordion("More settings", open=False, elem_id=f"{prefix}-more-settings"):
            asked = asked_settings()
            self._build_rows([name for name in asked if ROWS[name].kind != "bool"])
            self._add("use_prompt_extend", gr.Dropdown(list(EXTENDING), value="", **self._words("use_prompt_extend")))
            for name in [name for name in asked if ROWS[name].kind == "bool"]:
                words = self._words(name)
                self._add(name, gr.Checkbox(False, label=words["info"].rstrip("."), elem_id=words["elem_id"]))
        self.inputs = list(self._widgets.values())
        self._connect()

    def flags(self, values: Sequence) -> dict:
        """Keywords of `vace.generate.generate`; what is empty is left out. Raises InputError as the verb would."""
        given = dict(zip(self._widgets, values, strict=True))
        model = self.studio.models[self._place(given.pop("model"))]
        base = find_base(model.base)
        kept = {name: value for name, value in given.items() if belongs(name, base) and _is_set(name, value)}
        kept = {name: value.strip() if isinstance(value, str) else value for name, value in kept.items()}
        for name, value in kept.items():  # the widgets see to it, a hand-made request does not
            if isinstance(value, str) and len(value) > PROMPT_LIMIT:
                raise InputError(f"--{name}: {len(value)} characters; give {PROMPT_LIMIT} at most")
        flags = parse_flags(base.name, kept)
        resolve_settings(flags.get("prompt"), flags, {}, base)  # wrong numbers are told now, not when its turn comes
        return {"base": base.name, **model.flags, **flags}

    def updates(self, parameters: Mapping) -> list:
        """One update for each of `inputs`, from what `vace.recipes.settings_of` gives: prompt, settings and, where it
        is here, the model. Numbers of another base model than the chosen one stay out."""
        place, note = self._found(parameters)
        shown = self._shown(place)
        shown["model"] |= {"value": place, "info": note}
        same = parameters.get("base") == self.studio.models[place].base
        for name in self._widgets:
            if name in ("model", *MACHINE) and name != "dtype":
                continue
            value = parameters.get(name) if same or name == "prompt" else None
            shown[name]["value"] = self._value(name, value)
        return [gr.update(**shown[name]) for name in self._widgets]

    def seed_used(self, answer: Mapping) -> list:
        """Updates of `seed_outputs` after a run with this answer."""
        seed = answer.get("seed")
        return [seed, gr.update(value=f"Use seed {seed} again", visible=seed is not None)]

    def _build_front(self) -> None:
        shown = self._shown(0)
        self._add("prompt", gr.Textbox(
            lines=3, max_lines=10, max_length=PROMPT_LIMIT, label="Prompt", info="What the video shows, described.",
            elem_id=self._id("prompt"),
        ))  # fmt: skip
        self._add("negative_prompt", gr.Textbox(
            lines=1, max_lines=6, max_length=PROMPT_LIMIT, label="Negative prompt", elem_id=self._id("negative_prompt"),
            info="What it shall not look like. Empty: the model's own; one space: none.", **shown["negative_prompt"],
        ))  # fmt: skip
        with gr.Row():
            choices = [(model.label, place) for place, model in enumerate(self.studio.models)]
            words = {"label": "Model", "info": MODEL_INFO, "elem_id": self._id("model")}
            self._add("model", gr.Dropdown(choices, value=0, min_width=260, **words))
            words = {"label": "Preset", "info": "Several settings at once.", "elem_id": self._id("preset")}
            self._add("preset", gr.Dropdown(value="", **words, **shown["preset"]))
        with gr.Row():
            for name in ("size", "frame_num"):  # what is typed counts as well
                words = self._words(name) | shown[name]
                self._add(name, gr.Dropdown(value="", allow_custom_value=True, min_width=140, **words))
            words = {"label": "Videos", "info": "Seeds s, s+1 ...", "elem_id": self._id("num_videos")}
            self._add("num_videos", gr.Number(1, precision=0, min_width=140, **words))
        with gr.Row(elem_classes="vace-seed"):
            words = {"label": "Seed", "info": "-1 draws one.", "elem_id": self._id("seed")}
            self._add("seed", gr.Number(-1, precision=0, min_width=140, **words))
            self.dice = gr.Button("Random", min_width=100, size="sm", elem_id=self._id("dice"))
            self.again = gr.Button("Again", visible=False, min_width=140, size="sm", elem_id=self._id("again"))
        self.used = gr.State(None)
        self.seed_outputs = [self.used, self.again]

    def _build_rows(self, names: list[str]) -> None:
        shown = self._shown(0)
        with gr.Row():
            for name in names:
                self._add(name, _widget(ROWS[name], {**self._words(name), "min_width": 200, **shown[name]}))

    def _add(self, name: str, widget: Component) -> None:
        self._widgets[name] = widget

    def _id(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def _words(self, name: str) -> dict:
        text = HELPS.get(name) or _DEFAULT.sub("", ROWS[name].help) + "."
        label = LABELS.get(name, name.replace("_", " ").capitalize())
        return {"label": label, "info": text[0].upper() + text[1:], "elem_id": self._id(name)}

    def _connect(self) -> None:
        model, preset = self._widgets["model"], self._widgets["preset"]
        followers = [name for name in self._widgets if name not in ("model", "prompt")]
        outputs = [self._widgets[name] for name in followers]

        def chosen(place) -> list:
            shown = self._shown(self._place(place))
            return [gr.update(**shown[name]) for name in followers]

        model.change(chosen, model, outputs, **QUIET)
        names = dict.fromkeys(name for base in BASES.values() for sets in base.presets.values() for name in sets)
        # A preset serves where nothing else is said.
        cleared = [gr.update(value=_empty(ROWS[name])) for name in names]
        preset.input(lambda: cleared, None, [self._widgets[name] for name in names], **QUIET)
        self.dice.click(lambda: -1, None, self._widgets["seed"], **QUIET)
        self.again.click(lambda seed: seed, self.used, self._widgets["seed"], **QUIET)

    def _place(self, value: object) -> int:
        """What the model's widget holds, as a place among the models; the first one for anything else."""
        return value if isinstance(value, int) and 0 <= value < len(self.studio.models) else 0

    def _shown(self, place: int) -> dict[str, dict]:
        """By widget: what depends on the model, as keywords of gr.update."""
        base, usual = find_base(self.studio.models[place].base), self._usual[place]
        shown: dict[str, dict] = {name: {} for name in ("model", "prompt", *IN_FRONT, "use_prompt_extend")}
        shown |= {name: {"visible": belongs(name, base)} | _usual_shown(ROWS[name], usual) for name in asked_settings()}
        negative = usual["negative_prompt"]
        shown["negative_prompt"] = {"placeholder": base.negative if negative is None else str(negative)}
        presets = [(describe_preset({"preset": name}, base).removeprefix("preset "), name) for name in base.presets]
        shown["preset"] = {"choices": [("as the model is made for", ""), *presets]}
        sizes = [(f"{name}: {width}x{height}", name) for name, (width, height) in base.sizes.items()]
        shown["size"] = {"choices": [(f"usual: {usual['size']}", ""), *sizes]}
        info = f"Or type {base.frame_stride}n+1."
        shown["frame_num"] = {"choices": _lengths(base, int(usual["frame_num"])), "info": info}
        return shown

    def _found(self, parameters: Mapping) -> tuple[int, str]:
        """The place of the model a recipe was made with; where it is not offered, of one of its base; and a note."""
        wanted = parameters.get("model") if isinstance(parameters.get("model"), Mapping) else {}
        name, models = NO_NAME.sub("", str(wanted.get("name", ""))), self.studio.models
        of_base = [place for place, model in enumerate(models) if model.base == parameters.get("base")]
        named = next((place for place in of_base if models[place].name == name), None)
        if named is not None:
            return named, MODEL_INFO
        return next(iter(of_base), 0), f"The video was made with {name[:60] or 'another model'}, not offered here."

    def _value(self, name: str, value: object) -> object:
        """What the widget shows for a value of a recipe."""
        if name == "num_videos":
            return 1
        if name == "seed":
            return value if type(value) is int and -1 <= value <= MOST_SEED else -1
        if name == "negative_prompt" and value == "":
            return " "
        if value is None or name in ("preset", "use_prompt_extend"):
            return _empty(ROWS[name])
        if isinstance(value, (list, tuple)):
            return ",".join(str(one) for one in value)
        return value if isinstance(value, bool) else str(value)


def usual_settings(model: Model) -> dict[str, object]:
    """What the verb takes where nothing is said: published values, under those of the checkpoint's vace.json."""
    from vace.models.checkpoints import find_checkpoint

    base, named = find_base(model.base), {"ckpt_dir": None, "model_name": None, **model.flags}
    try:
        own = find_checkpoint(**named, base=base, no_download=True).defaults
    except VaceError:  # gone meanwhile: the job will say so
        own = {}
    return defaults_of(base) | {SHORT_NAMES.get(name, name): value for name, value in own.items()}


def _lengths(base: Base, usual: int) -> list[tuple[str, str]]:
    """Frame counts to choose from, up to a quarter more than the model's own, with the seconds they last."""
    tokens = (usual - 1) // base.frame_stride
    counts = dict.fromkeys(max(1, tokens * part // 4) * base.frame_stride + 1 for part in QUARTERS)
    named = [(f"{count} ({count / base.fps:.1f} s)", str(count)) for count in counts]
    return [(f"usual: {usual}", ""), *named]


def _choices(row: Flag) -> tuple[str, ...]:
    return CHOICES.get(row.name) or (row.kind if isinstance(row.kind, tuple) else ())


def _empty(row: Flag) -> object:
    """What its widget holds when nothing is said."""
    if row.kind == "bool":
        return False
    return ""


def _usual_shown(row: Flag, usual: Mapping) -> dict:
    """How the widget tells what is taken where nothing is said."""
    value = usual.get(row.name)
    if row.kind == "bool":
        return {}
    text = "as fits" if value is None else ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    choices = _choices(row)
    return {"choices": [(f"usual: {text}", ""), *((one, one) for one in choices)]} if choices else {"placeholder": text}


def _widget(row: Flag, options: dict) -> Component:
    if _choices(row):
        return gr.Dropdown(value="", **options)
    # No gr.Number: it cannot be empty, which here means the usual.
    attributes = gr.InputHTMLAttributes(autocomplete="off", spellcheck=False)
    return gr.Textbox("", max_lines=1, max_length=200, html_attributes=attributes, **options)


def _is_set(name: str, value: object) -> bool:
    """Whether somebody has said something; one space is said of the negative prompt alone."""
    if value is None or value == "" or value is False:
        return False
    return name == "negative_prompt" or not isinstance(value, str) or bool(value.strip())

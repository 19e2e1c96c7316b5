"""A field of the form as a widget."""

from __future__ import annotations

from abc import ABCMeta

import gradio as gr

from vace.gradios.form import Field

USUAL = "the usual"  # what a choice is called that is left to the verb


def _as_sent(self, payload: object) -> str | None:
    return payload if isinstance(payload, str) else None


# A dropdown whose choices follow from another's: what it sends may be of the choices before, so it is not held against
# them; whoever takes the value checks it. Made this way since Gradio writes a file beside every class statement.
Choice = ABCMeta.__new__(
    type(gr.Dropdown),
    "Choice",
    (gr.Dropdown,),
    {"preprocess": _as_sent, "get_block_name": lambda self: "dropdown", "__module__": __name__},
)


def widget(field: Field, elem_id: str, visible: bool = False) -> gr.components.Component:
    """The widget that asks for `field`; empty as long as nothing is chosen."""
    named = {"label": field.label, "info": field.help, "elem_id": elem_id, "visible": visible, "min_width": 220}
    if field.kind == "choice":
        nothing = f"{USUAL}: {field.default}" if field.default else USUAL
        return gr.Dropdown([(nothing, ""), *field.choices], value="", filterable=False, **named)
    if field.kind == "choices":
        return gr.CheckboxGroup(list(field.choices), **named)
    if field.kind == "yes":
        return gr.Checkbox(value=False, **named)
    if field.kind == "lines":
        return gr.Textbox(lines=2, placeholder="a woman in orange", **named)
    # Numbers too: gr.Number shows and sends 0 where nothing is given (seen with 6.31).
    return gr.Textbox(placeholder=field.default or None, max_lines=1, **named)


def shown(field: Field, value: object) -> object:
    """What the widget of `field` holds for a value of `vace.gradios.recall`, None for none."""
    if value is None:
        return {"choices": [], "yes": False}.get(field.kind, "")
    return f"{value}" if field.kind in ("integer", "number") else value

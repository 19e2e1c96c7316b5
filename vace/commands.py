"""What each command does with its options: one call of a verb, or a listing."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from vace.errors import InputError
from vace.job import changed_by
from vace.runs import FILE_FLAGS, PLACES, input_records, read_manifest, split_list

log = logging.getLogger("vace")

NAMES = ("ckpt_dir", "model_name", "text_encoder_path", "vae_path", "lora", "stg_skip_layers", "task", "mode", "from",
         "resume", "decode", "frame_range", "preset")  # fmt: skip
WORDS = ("bbox", "label", "caption", "ref_bbox", "ref_label", "ref_caption")  # materials that are no files


def _from_manifest(command: str, given: dict) -> dict:
    """The options of an earlier run, changed by the ones given now."""
    source = given.pop("from", None)
    if source is None:
        return given
    manifest = read_manifest(source)
    if manifest["command"] == command:
        parameters = manifest["parameters"]
    elif manifest["command"] == "pipeline" and command in manifest.get("stage_parameters", {}):
        parameters = manifest["stage_parameters"][command]
    else:
        raise InputError(f"--from {source}: a manifest of `vace {manifest['command']}`; give it to that command")
    _warn_of_changes(manifest.get("materials") or manifest["inputs"])
    dropped = PLACES + _of_other_task(parameters, given)  # a repeated run gets folders of its own
    kept = {name: value for name, value in parameters.items() if value is not None and name not in dropped}
    if manifest.get("prompt_extension"):
        kept["prompt_extension"] = manifest["prompt_extension"]
    return changed_by(kept, given)


def _of_other_task(parameters: dict, given: dict) -> tuple[str, ...]:
    """Flags of the earlier run that mean nothing to the task asked for now."""
    if given.get("task") in (None, parameters.get("task")):
        return ()
    from vace.materials import PARAMETER_FLAGS
    from vace.tasks import find_task

    params = find_task(given["task"]).params
    return ("mode", *(flag for flag in PARAMETER_FLAGS if flag not in (*params, "seed", "size", "frame_num")))


def refuse_empty(given: dict) -> None:
    """An empty value is mostly a shell variable that was not set: never taken for a flag left out."""
    for flag in (*FILE_FLAGS, *PLACES, *WORDS, *NAMES):
        values = given.get(flag)
        values = values if isinstance(values, list) else [values]
        if any(isinstance(value, str) and not value.strip() for value in values):
            raise InputError(f"--{flag}: empty; give a value, or leave the flag out")


def _warn_of_changes(records: list[dict]) -> None:
    """Tell which inputs are no longer what they were when the manifest was written."""
    for record in records:
        path = Path(record["path"])
        if path.exists() and input_records([(record["flag"], path)])[0]["sha256"] != record["sha256"]:
            log.warning("%s has changed since: the outcome will be another", path)


def _without_base(given: dict) -> dict:
    return {name: value for name, value in given.items() if name != "base"}


def preprocess(**given) -> dict:
    from vace.preprocess import preprocess as verb

    given = _from_manifest("preprocess", given)
    if given.pop("selection", None):
        raise InputError("--from: prepared by `vace pipeline` for its model; repeat it with `vace pipeline --from`")
    if "device" in given:
        from vace.devices import pick_device

        pick_device(given["device"])
    if not given.get("task"):
        raise InputError("--task: say what to make of the materials; `vace tasks` lists the tasks")
    return verb(**given).as_json()


def _decoded(base: str, given: dict) -> dict:
    from vace.decode_again import decode_again

    return decode_again(given.pop("decode"), base=base, **given).as_json()


def wan(**given) -> dict:
    if given.get("decode") is not None:
        return _decoded("wan", given)
    from vace.generate import generate
    from vace.spread import over_processes

    given = _without_base(_from_manifest("wan", given))
    return over_processes(given, lambda flags, warm: generate(base="wan", **flags, warm=warm).as_json())


def ltx(**given) -> dict:
    if given.get("decode") is not None:
        return _decoded("ltx", given)
    from vace.generate import generate

    return generate(base="ltx", **_without_base(_from_manifest("ltx", given))).as_json()


def pipeline(**given) -> dict:
    from vace.pipeline import pipeline as verb

    resume = given.pop("resume", None)
    if resume is not None:
        from vace.pipeline import resumed

        given = changed_by(resumed(Path(resume)), given)
    from vace.spread import over_processes

    given = _from_manifest("pipeline", given)
    return over_processes(given, lambda flags, warm: verb(**flags, warm=warm).as_json())


def plan(progress: bool = True, **given) -> str:
    from vace.plan_verb import plan as verb

    return verb(**given)


def prompt(text: str, progress: bool = True, **given) -> dict:
    from vace.bases import find_base
    from vace.prompts.verb import prompt as verb

    given["base"] = find_base(given.get("base", "wan")).name
    refs = split_list(given.pop("src_ref_images", None), files=True)
    for path in refs:
        if not Path(path).is_file():
            raise InputError(f"--src_ref_images {path}: no such file")
    has = {f"has_{kind}": given.pop(f"src_{kind}", None) is not None for kind in ("video", "mask")}
    return verb(text, refs=len(refs), **has, **given).as_json()


def batch(file: str, **given) -> dict:
    from vace.batch import batch as verb

    return verb(file, **given)


def train(**given) -> dict | None:
    for name in ("data", "out"):
        if not given.get(name):
            raise InputError(f"--{name}: missing; see 'vace train --help'")
    from vace.training.finetune import finetune

    return finetune(**given) or None  # of several processes one answers


def eval(**given) -> str | dict:
    from vace.evaluation import evaluate

    is_bare = given.pop("json", False)
    found = evaluate(**{"workers": None, **given})
    return found.as_json() if is_bare else f"{found.table}\n{json.dumps(found.as_json())}"


def demo(**given) -> None:
    from vace.gradios.demo import demo as verb

    verb(**{name: value for name, value in given.items() if value is not None})


def tasks(name: str | None = None, json: bool = False, **_) -> str | list:
    from vace.listing import explain_task, list_tasks
    from vace.tasks import TASKS

    if json:
        return _row(name).as_dict() if name else [task.as_dict() for task in TASKS.values()]
    return explain_task(_row(name)) if name else list_tasks()


def _row(name: str):
    """The row to explain: more_anything too, which nobody can run by that name."""
    from vace.tasks import TASKS, find_task

    return TASKS[name] if name in TASKS else find_task(name)


def models(action: str | None = None, name: str | None = None, json: bool = False, **_) -> str | list | dict:
    from vace.listing import list_models, model_rows

    if action == "pull":
        from vace.pull import pull

        if not name:
            raise InputError(
                "models pull: say which; `vace models` lists them, `vace models pull all` gets every network"
            )
        return pull(name)
    from vace.network_listing import list_networks, network_rows

    if json:
        return [
            row | {"kind": kind}
            for kind, rows in (("base model", model_rows()), ("network", network_rows()))
            for row in rows
        ]
    return f"{list_models()}\n\n{list_networks()}"


def doctor(json: bool = False, **_) -> str | list:
    from vace.doctor import examine, render

    findings = examine()
    return [finding.as_dict() for finding in findings] if json else render(findings)


def bench(what: str, **given) -> str | dict:
    from vace.bench.verb import bench as verb

    return verb(what, **given)

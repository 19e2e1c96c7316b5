"""The command line: it parses, prints and exits; the verbs do the work. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from vace import __version__
from vace.errors import explained
from vace.flags import flags_for
from vace.parsing import USER_FAULT, Parser, add_flag, normalised

COMMANDS = {
    "preprocess": "materials to src_video, src_mask and src_ref_images",
    "wan": "these and a prompt to a video, by Wan2.1-VACE",
    "ltx": "these and a prompt to a video, by VACE-LTX-Video-0.9",
    "pipeline": "both in one: materials and a prompt to a video",
    "plan": "print what a run of Wan would take in memory, and how it would be laid out; nothing is run",
    "prompt": "write a prompt out, as the models like it, and print what came of it",
    "batch": "many jobs from a file, one JSON object a line; finished ones are never made twice",
    "train": "fine-tune a model on clips of yours: the context blocks, or a LoRA",
    "eval": "measure what a model does with every task, on toy worlds, against baselines",
    "demo": "all of it in a browser: prepare, generate, look at results",
    "tasks": "list the tasks, or explain one",
    "models": "list the base models and networks: where they are; `vace models pull NAME` gets one",
    "doctor": "look at this machine: what works, what is missing, what adds it",
    "bench": "measure speed on this machine: media, annotators, wan, ltx, or what approximate speed costs",
}
OK, OUR_FAULT, INTERRUPTED = 0, 1, 130


def build_parser(command: str | None = None, prog: str = "vace") -> argparse.ArgumentParser:
    """The parser of everything, or of one command alone (for the script doors)."""
    if command is not None:
        parser = Parser(prog=prog, description=COMMANDS[command], allow_abbrev=False)
        _fill(parser, command)
        return parser
    parser = Parser(prog=prog, description="All-in-one video creation and editing with the VACE models.")
    parser.add_argument("--version", action="version", version=f"vace {__version__}")
    actions = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        _fill(actions.add_parser(name, help=text, description=text, allow_abbrev=False), name)
    return parser


def _fill(parser: argparse.ArgumentParser, command: str) -> None:
    for flag in flags_for(command):
        add_flag(parser, flag)
    if command == "prompt":
        parser.add_argument("text", help="the prompt")
    if command == "plan":
        parser.add_argument("--refs", type=int, default=0, help="reference pictures (0)")
    if command == "tasks":
        parser.add_argument("name", nargs="?", help="explain this task")
    if command == "models":
        parser.add_argument("action", nargs="?", choices=("pull",), help="pull NAME: fetch its weights now")
        parser.add_argument("name", nargs="?", help="a network, mediapipe, a base model, or all (every network)")
    if command in ("tasks", "models", "doctor", "bench"):
        parser.add_argument("--json", action="store_true", help="as JSON")
    if command == "batch":
        parser.add_argument("file", help="the jobs (.jsonl): command, its flags, and an id if you like")
        parser.add_argument("--out", help="folder for results.jsonl and each job's folder (results/NAME OF THE FILE)")
        parser.add_argument("--shard", metavar="I/N", help="only every Nth job: part I of N, for schedulers")
        parser.add_argument("--gpus", metavar="A,B", help="one process for each of these CUDA devices, jobs shared out")
        parser.add_argument("--retry", type=int, default=0, help="tries more where a job fails by no fault of its own")
        parser.add_argument("--ray", nargs="?", const="local", metavar="ADDRESS", help="on a Ray cluster, a worker for"
                            " each GPU; without an address on this machine")  # fmt: skip
        parser.add_argument("--dry_run", action="store_true", help="check and list the jobs, run none")
    if command == "demo":
        parser.add_argument("page", nargs="?", default="all", choices=("all", "preprocess", "wan", "ltx"),
                            help="everything, or only the part for this (all)")  # fmt: skip
        parser.add_argument("--host", "--server_name", help="address to listen on (127.0.0.1: this machine alone)")
        parser.add_argument("--port", "--server_port", type=int, help="port to listen on (7860)")
        parser.add_argument("--share", action="store_true", help="also by a public link, through Gradio's servers")
        parser.add_argument("--root_path", help="where a proxy in front mounts the pages, such as /vace")
        parser.add_argument("--out", "--save_dir", help="folder that holds uploads, processed and results (this one)")
        parser.add_argument("--gpus", metavar="A,B", help="a job at a time on each of these CUDA devices")
        parser.add_argument("--max_upload", type=int, help="largest file taken, in MB (512)")
        parser.add_argument("--open", action="store_true", help="open the browser of this machine")
    if command == "bench":
        parser.add_argument("what", choices=("media", "annotators", "wan", "ltx", "approximations"))
        parser.add_argument("--ckpt_dir", help="checkpoint for bench wan and approximations (tiny) and ltx (random"
                            " weights)")  # fmt: skip
        parser.add_argument("--model_name", help="bench wan, whole runs: vace-1.3B, vace-14B, or mid, a model of random"
                            " weights for a processor (with --vs alone: mid)")  # fmt: skip
        parser.add_argument("--random_weights", nargs="?", const=True, metavar="NAME", help="bench wan: draw the"
                            " weights of the model; bench ltx without a checkpoint: full or mid (mid)")  # fmt: skip
        parser.add_argument("--vs", choices=("diffusers",), help="bench wan: whole runs in turn with its pipeline, same"
                            " tensors, inputs and noise levels, one process, caches cold")  # fmt: skip
        parser.add_argument(
            "--device", default="auto", help="for bench wan, ltx and approximations: auto, cpu, cuda or cuda:N"
        )
        parser.add_argument("--size", help="bench wan, whole runs: 480p, 720p or WxH (the model's; mid: 320x240)")
        parser.add_argument("--steps", type=int, help="likewise: steps of a run with references (50; mid: 20)")
        parser.add_argument("--text_steps", help="likewise: steps of the runs of words alone (4,20,50)")
        parser.add_argument("--samples", type=int, help="likewise: pairs (9; of runs on CUDA 3); of words alone only"
                            " the shortest runs as often, the others a third")  # fmt: skip
        parser.add_argument("--seed", type=int, help="likewise: of weights, inputs, and the order in the pairs (0)")
        parser.add_argument("--frames", type=int, help="frames of the clip (media 300, annotators 81), or of the video")
        parser.add_argument("--long_frames", type=int, default=3000, help="frames of the long clip of bench media")
        parser.add_argument("--out", help="folder for the .json and .md (printed only when absent)")


def _prepare_logging(quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("vace")
    logger.handlers = [handler]
    logger.setLevel(level)


def _options(namespace: argparse.Namespace) -> dict:
    given = {name: value for name, value in vars(namespace).items() if name not in ("command", "quiet", "verbose")}
    return given | {"progress": not getattr(namespace, "quiet", False)}


def _run(command: str, namespace: argparse.Namespace) -> object:
    """The command's outcome: an object to print as one JSON line, or text, or None."""
    from vace import commands

    action: Callable = getattr(commands, command)
    options = _options(namespace)
    commands.refuse_empty(options)
    return action(**options)


def _fail(prog: str, error: BaseException, verbose: bool) -> int:
    with contextlib.suppress(ValueError):  # a second Ctrl-C shall not break into the first one's message
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        print(f"{prog}: interrupted; nothing half-written was left", file=sys.stderr)
        return INTERRUPTED
    line, is_ours = explained(prog, error)
    hint = "; run it again with --verbose for the traceback" if is_ours and not verbose else ""
    print(line + hint, file=sys.stderr)
    return OUR_FAULT if is_ours else USER_FAULT


def _as_line(outcome: object) -> str:
    """One line of JSON, other scripts than Latin readable where the terminal can show them."""
    is_wide = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(outcome, ensure_ascii=not is_wide)


def _terminated(signum, frame):
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None, command: str | None = None, prog: str = "vace") -> int:
    """Run one command. The exit status: 0 done, 2 the user's input or machine, 1 a fault of ours, 130 stopped."""
    given = normalised(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = build_parser(command, prog)
        namespace, unknown = parser.parse_known_args(given)
        if unknown:  # of the command, so that its own help is named
            owner = prog if command else f"{prog} {namespace.command}"
            Parser(prog=owner).error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    name = command or namespace.command
    verbose = getattr(namespace, "verbose", False)
    _prepare_logging(getattr(namespace, "quiet", False), verbose)
    with contextlib.suppress(ValueError):  # not in the main thread: whoever runs us there handles its own signals
        signal.signal(signal.SIGTERM, _terminated)
    try:
        outcome = _run(name, namespace)
        if outcome is not None:
            print(outcome if isinstance(outcome, str) else _as_line(outcome), flush=True)
        return USER_FAULT if isinstance(outcome, dict) and outcome.get("failed") else OK
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `vace tasks | head`: not an error
        return OK
    except (Exception, KeyboardInterrupt) as error:
        return _fail(prog if command else f"{prog} {name}", error, verbose)
    finally:
        logging.getLogger("vace").handlers = []
        logging.getLogger("vace").setLevel(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())

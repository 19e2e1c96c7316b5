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
from vace.errors import VaceError
from vace.flags import FLAGS, Flag, flags_for

COMMANDS = {
    "preprocess": "materials to src_video, src_mask and src_ref_images",
    "wan": "these and a prompt to a video, by Wan2.1-VACE",
    "ltx": "these and a prompt to a video, by VACE-LTX-Video-0.9",
    "pipeline": "both in one: materials and a prompt to a video",
    "prompt": "write a prompt out, as the models like it, and print what came of it",
    "tasks": "list the tasks, or explain one",
    "models": "list the base models and networks: where they are; `vace models pull NAME` gets one",
    "doctor": "look at this machine: what works, what is missing, what adds it",
    "bench": "measure speed on this machine: media, annotators, wan or ltx",
}
OK, OUR_FAULT, USER_FAULT, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """Its errors are one line and name the help, instead of printing all flags."""

    def error(self, message: str):
        self.exit(USER_FAULT, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def _truth(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither True nor False")


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    names = [f"--{name}" for name in (flag.name, *flag.others)]
    options: dict = {"dest": flag.name, "default": argparse.SUPPRESS, "help": flag.help.replace("%", "%%")}
    if flag.kind == "bool":
        options |= {"nargs": "?", "const": True, "type": _truth, "metavar": "True|False"}
    elif flag.kind == "list":
        options |= {"action": "append", "metavar": "A[,B]"}
    elif flag.kind == "phrases":
        options |= {"action": "append", "metavar": "TEXT"}
    elif isinstance(flag.kind, tuple):
        options |= {"choices": flag.kind} | ({"nargs": "?", "const": flag.bare} if flag.bare else {})
    else:
        options |= {"type": {"text": str, "int": int, "float": float}[flag.kind], "metavar": flag.kind.upper()}
    parser.add_argument(*names, **options)


def build_parser(command: str | None = None, prog: str = "vace") -> argparse.ArgumentParser:
    """The parser of everything, or of one command alone (for the script doors)."""
    if command is not None:
        parser = _Parser(prog=prog, description=COMMANDS[command], allow_abbrev=False)
        _fill(parser, command)
        return parser
    parser = _Parser(prog=prog, description="All-in-one video creation and editing with the VACE models.")
    parser.add_argument("--version", action="version", version=f"vace {__version__}")
    actions = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        _fill(actions.add_parser(name, help=text, description=text, allow_abbrev=False), name)
    return parser


def _fill(parser: argparse.ArgumentParser, command: str) -> None:
    for flag in flags_for(command):
        _add(parser, flag)
    if command == "prompt":
        parser.add_argument("text", help="the prompt")
    if command == "tasks":
        parser.add_argument("name", nargs="?", help="explain this task")
    if command == "models":
        parser.add_argument("action", nargs="?", choices=("pull",), help="pull NAME: fetch its weights now")
        parser.add_argument("name", nargs="?", help="a network, mediapipe, a base model, or all (every network)")
    if command in ("tasks", "models", "doctor"):
        parser.add_argument("--json", action="store_true", help="as JSON")
    if command == "bench":
        parser.add_argument("what", choices=("media", "annotators", "wan", "ltx"))
        parser.add_argument("--ckpt_dir", help="checkpoint for bench wan (tiny) and ltx (random weights)")
        parser.add_argument("--random_weights", default="mid", help="bench ltx without a checkpoint: full or mid (mid)")
        parser.add_argument("--device", default="auto", help="for bench ltx: auto, cpu, cuda or cuda:N")
        parser.add_argument("--frames", type=int, help="frames of the clip (media 300, annotators 81), or of the video")
        parser.add_argument("--long_frames", type=int, default=3000, help="frames of the long clip of bench media")
        parser.add_argument("--out", help="folder for the .json and .md (printed only when absent)")


def _normalised(arguments: Sequence[str]) -> list[str]:
    """Known flags with underscores, so that --ckpt-dir is --ckpt_dir; values that look like flags attached to theirs.

    `--seed -1` and `--prompt '--a-b'` become `--flag=value`: argparse would take such values for flags.
    """
    kinds = {name: flag.kind for flag in FLAGS for name in (flag.name, *flag.others)}
    kinds |= dict.fromkeys(("ckpt_dir", "frames", "long_frames", "out", "random_weights"), "text")
    bare = {flag.name: flag for flag in FLAGS if flag.bare}
    result: list[str] = []
    waiting = False  # whether the last flag still wants its value
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if argument.startswith("--") and name in kinds and not (waiting and " " in argument):
            if name in bare and not equals and following not in bare[name].kind:
                equals, value = "=", bare[name].bare  # what follows is no value of its, such as the prompt itself
            result.append(f"--{name}{equals}{value}")
            waiting = not equals and kinds[name] != "bool"
        elif waiting and argument.startswith("-"):
            result[-1] += "=" + argument
            waiting = False
        else:
            result.append(argument)
            waiting = False
    return result


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
    if isinstance(error, VaceError):
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_FAULT
    if isinstance(error, KeyboardInterrupt):
        print(f"{prog}: interrupted; nothing half-written was left", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("vace"):
        remedy = "run `bash scripts/setup.sh`, then use .venv/bin/python or `source .venv/bin/activate`"
        print(f"{prog}: the package {error.name} is missing in {sys.executable}; {remedy}", file=sys.stderr)
        return USER_FAULT
    text = f"{type(error).__name__}: {error}"
    hint = "" if verbose else "; run it again with --verbose for the traceback"
    print(f"{prog}: a fault of ours, not of your input: {' '.join(text.split())}{hint}", file=sys.stderr)
    return OUR_FAULT


def _as_line(outcome: object) -> str:
    """One line of JSON, other scripts than Latin readable where the terminal can show them."""
    is_wide = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(outcome, ensure_ascii=not is_wide)


def _terminated(signum, frame):
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None, command: str | None = None, prog: str = "vace") -> int:
    """Run one command. The exit status: 0 done, 2 the user's input or machine, 1 a fault of ours, 130 stopped."""
    given = _normalised(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = build_parser(command, prog)
        namespace, unknown = parser.parse_known_args(given)
        if unknown:  # of the command, so that its own help is named
            owner = prog if command else f"{prog} {namespace.command}"
            _Parser(prog=owner).error(f"unrecognized arguments: {' '.join(unknown)}")
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
        return OK
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

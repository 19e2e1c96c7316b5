"""The command line: it parses, prints and exits; the verbs do the work. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from vace import __version__
from vace.errors import VaceError
from vace.flags import Flag, flags_for

COMMANDS = {
    "preprocess": "materials to src_video, src_mask and src_ref_images",
    "wan": "these and a prompt to a video, by Wan2.1-VACE",
    "pipeline": "both in one: materials and a prompt to a video",
    "tasks": "list the tasks, or explain one",
    "models": "list the base models: where they are, or how to get them",
    "doctor": "look at this machine: what works, what is missing, what adds it",
    "bench": "measure speed on this machine: media or wan",
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
    elif isinstance(flag.kind, tuple):
        options |= {"choices": flag.kind}
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
    if command == "tasks":
        parser.add_argument("name", nargs="?", help="explain this task")
    if command in ("tasks", "models", "doctor"):
        parser.add_argument("--json", action="store_true", help="as JSON")
    if command == "bench":
        parser.add_argument("what", choices=("media", "wan"))
        parser.add_argument("--ckpt_dir", default="tiny", help="checkpoint for bench wan (tiny)")
        parser.add_argument("--frames", type=int, help="frames of the short clip (300), or of the video (the model's)")
        parser.add_argument("--long_frames", type=int, default=3000, help="frames of the long clip of bench media")
        parser.add_argument("--out", help="folder for the .json and .md (printed only when absent)")


def _underscored(arguments: Sequence[str]) -> list[str]:
    """Flags with their dashes as underscores, so that --ckpt-dir and --ckpt_dir are the same; values untouched."""
    result = []
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            argument = "--" + name.replace("-", "_") + equals + value
        result.append(argument)
    return result


def _attached(arguments: list[str]) -> list[str]:
    """`--seed -1` and `--negative_prompt '-x'` as `--flag=value`: argparse would take such values for flags."""
    result: list[str] = []
    for argument in arguments:
        follows_flag = bool(result) and result[-1].startswith("--") and "=" not in result[-1]
        if follows_flag and argument.startswith("-") and not argument.startswith("--"):
            result[-1] += "=" + argument
        else:
            result.append(argument)
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
    return action(**_options(namespace))


def _fail(prog: str, error: BaseException, verbose: bool) -> int:
    if verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, VaceError):
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_FAULT
    if isinstance(error, KeyboardInterrupt):
        print(f"{prog}: interrupted; nothing half-written was left", file=sys.stderr)
        return INTERRUPTED
    text = f"{type(error).__name__}: {error}"
    hint = "" if verbose else "; run it again with --verbose for the traceback"
    print(f"{prog}: a fault of ours, not of your input: {' '.join(text.split())}{hint}", file=sys.stderr)
    return OUR_FAULT


def _terminated(signum, frame):
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None, command: str | None = None, prog: str = "vace") -> int:
    """Run one command. The exit status: 0 done, 2 the user's input or machine, 1 a fault of ours, 130 stopped."""
    given = _attached(_underscored(sys.argv[1:] if arguments is None else arguments))
    try:
        namespace = build_parser(command, prog).parse_args(given)
    except SystemExit as stop:
        return int(stop.code or 0)
    name = command or namespace.command
    verbose = getattr(namespace, "verbose", False)
    _prepare_logging(getattr(namespace, "quiet", False), verbose)
    try:
        signal.signal(signal.SIGTERM, _terminated)
    except ValueError:  # not in the main thread: whoever runs us there handles its own signals
        pass
    try:
        outcome = _run(name, namespace)
        if outcome is not None:
            print(outcome if isinstance(outcome, str) else json.dumps(outcome, ensure_ascii=False), flush=True)
        return OK
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `vace tasks | head`: not an error
        return OK
    except (Exception, KeyboardInterrupt) as error:
        return _fail(prog if command else f"{prog} {name}", error, verbose)
    finally:
        logging.getLogger("vace").handlers = []


if __name__ == "__main__":
    sys.exit(main())

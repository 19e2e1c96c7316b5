"""Flags as argparse takes them: one way for the command line and for the jobs of a batch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from vace.errors import InputError
from vace.flags import FLAGS, Flag, flags_for

USER_FAULT = 2
# Options of single commands that are no flags of the table.
EXTRA_OPTIONS = ("ckpt_dir", "frames", "long_frames", "out", "random_weights", "shard", "retry", "gpus", "ray", "host",
                 "port", "root_path", "max_upload", "server_name", "server_port", "vs", "samples",
                 "text_steps")  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Its errors are one line and name the help, instead of printing all flags."""

    def error(self, message: str):
        self.exit(USER_FAULT, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def _truth(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither True nor False")


def add_flag(parser: argparse.ArgumentParser, flag: Flag) -> None:
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


def normalised(arguments: Sequence[str]) -> list[str]:
    """Known flags with underscores, so that --ckpt-dir is --ckpt_dir; values that look like flags attached to theirs.

    `--seed -1` and `--prompt '--a-b'` become `--flag=value`: argparse would take such values for flags.
    """
    kinds = {name: flag.kind for flag in reversed(FLAGS) for name in (flag.name, *flag.others)}
    kinds |= dict.fromkeys(EXTRA_OPTIONS, "text") | {"dry_run": "bool", "json": "bool"}
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


class _Strict(Parser):
    """Its errors are raised, without the words of a terminal."""

    def error(self, message: str):
        raise InputError(message)


def parse_flags(command: str, given: Mapping[str, object]) -> dict[str, object]:
    """Flags of `command` as an object has them, to the values a command line would give.

    given: flag -> text, number, True or False, or a list of these; null is a flag left out. Names may have their
    dashes. Raises InputError for what the command line would refuse.
    """
    parser = _Strict(prog=command, allow_abbrev=False, add_help=False)
    for flag in flags_for(command):
        add_flag(parser, flag)
    arguments = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (dict, list)):
                raise InputError(
                    f"--{name}: {one} is no value; give a text, a number, true or false, or a list of these"
                )
            if one is not None:
                arguments.append(f"--{name.lstrip('-').replace('-', '_')}={one}")
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise InputError(f"'{unknown[0].partition('=')[0].lstrip('-')}' is no flag of {command}")
    return vars(namespace)

"""Run by the Python of a vLLM server, never by qtop's: reads words with that vLLM's parser and says what it says.

Its input is {"how", "what", "words"} as JSON; it prints one line. Standard library only, beside the vLLM it is about:
module names moved between 0.8 and 0.33.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


class Said(Exception):
    """What the parser does not take."""


def _first(attribute: str, *names: str) -> Any:
    for name in names:
        try:
            return getattr(importlib.import_module(name), attribute)
        except (ImportError, AttributeError):
            continue
    return None


def _error(self: object, message: str) -> None:
    raise Said(message)


def _main() -> dict[str, str]:
    ask = json.load(sys.stdin)
    if ask["how"] == "script":  # what would be first on the path of that script
        sys.path[0] = str(Path(ask["what"]).resolve().parent)
    try:
        version = str(importlib.import_module("vllm").__version__)
    except ImportError as error:
        return {"unknown": f"vLLM cannot be imported: {error}"}
    flexible = _first("FlexibleArgumentParser", "vllm.utils.argparse_utils", "vllm.utils")
    places = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
    make, validate = _first("make_arg_parser", *places), _first("validate_parsed_serve_args", *places)
    if flexible is None or make is None:
        return {"unknown": f"where vLLM {version} keeps its parser is not known"}
    flexible.error = _error
    words = list(ask["words"])
    parser = flexible(prog="vllm")
    if words[:1] == ["serve"]:
        one = make(parser.add_subparsers(dest="subparser").add_parser("serve"))
        if not any(action.dest == "model_tag" for action in one._actions):  # before 0.10
            one.add_argument("model_tag", type=str, nargs="?")
    else:
        make(parser)
    try:
        told = parser.parse_args(words)
        if validate is not None:
            validate(told)
    except (Said, ValueError, TypeError, SystemExit) as refused:
        return {"refused": str(refused) or "its parser ends"}
    return {"version": version}


if __name__ == "__main__":
    print("QTOP-PARSER:" + json.dumps(_main()), flush=True)
    os._exit(0)

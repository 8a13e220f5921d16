"""The text of systemd units: which command a unit starts, its words, and words written so that systemd reads them back.

Source: systemd.syntax(7), systemd.service(5) "COMMAND LINES", systemd.unit(5) "SPECIFIERS"; extract-word.c, env-util.c.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from qtop.act.launchers.respell import Token
from qtop.errors import Refused

PREFIXES = "@-:+!|"
"""Of the program: argv[0] of one's own, failure is no failure, no variables, privileges, a shell."""
_BLANK = " \t\n\r"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_NUMBERS = (("x", 2, 16), ("u", 4, 16), ("U", 8, 16))
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,+@^~\[\]{}()*?<>&|!#-]+")
"""Words that need no quotes: all that is here means itself ("%" and "$" are doubled first, ";" is not here)."""
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def assignments(text: str, section: str, key: str) -> list[str]:
    """The values of a key in a section, in order, an empty one too; lines that go on are joined."""
    found: list[str] = []
    here = ""
    for line in _lines(text):
        if line.startswith("[") and line.endswith("]"):
            here = line[1:-1]
            continue
        name, equals, value = line.partition("=")
        if equals and here == section and name.strip(_BLANK) == key:
            found.append(value.strip(_BLANK))
    return found


def _lines(text: str) -> Iterator[str]:
    """Lines without comments, also those in the middle of a line that goes on."""
    whole = ""
    for line in re.split(r"\r\n|[\n\r\0]", text):
        bare = line.strip(_BLANK)
        if bare.startswith(("#", ";")) or (not bare and not whole):
            continue
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        yield (whole + line).strip(_BLANK)
        whole = ""
    if whole:
        yield whole.strip(_BLANK)


def effective(texts: Sequence[str], section: str = "Service", key: str = "ExecStart") -> list[str]:
    """The values in force of a key that is a list: each file adds to those before, an empty value empties."""
    found: list[str] = []
    for text in texts:
        for value in assignments(text, section, key):
            found = [*found, value] if value else []
    return found


def split(command: str) -> list[tuple[str, str]]:
    """Each word as it is written, and as it is meant. Errors: Refused for several commands, or quotes left open."""
    found: list[tuple[str, str]] = []
    at = 0
    while True:
        while at < len(command) and command[at] in _BLANK:
            at += 1
        if at >= len(command):
            return found
        begin = at
        if command[at] == ";" and command[at + 1 : at + 2] in ("", *_BLANK):
            raise Refused("the unit starts several commands one after another", "Change it by hand.")
        if command[at : at + 2] == "\\;" and command[at + 2 : at + 3] in ("", *_BLANK):
            found.append(("\\;", ";"))
            at += 2
            continue
        at, word = _word(command, at)
        found.append((command[begin:at], word))


def _word(command: str, at: int) -> tuple[int, str]:
    """One word from here: where it ends, and what it means."""
    word, quote = "", ""
    while at < len(command):
        char = command[at]
        if char == "\\":
            at, char = _escape(command, at + 1)
            word += char
            continue
        at += 1
        if quote:
            if char == quote:
                quote = ""
                continue
        elif char in "'\"":
            quote = char
            continue
        elif char in _BLANK:
            return at - 1, word
        word += char
    if quote:
        raise Refused("the unit's ExecStart= has a quote that does not end", "Mend it by hand.")
    return at, word


def _escape(command: str, at: int) -> tuple[int, str]:
    """What follows a backslash: where it ends, and the character. Unknown ones stay as they are."""
    char = command[at : at + 1]
    if char in _ESCAPES:
        return at + 1, _ESCAPES[char]
    for letter, digits, base in _NUMBERS:
        number = command[at + 1 : at + 1 + digits]
        if char == letter and re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", number):
            return at + 1 + digits, chr(int(number, base))
    if re.fullmatch(r"[0-7]{3}", command[at : at + 3]):
        return at + 3, chr(int(command[at : at + 3], 8))
    return at + 1, char if char in "\\\"'" else f"\\{char}"


def tokens(command: str, environ: Mapping[str, str] | None) -> list[Token]:
    """The words of ExecStart= with what they become; None: the environment that it ran with is not known.

    Errors: Refused where that would have to be known.
    """
    found: list[Token] = []
    verbatim = False
    for number, (raw, word) in enumerate(split(command)):
        if number == 0:
            bare = word.lstrip(PREFIXES)
            verbatim = ":" in word[: len(word) - len(bare)]
            found.append(Token(raw, (bare,)))
        else:
            found.append(_token(raw, word, None if verbatim else environ, verbatim))
    return found


def _token(raw: str, word: str, environ: Mapping[str, str] | None, verbatim: bool) -> Token:
    whole = re.fullmatch(r"\$([^{$].*)", word, re.DOTALL)
    if whole and not verbatim:
        if environ is None:
            raise Refused(
                f"the unit fills in {word}, and the environment of its process may not be read",
                "Run qtop as root (sudo qtop …).",
            )
        return Token(raw, tuple(meant for _, meant in split(environ.get(whole[1], "").replace(";", "\\x3b"))))
    filled: list[str | None] = []
    for part in _specified(word):
        filled += [None] if part is None else _filled(part, environ, verbatim)
    if all(part is not None for part in filled):
        return Token(raw, ("".join(part or "" for part in filled),))
    return Token(raw, (re.compile("".join(".*" if part is None else re.escape(part) for part in filled), re.DOTALL),))


def _specified(word: str) -> list[str | None]:
    """With specifiers (%i) as None and doubled ones as one."""
    parts: list[str | None] = [""]
    for piece in re.split(r"(%.)", word, flags=re.DOTALL):
        if piece.startswith("%") and len(piece) == 2 and piece != "%%":
            parts += [None, ""]
        else:
            parts[-1] = f"{parts[-1]}{'%' if piece == '%%' else piece}"
    return parts


def _filled(text: str, environ: Mapping[str, str] | None, verbatim: bool) -> list[str | None]:
    """With variables filled in; None where one is not known."""
    if verbatim:
        return [text]
    found: list[str | None] = []
    end = 0
    for match in _VARIABLE.finditer(text):
        found.append(text[end : match.start()])
        end = match.end()
        if match[1] is None:
            found.append("$")
        else:
            found.append(None if environ is None else environ.get(match[1], ""))
    return [*found, text[end:]]


def quoted(word: str, verbatim: bool = False) -> str:
    """A word that systemd reads as exactly this: no specifier, no variable, no separator. ``verbatim``: the unit's
    program has the prefix ":", behind which a "$" means itself."""
    doubled = word.replace("%", "%%")
    if not verbatim:
        doubled = doubled.replace("$", "$$")
    if word and _PLAIN.fullmatch(doubled.replace("%", "").replace("$", "") or "x"):
        return doubled
    text = ""
    for char in doubled:
        number = ord(char)
        if char in '"\\':
            text += f"\\{char}"
        elif number < 32 or number == 127 or 0xDC80 <= number <= 0xDCFF:  # the last are bytes that are no UTF-8
            text += f"\\x{number & 0xFF:02x}"
        else:
            text += char
    return f'"{text}"'


def takes_verbatim(command: str) -> bool:
    """Whether no variables are filled in: the program has the prefix ":"."""
    first = split(command)[0][1]
    return ":" in first[: len(first) - len(first.lstrip(PREFIXES))]

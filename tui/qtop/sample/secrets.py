"""Secrets and people's texts, in names and in values: how they are recognised and masked. Pure."""

from __future__ import annotations

import json
import re

MASK = "***"

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# fmt: off
_SECRET_WORDS = frozenset({
    "KEY", "KEYS", "APIKEY", "APIKEYS", "TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWORDS", "PASSWD",
    "PASSPHRASE", "AUTH", "AUTHORIZATION", "BEARER", "CREDENTIAL", "CREDENTIALS", "COOKIE", "COOKIES",
    "PWD", "PASSCODE", "PAT", "SIGNATURE", "WEBHOOK", "DSN", "JWT",
})
# fmt: on
_WRITTEN_AS_ONE = re.compile(
    r"(?:ACCESS|PRIVATE|AUTH|SESSION|SIGNING|ENCRYPTION|MASTER|ADMIN|BEARER|REFRESH|API|HF|USER|CLIENT)(?:KEY|TOKEN)S?"
)
_COUNTS = frozenset({"THRESHOLD", "BUDGET", "LIMIT", "COUNT", "SIZE", "ID", "IDS"})
"""Behind TOKEN they make it a token of text."""
_PATHS = frozenset({"FILE", "PATH"})
"""Behind KEY they make it the place where one lies: --ssl-key-file."""
_SECRET_PARTS = ("SECRET", "PASSW", "PASSPHRASE", "CREDENTIAL", "APIKEY", "API_KEY", "API-KEY", "COOKIE")

# fmt: off
TEXTS = frozenset({
    "prompt", "system_prompt", "chat_template", "grammar", "json_schema", "default_chat_template", "in_prefix",
    "in_suffix", "reverse_prompt", "chat_template_kwargs", "default_chat_template_kwargs", "completion_template",
    "override_generation_config",
})
# fmt: on
"""Settings whose value is text of a person's: that they are set is all that is told."""
SHORT_TEXTS = frozenset({"-p", "-sys", "-j", "-r"})
"""The same on a llama.cpp's command line; elsewhere they take numbers (TGI's port, vLLM's rank)."""
_PLAIN = re.compile(r"[-+]?\d+(?:\.\d+)?|true|false|on|off|yes|no|none|auto", re.IGNORECASE)
_PATH = re.compile(r"(?:\.{0,2}|~)/[^\s{}]*|[^\s{}]+\.(?:jinja2?|j2|json|txt|tmpl|template)")

_STRONG = r"passw|passphrase|secret|api[-_]?key|access[-_]?key|private[-_]?key|auth[-_]?key|credential|authorization"
VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?P<quote>\\+["']).*?(?P=quote)|\S+)"""
IS_STRONG = re.compile(_STRONG, re.IGNORECASE)
IS_SECRET = re.compile(rf"(?:{_STRONG})|token$", re.IGNORECASE)
_OPEN = rf"(?!{re.escape(MASK)})"
"""What is masked already ends there: what stands behind it is looked at by itself."""
# Every pattern begins with something rare, so that a long text is searched in linear time.
_KEYED = re.compile(
    rf"(?P<strong>(?:{_STRONG})[\w-]{{0,64}})(?P<close>\\*[\"'])?(?P<sep>\s*[:=]\s*|\s+){_OPEN}(?P<value>{VALUE})"
    rf"|(?P<token>token)(?P<close2>\\*[\"'])?(?P<sep2>\s*[:=]\s*|\s+){_OPEN}"
    rf"(?P<value2>{VALUE.replace('quote', 'quote2')})",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED_KEY = re.compile(rf"(?P<head>[\"'](?P<key>[\w.-]{{1,64}})\\*[\"']\s*:\s*)(?P<value>{VALUE})", re.DOTALL)
_TO_THE_NEXT_FLAG = VALUE.replace(r"\S+", r".+?(?=\s-|$)")
_TEXT_FLAG = re.compile(
    rf"(?<![\w-])(?P<flag>--(?:{'|'.join(sorted(TEXTS)).replace('_', '[-_]')})(?:\.[\w.-]{{1,64}})?|-sys)(?P<sep>\s+|=)"
    rf"(?P<value>{_TO_THE_NEXT_FLAG})",
    re.DOTALL,
)
_SHORT_FLAG = re.compile(rf"(?<![\w-])(?P<flag>-[pjr])(?P<sep>\s+|=)(?P<value>{VALUE})", re.DOTALL)
_AUTHORIZATION = re.compile(r"\b(authorization)(\s*[:=]\s*)[^\n\"',]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer)\s+[^\s\"',]+", re.IGNORECASE)
_SHAPES = re.compile(
    r"\b(?:(?:hf_|api_org_|sk-|[sr]k_live_|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|nvapi-|gsk_|pypi-|AIza)[\w-]{12,}"
    r"|A[KS]IA[0-9A-Z]{16}\b|eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?)"
)
_URL = re.compile(r"(?<=[A-Za-z0-9+.-])://([^\s\"'<>]+)")
_QUERY = re.compile(r"(?<=[^\s?])\?(?=[\w.~%-]{1,64}=)[^\s\"'<>]+")
_NAME_BEFORE = re.compile(r"[\w-]*\Z")


def is_secret_name(name: str) -> bool:
    """Whether a flag, a key or a variable of this name holds a secret. "max_tokens" and "TOKENIZERS_…" do not.

    Names are cut into words, so that TOKEN is told from TOKENS; some parts count wherever they stand.
    """
    upper = name.upper()
    if any(part in upper for part in _SECRET_PARTS):
        return True
    words = [word.upper() for word in _WORDS.findall(name)]
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word == "TOKEN" and (before == "PER" or after in _COUNTS):
            continue
        if word == "KEY" and after in _PATHS:
            continue
        # PASS ends a name (VLLM_PASS); elsewhere it is a compiler's (pass_config)
        if word in _SECRET_WORDS or _WRITTEN_AS_ONE.fullmatch(word) or (word == "PASS" and not after):
            return True
    return False


def is_secret(name: str) -> bool:
    """As ``is_secret_name``, and for names that are not cut into words ("hftoken"); for what goes into a file."""
    return bool(IS_SECRET.search(name)) or is_secret_name(name)


def is_text_name(name: str) -> bool:
    """Whether a flag, a key or a variable of this name holds a person's text: "--system-prompt", "VLLM_DEV_PROMPT"."""
    head = name.lstrip("-").partition(".")[0].replace("-", "_")
    lower = head.lower()
    if lower in TEXTS or lower.endswith(("_prompt", "_prompts")):
        return True
    return head.isupper() and any(lower.endswith(f"_{text}") for text in TEXTS)


def is_plain(value: str) -> bool:
    """Whether a value is a number or a word like "off", and so nobody's text."""
    return _PLAIN.fullmatch(value.strip()) is not None


def may_stay(flag: str, value: str) -> bool:
    """Whether a text flag's value says nothing: a plain one, and the file that holds a template."""
    return is_plain(value) or ("template" in flag and _PATH.fullmatch(value) is not None)


def masked(value: str) -> str:
    """A value of a flag, a file or a variable without the secrets in it; masking it again changes nothing more.

    What begins with { or [ is read as JSON and walked, its keys judged as names; anything else, and what is no JSON
    after all, is masked as text. A value without secrets is left as it is written.
    """
    if value.lstrip()[:1] not in ("{", "["):
        return mask_text(value)
    try:
        read = json.loads(value, object_pairs_hook=_once)
        walked = _walk(read)
    except RecursionError:
        return MASK
    except ValueError:
        return mask_text(value)
    return value if walked == read else json.dumps(walked, ensure_ascii=False)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; ValueError if a name stands there twice, because one of its values would go unseen."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _walk(value: object) -> object:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [_walk(item) for item in value]
    if isinstance(value, dict):
        return {mask_text(key): _of_key(key, item) for key, item in value.items()}
    return value


def _of_key(key: str, value: object) -> object:
    if value is None or isinstance(value, bool) or not (is_secret(key) or is_text_name(key)):
        return _walk(value)
    return value if is_text_name(key) and is_plain(str(value)) and not is_secret(key) else MASK


def mask_text(text: str) -> str:
    """Free text without secrets: what is named like one, keys of known shape, userinfo and query of URLs."""
    text = _AUTHORIZATION.sub(rf"\1\2{MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _KEYED.sub(_mask_value, text)
    text = _QUOTED_KEY.sub(_mask_quoted, text)
    text = _TEXT_FLAG.sub(_mask_flag, text)
    text = _SHORT_FLAG.sub(_mask_flag, text)
    text = _URL.sub(lambda match: "://" + without_secrets(match[1]), text)
    text = _QUERY.sub(f"?{MASK}", text)
    return _SHAPES.sub(MASK, text)


def _masked_as(value: str) -> str:
    """The mask, in the quotes of the value."""
    quote = value[: len(value) - len(value.lstrip("\\")) + 1] if value.lstrip("\\")[:1] in ("'", '"') else ""
    return f"{quote}{MASK}{quote}"


def _mask_flag(match: re.Match[str]) -> str:
    """A text flag and its value inside of a text: a whole command line."""
    value = match["value"]
    if may_stay(match["flag"], value) or is_plain(value.split()[0]):
        return match[0]
    return f"{match['flag']}{match['sep']}{_masked_as(value)}"


def _mask_quoted(match: re.Match[str]) -> str:
    """A quoted key and its value, as JSON and Python write them."""
    value = match["value"]
    if not is_secret(match["key"]) or value.startswith(MASK):
        return match[0]
    return f"{match['head']}{_masked_as(value)}"


def _mask_value(match: re.Match[str]) -> str:
    """A name and its value, masked if the name is that of a secret: a flag, a key of JSON, an assignment."""
    strong = match["strong"]
    name, close, separator, value = (
        (strong, match["close"], match["sep"], match["value"])
        if strong
        else (match["token"], match["close2"], match["sep2"], match["value2"])
    )
    before = _NAME_BEFORE.search(match.string, max(0, match.start() - 64), match.start())
    prefix = before[0] if before else ""
    if separator.isspace():
        secret = prefix.startswith("-") and not close
    else:
        # "first token: 12 ms" is no secret, "hf_token: x" is
        secret = bool(strong or close or prefix.startswith("-") or prefix.endswith(("-", "_")))
    if not secret:
        return match[0]
    return f"{name}{close or ''}{separator}{_masked_as(value)}"


def without_secrets(rest: str) -> str:
    """What follows the scheme of a URL, without userinfo, query and fragment."""
    authority = re.match(r"[^/?#]*", rest)
    place = authority[0] if authority else ""
    port = place.rpartition(":")[2]
    if "@" in place:
        rest = f"{MASK}@{place.rpartition('@')[2]}{rest[len(place) :]}"
    elif "@" in rest and ":" in place and not place.startswith("[") and not port.isdigit():
        rest = f"{MASK}@{rest.rpartition('@')[2]}"  # a password with an unescaped /, ? or #
    cut = re.search(r"[?#]", rest)
    return f"{rest[: cut.start()]}{cut[0]}{MASK}" if cut else rest

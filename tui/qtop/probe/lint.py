"""What is wrong with a request for a certain server, before it is sent. Pure.

Facts of vLLM are tested on 0.32, those of llama.cpp on a running server; of the others they are from public sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qtop.probe.body import OwnRequest

STREAM_MISSING, STREAM_FALSE, STREAM_PLACE = "stream-missing", "stream-false", "stream-place"
STREAM_FAULTS = frozenset({STREAM_MISSING, STREAM_FALSE, STREAM_PLACE})
LIMIT_IGNORED, LIMIT_MISSING = "limit-ignored", "limit-missing"
TOO_LONG, TIGHT = "too-long", "tight"
ROUTE, FIELD, SHAPE, MODEL, CONTENT_TYPE, NO_COUNTS, WAIT = (
    *("route", "field", "shape", "model", "content-type", "no-counts", "wait"),
)
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"

LIMITS: Mapping[str, tuple[str, ...]] = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
}
"""Names of the limit by route, the one that outweighs the other first."""
_LLAMACPP = ("max_completion_tokens", "max_tokens", "n_predict")
_WRONG = ("max_new_tokens", "max_length", "max_completion_tokens", "n_predict", "num_predict", "max_output_tokens")
"""Names of limits elsewhere: Transformers, TGI, SGLang's own route; llama.cpp; Ollama; OpenAI's other routes."""
_DEFAULT_16 = frozenset({"vllm", "sglang", "trtllm", "openai", "unknown"})
"""Servers whose /v1/completions makes 16 tokens where none are asked for."""
_OWN_ROUTES: Mapping[str, frozenset[str]] = {
    "/generate": frozenset({"sglang", "tgi"}),
    "/generate_stream": frozenset({"tgi"}),
    "/completion": frozenset({"llamacpp"}),
    "/api/chat": frozenset({"ollama"}),
    "/api/generate": frozenset({"ollama"}),
}
_TITLES = {"vllm": "vLLM", "llamacpp": "llama.cpp", "sglang": "SGLang", "tgi": "TGI", "ollama": "Ollama"}
_NESTS = ("stream_options", "parameters", "extra_body", "options", "sampling_params")


@dataclass(frozen=True, slots=True)
class Served:
    """What the server is; tokens."""

    engine: str = "unknown"
    model: str = ""
    context: int | None = None
    """What the model takes, prompt and answer."""
    prompt_tokens: int | None = None
    """Of the request, where the server counted them."""

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return _TITLES.get(self.engine, "the server")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong; ``rule`` has the page about it, "" where none has."""

    code: str
    text: str
    rule: str = ""


def lint(request: OwnRequest, served: Served) -> tuple[Fault, ...]:
    """All that is wrong, the worst first. No text quotes the request but for names of its fields."""
    found: list[Fault] = []
    _route(request, served, found)
    _streaming(request, found)
    _limit(request, served, found)
    _length(request, served, found)
    _rest(request, served, found)
    return tuple(found)


def streams(request: OwnRequest) -> bool:
    """Whether the request asks for a stream, in the way that servers understand."""
    if request.route == "/generate_stream":
        return True
    asked = request.body.get("stream", request.route.startswith("/api/"))  # Ollama's own routes stream by default
    return asked is True or (isinstance(asked, str) and asked.lower() in ("true", "1", "yes", "on")) or asked == 1


def limit_of(request: OwnRequest, engine: str) -> int:
    """Tokens that the answer is limited to under a name that this route of this server knows; 0 where there is none, or
    several answers share the count."""
    body = request.body
    if any(isinstance(body.get(name), int) and body[name] > 1 for name in ("n", "best_of")):
        return 0
    names = LIMITS.get(request.route, ())
    if engine == "llamacpp" and names:
        names = _LLAMACPP
    for name in names:
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _route(request: OwnRequest, served: Served, found: list[Fault]) -> None:
    knows = _OWN_ROUTES.get(request.route)
    if knows is not None and served.engine not in knows and served.engine != "unknown":
        text = f"{request.route} is no route of {served.title}: it answers 404; use {CHAT} with messages"
        found.append(Fault(ROUTE, text))
    if request.route == CHAT and "messages" not in request.body:
        found.append(Fault(FIELD, f'{CHAT} takes "messages", and the body has none'))
    if request.route == COMPLETIONS and "prompt" not in request.body:
        found.append(Fault(FIELD, f'{COMPLETIONS} takes "prompt", and the body has none'))


def _streaming(request: OwnRequest, found: list[Fault]) -> None:
    if streams(request):
        return
    body, want = request.body, 'put "stream": true into the JSON body'
    if "stream" in request.headers:
        found.append(Fault(STREAM_PLACE, f"stream is sent as a header, which does nothing: {want}", "QT501"))
    elif any(isinstance(body.get(nest), dict) and "stream" in body[nest] for nest in _NESTS):
        found.append(Fault(STREAM_PLACE, f"stream lies inside another object, where it does nothing: {want}", "QT501"))
    elif "stream" in body:
        found.append(Fault(STREAM_FALSE, f"stream is off: no first token can be seen; {want}", "QT501"))
    else:
        text = f"stream is missing: no first token can be seen, and a proxy may time out first; {want}"
        found.append(Fault(STREAM_MISSING, text, "QT501"))


def _limit(request: OwnRequest, served: Served, found: list[Fault]) -> None:
    known = LIMITS.get(request.route)
    if known is None:
        return
    names = _LLAMACPP if served.engine == "llamacpp" else known
    body = request.body
    nested = [name for nest in _NESTS if isinstance(body.get(nest), dict) for name in body[nest] if _is_limit(name)]
    wrong = [name for name in _WRONG if name in body and name not in names] + nested
    given = any(name in body for name in names)
    little = request.route == COMPLETIONS and served.engine in _DEFAULT_16
    if wrong:
        comes = "" if given else "; 16 tokens come" if little else "; the answer has no limit"
        text = f"{wrong[0]} does nothing on {request.route}{comes}: use {known[-1]}"
        found.append(Fault(LIMIT_IGNORED, text, "QT502"))
    if not given and little and not wrong:
        found.append(Fault(LIMIT_MISSING, f"without max_tokens {COMPLETIONS} ends after 16 tokens: set it", "QT503"))


def _is_limit(name: str) -> bool:
    return name in _WRONG or name == "max_tokens"


def _length(request: OwnRequest, served: Served, found: list[Fault]) -> None:
    context, prompt, asked = served.context, served.prompt_tokens, limit_of(request, served.engine)
    if context is None:
        return
    if prompt is not None and prompt >= context:
        text = f"the prompt has {prompt} tokens, and the model takes {context} with the answer: it is refused (400)"
        found.append(Fault(TOO_LONG, text, "QT504"))
    elif asked > context and served.engine == "vllm":
        text = f"more tokens are asked for ({asked}) than the model takes ({context}): it is refused (400)"
        found.append(Fault(TOO_LONG, text, "QT504"))
    elif prompt is not None and asked and prompt + asked > context:
        text = (
            f"prompt ({prompt}) and answer ({asked}) together are more than the model takes ({context}): the answer is "
            "cut, or older servers refuse it (400)"
        )
        found.append(Fault(TIGHT, text, "QT504"))


def _rest(request: OwnRequest, served: Served, found: list[Fault]) -> None:
    body = request.body
    model = body.get("model")
    named = request.route in LIMITS and served.engine == "vllm" and isinstance(model, str) and model
    if named and served.model and model != served.model:
        found.append(Fault(MODEL, f"the server's model is {served.model}: another name is refused (404)"))
    if request.command and request.content_type != "application/json":
        text = "curl -d sends a form unless told otherwise: add -H 'Content-Type: application/json', or use --json"
        found.append(Fault(CONTENT_TYPE, text + " (qtop sends JSON)"))
    if streams(request) and request.route in (CHAT, COMPLETIONS) and not _counted(body):
        text = 'no token counts will come: add "stream_options": {"include_usage": true}'
        found.append(Fault(NO_COUNTS, text))
    if ".text" in request.after and request.route == CHAT:
        found.append(Fault(SHAPE, "the answer of a chat has no .text: .choices[0].message.content"))
    elif ".text" in request.after and ".choices" not in request.after and request.route == COMPLETIONS:
        found.append(Fault(SHAPE, "the answer has no .text at the top: .choices[0].text"))
    if "wc" in request.after.split():
        found.append(Fault(SHAPE, "wc -c counts bytes, not tokens: usage.completion_tokens has them"))
    if request.wait_s is not None:
        found.append(
            Fault(WAIT, f"curl gives up after {request.wait_s:g} s, whether or not the answer is whole", "QT505")
        )


def _counted(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True

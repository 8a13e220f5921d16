"""Why a server did not start, out of what it wrote."""

from __future__ import annotations

from qtop.act.log_reason import reason

PYDANTIC = """\
(APIServer pid=7) Traceback (most recent call last):
(APIServer pid=7)   File "x.py", line 1, in <module>
(APIServer pid=7) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=7)   Value error, User-specified max_model_len (1048576) is greater than the derived max_model_len \
(max_position_embeddings=4096.0 or model_max_length=None in model's config.json). \
[type=value_error, input_value=ArgsKwargs((), {'model': '/tmp/x'}), input_type=ArgsKwargs]
(APIServer pid=7)     For further information visit https://errors.pydantic.dev/2.12/v/value_error
"""
ENGINE = """\
(EngineCore pid=9) ERROR 11-26 05:19:40 [core.py:123] Traceback (most recent call last):
(EngineCore pid=9) ERROR 11-26 05:19:40 [core.py:123] ValueError: No available memory for the cache blocks.
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.
"""


def test_what_is_wrong_with_a_value_is_said_and_not_only_that_one_is() -> None:
    told = reason(PYDANTIC.splitlines())
    assert told.startswith("ValidationError: User-specified max_model_len (1048576) is greater than the derived")
    assert "type=" not in told


def test_the_cause_outranks_what_follows_from_it() -> None:
    assert reason(ENGINE.splitlines()) == "ValueError: No available memory for the cache blocks."
    assert reason([]) == ""

"""Writes the folder of a very small Qwen3 without weights: configuration and tokenizer. Run by the Python of the vLLM
environment, which has ``tokenizers``; usage: tiny_qwen.py FOLDER.

The vocabulary is trained on the help texts of Python itself: byte-level, as Qwen's, but of 4 096 tokens only, nearly
all of them printable, so that random weights stream text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
LENGTH = 4096
"""Tokens of the longest request."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer: whatever is put in comes out again."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator((topics[name] for name in sorted(topics)), trainer)
    return made


def config(words: Tokenizer) -> dict[str, object]:
    """Two layers of Qwen3: 1.3 million parameters."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "torch_dtype": "float32",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "max_window_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "vocab_size": words.get_vocab_size(),
        "max_position_embeddings": LENGTH,
        "rope_theta": 5_000_000,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "initializer_range": 0.02,
        "bos_token_id": words.token_to_id(SPECIAL[0]),
        "eos_token_id": words.token_to_id(SPECIAL[2]),
    }


def write(folder: Path) -> None:
    """All files of the model."""
    words = tokenizer()
    words.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config(words), indent=1))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "model_max_length": LENGTH,
        "chat_template": CHAT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


if __name__ == "__main__":
    write(Path(sys.argv[1]))

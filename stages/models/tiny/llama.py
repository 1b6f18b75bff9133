"""Tiny Llama: text only, grouped-query attention, Llama 3 chat template, 2.6 M parameters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.models.tiny._tokenizer import train, wrap
from stages.models.tiny._weights import initialise, save
from stages.models.tiny.chat_templates import LLAMA

_SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
]


class TinyLlama:
    """Builds the folder of a tiny Llama; `version` is part of its name in the cache."""

    version = 2
    hidden, layers = 256, 4

    @staticmethod
    def texts() -> Iterable[str]:
        """What its tokenizer learns from beside the world's own text."""
        return ()

    def build(self, folder: Path, seed: int) -> None:
        """Write the model with weights drawn from `seed`."""
        from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

        tokenizer = wrap(
            train(2048, _SPECIAL, more=self.texts()),
            bos="<|begin_of_text|>",
            eos="<|eot_id|>",
            pad="<|finetune_right_pad_id|>",
            template=LLAMA,
        )
        ids = dict(zip(_SPECIAL, tokenizer.convert_tokens_to_ids(_SPECIAL), strict=True))
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            intermediate_size=2 * self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=ids["<|begin_of_text|>"],
            eos_token_id=ids["<|eot_id|>"],
            pad_token_id=ids["<|finetune_right_pad_id|>"],
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config)
        initialise(model, seed)
        model.generation_config = GenerationConfig(
            bos_token_id=ids["<|begin_of_text|>"],
            eos_token_id=[ids["<|eot_id|>"], ids["<|end_of_text|>"]],
            pad_token_id=ids["<|finetune_right_pad_id|>"],
        )
        save(folder, model, tokenizer, {})


PLUGIN = TinyLlama()

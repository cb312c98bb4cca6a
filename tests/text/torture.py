"""Texts that tokenizers trip over, and the comparison with `transformers`."""

import torch

from gossamer.text import Tokenizer

TORTURE = [
    "",
    " \t\n\r ",
    "Hello, Wörld! Ça va? naïve façade — Ångström",
    "e\u0301 vs \u00e9, n\u0303 vs \u00f1, \u1e9b\u0323",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ☕️ 1️⃣",
    "我喜欢吃苹果。日本語のテキスト、カタカナ。한국어 텍스트",
    "\U00020000\U0002a6d6 and 中a文b",
    "שלום עולם مرحبا بالعالم \u202eabc\u202c 123",
    "हिन्दी में लिखा ไทยไม่มีช่องว่าง",
    "a\u0000b\u0001c\u0007d\ufffde\u0085f\u2028g\u2029h",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00adsoft\u2060word",
    "x" * 99 + " " + "y" * 100 + " " + "z" * 101 + " " + "w" * 5000,
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "İstanbul ẞtraße ﬁﬂ ﷺ Ⅷ ½ x²",
    "[CLS] literal [SEP] and [MASK]ed [PAD] [UNK] [mask] ##ing",
    "http://a.b/c?d=e&f=%20 $1,234.56 don't can't 'tis U.S.A. a_b-c",
    "\u0301\u0301 leading marks \U000e0001\U0010ffff \ue000",
]
PAIRS = [TORTURE[(i * 7 + 3) % len(TORTURE)] for i in range(len(TORTURE))]
NAMES = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "token_type_ids",
    "offsets": "offset_mapping",
    "special_tokens_mask": "special_tokens_mask",
    "overflow_to_sample": "overflow_to_sample_mapping",
}


def check_same(ours: Tokenizer, oracle, texts, text_pair=None, stride: int = 0, **options) -> dict[str, torch.Tensor]:
    got = ours(texts, text_pair, stride=stride, return_offsets=True, **options)
    wanted = oracle(
        [texts] if isinstance(texts, str) else texts,
        [text_pair] if isinstance(text_pair, str) else text_pair,
        stride=stride,
        return_overflowing_tokens=stride > 0,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_token_type_ids=True,
        return_tensors="pt",
        **{"padding": True, "truncation": True, **options},
    )
    assert set(got) == {name for name, theirs in NAMES.items() if theirs in wanted}
    for name, value in got.items():
        assert value.dtype == torch.int64
        expected = wanted[NAMES[name]]
        # ALBERT's are fed here and not there.
        fed = name in oracle.model_input_names or type(oracle).__name__ == "AlbertTokenizer"
        if name == "token_type_ids" and not fed:
            expected = torch.zeros_like(expected)
        assert torch.equal(value, expected), name
    return got

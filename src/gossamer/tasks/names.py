"""What users of pipelines and sentence-transformers type: their names of tasks and options, and ours for the same."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from gossamer.errors import InputError, quote

__all__ = ["ALIASES", "ELSEWHERE", "TRANSLATION", "checks_options", "refusal"]

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

ALIASES = {
    "feature-extraction": "embed",
    "ner": "tag",
    "question-answering": "answer",
    "semantic-search": "similar",
    "sentence-embedding": "embed",
    "sentence-similarity": "embed",
    "sentiment-analysis": "classify",
    "summarization": "summarize",
    "text2text-generation": "rewrite",
    "text-classification": "classify",
    "text-generation": "generate",
    "text-ranking": "rank",
    "token-classification": "tag",
    "translation": "translate",
    "zero-shot-classification": "zero-shot",
}
"""The names that others have for our tasks."""

TRANSLATION = re.compile(r"translation_(\w+?)_to_(\w+)")
"""Such a name is a translation of two languages, in pipelines and in `task_specific_params`."""

ELSEWHERE = (
    "conversational",
    "document-question-answering",
    "table-question-answering",
    "visual-question-answering",
)
"""Tasks of others on text that there are none for here."""

_RENAMED = {
    "aggregation_strategy": "aggregation",
    "align_to_words": "whole_words",
    "candidate_labels": "labels",
    "context": "contexts",
    "doc_stride": "stride",
    "handle_impossible_answer": "impossible",
    "inputs": "texts",
    "documents": "texts",
    "handle_long_generation": "long",
    "hypothesis_template": "template",
    "max_answer_len": "max_answer_tokens",
    "max_length": "max_new_tokens",
    "prompt": "texts",
    "prompts": "texts",
    "query": "queries",
    "question": "questions",
    "sentences": "texts",
    "sequences": "texts",
    "show_progress_bar": "progress",
    "src_lang": "source",
    "stop_sequence": "stop",
    "stop_strings": "stop",
    "text_inputs": "texts",
    "tgt_lang": "target",
    "text": "texts",
}
"""Options of others that are an option here, of another name."""

_NEEDLESS = {
    "batch_size": "give batch_tokens, the most tokens that are read at once",
    "candidate_labels": "the labels are those that the model was trained on; the task zero-shot takes others",
    "clean_up_tokenization_spaces": "leave it out: texts are as the tokenizer writes them",
    "convert_to_numpy": "the result's vectors are a tensor: .vectors.numpy()",
    "delimiter": "give whole texts",
    "device": 'give it to gossamer.load or gossamer.task: gossamer.task("NAME", model, device="cpu")',
    "do_sample": "temperature=0 takes the likeliest token, any other draws",
    "min_length": 'give rules={"min_new_tokens": N}',
    "dtype": "give it to gossamer.load",
    "is_split_into_words": "give whole texts",
    "max_length": 'a text is cut to what the model reads with long="truncate"',
    "max_new_tokens": "only the tasks generate, rewrite, summarize and translate write text",
    "max_question_len": "the whole question is read",
    "max_seq_len": "the model reads what it can; longer texts are read in overlapping passes",
    "num_beams": "give beams, their number",
    "num_return_sequences": 'give the text as many times, or beams={"num_return_sequences": N}',
    "num_workers": "leave it out: texts are read in this process",
    "offset_mapping": "give whole texts",
    "padding": "leave it out: texts of like length are read together",
    "return_all_scores": "all labels are given unless top_k says otherwise",
    "return_full_text": "the result has new text alone",
    "return_tensors": "leave it out",
    "stride": "a longer text is cut where the task says",
    "tokenizer": "the model has its own: model.tokenizer",
    "tokenizer_kwargs": 'leave it out; longer texts than the model reads are cut with long="truncate"',
    "torch_dtype": "give dtype to gossamer.load",
    "truncation": 'give long="truncate" to cut longer texts, long="error" to refuse them',
}
"""Options of others that there is no need for, and what to do for what they do."""


def checks_options(call: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """The same call, which answers an option that it does not have in one line, by our name for it where there is one.

    It raises InputError then, where Python's own TypeError would name no remedy.
    """
    known = list(inspect.signature(call).parameters)

    @functools.wraps(call)
    def checked(*args: _Given.args, **options: _Given.kwargs) -> _Result:
        for name in options:
            if name not in known:
                raise InputError(refusal(name, known))
        return call(*args, **options)

    return checked


def refusal(option: str, known: Sequence[str], called: str = "") -> str:
    """What is said of an option that is none of the known ones; `called`: how the call is written that has those."""
    if option in known or _RENAMED.get(option) in known:
        ours = option if option in known else _RENAMED[option]
        instead = f"give {ours} to {called}" if called else f"it is {ours}"
        return f"there is no option {quote(option)} here; {instead}"
    if option in _NEEDLESS:
        return f"there is no option {quote(option)}: {_NEEDLESS[option]}"
    return f"there is no option {quote(option)}; the options are {', '.join(name for name in known if name != 'self')}"

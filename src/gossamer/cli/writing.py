"""How a text is written: the options of verbs that generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from typer import Option

from gossamer.cli.options import OptionGroup, check_count

__all__ = ["Writing"]


@dataclass(frozen=True, kw_only=True)
class Writing(OptionGroup):
    """What `gossamer.generate` takes beside prompts; what is left out is as generation_config.json has it."""

    max_new_tokens: Annotated[
        int | None, Option(metavar="N", help="Tokens to generate for each text; 128 unless the model's files say.")
    ] = None
    temperature: Annotated[
        float | None,
        Option(metavar="T", help="0: always the likeliest token, usual for two texts and beams; else 1 is usual."),
    ] = None
    top_k: Annotated[int | None, Option(metavar="N", help="Draw from the N likeliest tokens alone.")] = None
    top_p: Annotated[
        float | None,
        Option(metavar="P", help="Draw from the fewest tokens that are as likely as P together; usually 0.95; 1: all."),
    ] = None
    beams: Annotated[int | None, Option(metavar="N", help="Beam search: go on with the N likeliest texts at once.")] = (
        None
    )
    length_penalty: Annotated[
        float | None, Option(metavar="X", help="With beams: above 0 long texts gain; 0: lengths do not count.")
    ] = None
    returned: Annotated[int | None, Option(metavar="N", help="With beams: the N best texts of each prompt.")] = None
    repetition_penalty: Annotated[
        float | None, Option(metavar="X", help="Above 1: what stands in the text already is less likely.")
    ] = None
    no_repeat_ngram: Annotated[int | None, Option(metavar="N", help="No run of N tokens comes twice.")] = None
    min_new_tokens: Annotated[
        int | None, Option(metavar="N", help="No token ends a text before it has N new ones.")
    ] = None
    stop: Annotated[
        list[str] | None, Option(metavar="TEXT", help=r"End before this (\n: a line's end); several times.")
    ] = None
    choice: Annotated[
        list[str] | None, Option(metavar="TEXT", help="Write one of these texts and nothing else; several times.")
    ] = None
    seed: Annotated[int | None, Option(metavar="N", help="Same seed, same texts; drawn unless given.")] = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `gossamer.generate`. InputError for a value that cannot be, whatever the model."""
        counts = {
            "--max-new-tokens": self.max_new_tokens, "--top-k": self.top_k, "--beams": self.beams,
            "--returned": self.returned,
        }  # fmt: skip
        for option, count in counts.items():
            check_count(option, count)
        from gossamer.generation.sampling import Sampling

        drawn = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        Sampling(**_given(drawn))
        return {
            "max_new_tokens": self.max_new_tokens,
            **drawn,
            "stop": [text.replace("\\n", "\n") for text in self.stop or []] or None,
            "seed": self.seed,
            "beams": self._search(),
            "rules": self._rules(),
            "choices": self.choice or None,
        }

    def _search(self) -> dict[str, Any] | None:
        """What is changed of the beams that the model's files ask for; None where these decide."""
        from gossamer.generation import Beams

        more = {
            "num_beams": self.beams, "length_penalty": self.length_penalty, "num_return_sequences": self.returned,
        }  # fmt: skip
        if self.beams is not None:
            Beams(**_given(more))
        return _given(more) or None

    def _rules(self) -> dict[str, Any] | None:
        """What is changed of the rules that the model's files ask for; None where these decide."""
        from gossamer.generation import Rules

        given = {
            "repetition_penalty": self.repetition_penalty,
            "no_repeat_ngram_size": self.no_repeat_ngram,
            "min_new_tokens": self.min_new_tokens,
        }
        Rules(**_given(given))
        return _given(given) or None


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}

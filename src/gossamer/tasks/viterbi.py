"""The likeliest labels of tokens in a row that make whole entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from gossamer.text.label_schemes import LabelScheme

__all__ = ["LabelOrder"]

_BROKEN = -1e9
"""The cost of a rule that is broken: more than all labels of a text together can gain."""


@dataclass(frozen=True)
class LabelOrder:
    """Which label may come first, last, and behind which: what goes on with an entity stands behind a part of it.

    first, last [labels]; behind, inside [earlier labels, later labels]: of a word behind another, and of the next piece
    of a word, which may say again that its entity ends. Where a kind of entity has no label for its beginning (IO, IOE)
    or its end (BIO), any place will do.
    """

    first: Bool[np.ndarray, " labels"]
    last: Bool[np.ndarray, " labels"]
    behind: Bool[np.ndarray, "labels labels"]
    inside: Bool[np.ndarray, "labels labels"]

    @classmethod
    def of(cls, scheme: LabelScheme, labels: Sequence[str]) -> LabelOrder:
        """The order that a scheme of labels asks for."""
        read = [scheme.read(label) for label in labels]
        begun = {one.kind for one in read if one.begins and not one.ends}
        ended = {one.kind for one in read if one.ends and not one.begins}
        marked = [label in scheme.labels for label in labels]
        goes_on = [marked[i] and not one.begins and one.kind in begun for i, one in enumerate(read)]
        is_open = [marked[i] and not one.ends and one.kind in ended for i, one in enumerate(read)]
        behind = [
            [
                (not goes_on[j] or (one.kind == other.kind and not one.ends))
                and (not is_open[i] or (one.kind == other.kind and not other.begins))
                for j, other in enumerate(read)
            ]
            for i, one in enumerate(read)
        ]
        rule = np.array(behind)
        return cls(~np.array(goes_on), ~np.array(is_open), rule, rule | np.diag([one.ends for one in read]))

    def likeliest(
        self, scores: Float[np.ndarray, "pieces labels"], goes_on: Sequence[bool] | None = None
    ) -> Int[np.ndarray, " pieces"]:
        """The labels of the highest sum of `scores`, log-probabilities, in this order (Viterbi 1967).

        goes_on: which pieces go on with the word before. Where no labels are in order, those that break it least often.
        """
        cost = np.where(self.behind, 0.0, _BROKEN), np.where(self.inside, 0.0, _BROKEN)
        best = scores[0].astype(np.float64) + np.where(self.first, 0.0, _BROKEN)
        came_from = np.zeros(scores.shape, dtype=np.int32)
        for i in range(1, len(scores)):
            paths = best[:, None] + cost[bool(goes_on is not None and goes_on[i])]
            came_from[i] = paths.argmax(axis=0)
            best = paths.max(axis=0) + scores[i]
        chosen = np.empty(len(scores), dtype=np.int64)
        chosen[-1] = (best + np.where(self.last, 0.0, _BROKEN)).argmax()
        for i in range(len(scores) - 1, 0, -1):
            chosen[i - 1] = came_from[i, chosen[i]]
        return chosen

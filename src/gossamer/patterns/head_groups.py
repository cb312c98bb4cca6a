"""The groups of heads that a pattern names, looked at before anybody counts on them."""

from gossamer.errors import InputError, quote
from gossamer.patterns.base import Pattern

__all__ = ["groups_of"]


def groups_of(pattern: Pattern, heads: int) -> tuple[tuple[Pattern, int], ...]:
    """`pattern.by_head(heads)`: the pattern of each group and its number of heads. Raises InputError for anything else.

    Source: Longformer (Beltagy et al. 2020, arXiv 2004.05150), section 3.1: a pattern for each head.
    """
    groups = pattern.by_head(heads)
    if type(pattern).by_head is not Pattern.by_head and not _are_groups(groups):
        raise InputError(
            f"by_head of '{pattern}' gave {quote(groups)}; it must be a tuple of pairs (pattern, heads), each pattern"
            " one for all its heads"
        )
    return groups


def _are_groups(groups: object) -> bool:
    return isinstance(groups, tuple) and all(
        isinstance(group, tuple)
        and len(group) == 2
        and isinstance(group[0], Pattern)
        and not group[0].differs_by_head
        and isinstance(group[1], int)
        and not isinstance(group[1], bool)
        and group[1] >= 0
        for group in groups
    )

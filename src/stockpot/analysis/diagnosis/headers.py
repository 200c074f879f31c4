"""Findings from names, shapes and digests: nothing is read for them but headers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stockpot.records import Finding
from stockpot.types import TensorSpec

__all__ = ["duplicate_findings", "near_duplicate_findings", "refusals", "statistics_findings", "usual_first"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_MOST_LINES = 8


def refusals(problems: Sequence[str], specs: Mapping[str, Mapping[str, TensorSpec]]) -> list[Finding]:
    """What keeps checkpoints from being mixed, told as what it usually is.

    Args:
        problems: every mismatch with the first, as the compatibility check words it.
        specs: ingredient -> tensor -> spec; the first is what the others are compared with.

    Example:
        >>> big, small = {"embed.weight": TensorSpec("F32", (9, 4))}, {"embed.weight": TensorSpec("F32", (8, 4))}
        >>> refusals(["embed.weight: ..."], {"a": big, "b": small})[0].kind
        'vocabulary'
    """
    if not problems:
        return []
    first, *others = specs.values()
    odd = [name for name, tensors in list(specs.items())[1:] if dict(tensors) != dict(first)]
    evidence: tuple[str, ...] = (
        *problems[:_MOST_LINES],
        *([f"and {len(problems) - _MOST_LINES} more"] * (len(problems) > 8)),
    )
    kind, message, fix = (
        "architecture",
        "the ingredients are not the same network",
        ("leave out those of another architecture, or blend only the tensors that agree: mix --only"),
    )
    if all(_differ_in_dtype_alone(first, other) for other in others):
        kind, message = "dtype", "the ingredients are stored in different dtypes"
        fix = "store all of them in one dtype first: stockpot mix INGREDIENT --dtype fp32 -o CONVERTED"
        evidence = tuple(_names_by_dtypes(specs))
    elif all(_differ_in_rows_alone(first, other) for other in others):
        names = [name for name, spec in first.items() if any(other[name] != spec for other in others)]
        if all((first[name].shape and "embed" in name.lower()) or "lm_head" in name or "wte" in name for name in names):
            kind, message = "vocabulary", "the ingredients have vocabularies of different sizes"
            fix = "tokenise all runs with one tokenizer; tokens that one run added the others do not know"
        else:
            kind, message = "labels", "the ingredients have heads for different numbers of labels"
            fix = "fine-tune all runs for the same labels"
    return [Finding(kind, "refusal", message, evidence, fix, tuple(odd))]


def usual_first(specs: Mapping[str, Mapping[str, TensorSpec]]) -> tuple[str, ...]:
    """The names, one of the largest group of equal networks first: compared with it, the odd ones are named.

    Example:
        >>> big, small = {"w": TensorSpec("F32", (9,))}, {"w": TensorSpec("F32", (8,))}
        >>> usual_first({"a": big, "b": small, "c": small})
        ('b', 'a', 'c')
    """
    first = max(specs, key=lambda name: sum(dict(specs[name]) == dict(other) for other in specs.values()))
    return (first, *(name for name in specs if name != first))


def _differ_in_dtype_alone(first: Mapping[str, TensorSpec], other: Mapping[str, TensorSpec]) -> bool:
    return first.keys() == other.keys() and all(
        spec.shape == other[name].shape and spec.is_float == other[name].is_float for name, spec in first.items()
    )


def _names_by_dtypes(specs: Mapping[str, Mapping[str, TensorSpec]]) -> Iterator[str]:
    """Which ingredients are stored in which dtypes; what all have the same is no matter."""
    first = next(iter(specs.values()))
    other = [name for name in first if len({tensors[name].dtype for tensors in specs.values()}) > 1]
    by_dtypes: dict[str, list[str]] = defaultdict(list)
    for name, tensors in specs.items():
        by_dtypes[" and ".join(dict.fromkeys(tensors[one].dtype for one in other))].append(name)
    for dtypes, names in by_dtypes.items():
        yield f"{dtypes}: {', '.join(names)}"


def _differ_in_rows_alone(first: Mapping[str, TensorSpec], other: Mapping[str, TensorSpec]) -> bool:
    return first.keys() == other.keys() and all(
        spec.dtype == other[name].dtype and spec.shape[1:] == other[name].shape[1:] for name, spec in first.items()
    )


def duplicate_findings(digests: Mapping[str, str | None]) -> list[Finding]:
    """The same bytes under two names.

    Example:
        >>> duplicate_findings({"a": "00", "b": "00", "c": "11"})[0].ingredients
        ('a', 'b')
    """
    by_digest: dict[str, list[str]] = defaultdict(list)
    for name, digest in digests.items():
        if digest is not None:
            by_digest[digest].append(name)
    return [
        Finding(
            "duplicates",
            "caution",
            f"{' and '.join(names)} are the same file",
            (f"equal SHA-256: {', '.join(names)}",),
            f"leave out {', '.join(names[1:])}: in a uniform soup one run would count {len(names)} times",
            tuple(names),
        )
        for names in by_digest.values()
        if len(names) > 1
    ]


def near_duplicate_findings(
    pairs: Iterable[tuple[str, str]], why: str, *, known: Sequence[Finding] = ()
) -> list[Finding]:
    """Runs that are as good as the same.

    Args:
        pairs: of names.
        why: what says so.
        known: findings; pairs that one of them has called duplicates, or nearly, are left out.

    Example:
        >>> near_duplicate_findings([("a", "b")], "equal scores")[0].evidence
        ('a and b: equal scores',)
    """
    groups = [set(one.ingredients) for one in known if one.kind in {"duplicates", "near_duplicates"}]
    close = [pair for pair in pairs if not any(set(pair) <= group for group in groups)]
    if not close:
        return []
    return [
        Finding(
            "near_duplicates",
            "caution",
            "some runs are nearly the same model",
            tuple(f"{a} and {b}: {why}" for a, b in close),
            "averaging them changes nothing; look whether one was saved twice",
            tuple(dict.fromkeys(name for pair in close for name in pair)),
        )
    ]


def statistics_findings(names: Iterable[str]) -> list[Finding]:
    """Running statistics, which are no weights: their average belongs to no network.

    Example:
        >>> statistics_findings(["bn.running_mean", "bn.running_var", "fc.weight"])[0].kind
        'running_statistics'
    """
    found = [name for name in names if name.rpartition(".")[2] in _STATISTICS]
    if not found:
        return []
    return [
        Finding(
            "running_statistics",
            "caution",
            "the network keeps running statistics (BatchNorm)",
            (f"{len(found)} tensors such as {found[0]}",),
            "an average of statistics fits no averaged network: re-estimate them for every soup "
            "(--recalibrate N of soup and compare) before you judge it",
        )
    ]

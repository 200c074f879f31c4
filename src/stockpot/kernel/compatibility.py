"""Whether checkpoints may be blended at all, and what the blend will look like: decided before a byte is read."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stockpot.errors import BlendError, IncompatibleError
from stockpot.types import Checkpoint, TensorSpec

__all__ = ["Layout", "TensorPlan", "blended_specs", "check_compatible", "labels_of", "parse_dtype", "plan_tensors"]

_DTYPE_BY_ALIAS: Mapping[str, str] = {
    "f64": "F64", "fp64": "F64", "float64": "F64", "double": "F64",
    "f32": "F32", "fp32": "F32", "float32": "F32", "float": "F32",
    "f16": "F16", "fp16": "F16", "float16": "F16", "half": "F16",
    "bf16": "BF16", "bfloat16": "BF16",
    "f8_e4m3": "F8_E4M3", "fp8_e4m3": "F8_E4M3", "float8_e4m3fn": "F8_E4M3", "fp8": "F8_E4M3",
    "f8_e5m2": "F8_E5M2", "fp8_e5m2": "F8_E5M2", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
#: What an error offers: one name per dtype.
_OFFERED_DTYPES = ("fp64", "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """What happens to one tensor: blended and rounded to `output`, or copied from the first ingredient."""

    name: str
    stored: TensorSpec
    output: TensorSpec
    is_blended: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The names, specs and ties of a checkpoint: all that compatibility is about, without the open file.

    Args:
        specs: stored tensors in file order.
        tied: name -> the stored name that it shares memory with.
    """

    specs: Mapping[str, TensorSpec]
    tied: Mapping[str, str]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Layout:
        """A copy that outlives the checkpoint."""
        return cls(dict(checkpoint.specs), dict(checkpoint.tied))

    def stored_name(self, name: str) -> str | None:
        """The name under which the bytes of `name` are stored; None when there are none."""
        stored = self.tied.get(name, name)
        return stored if stored in self.specs else None

    def partners(self, name: str) -> frozenset[str]:
        """All names that share memory with `name`, itself included."""
        stored = self.tied.get(name, name)
        return frozenset((name, stored, *(alias for alias, target in self.tied.items() if target == stored)))


def check_compatible(
    checkpoints: Sequence[Checkpoint], labels: Sequence[str] | None = None, *, only: Sequence[str] | None = None
) -> None:
    """Checks that names, shapes, dtypes and ties agree; lists every mismatch with the first checkpoint.

    A tied name that another checkpoint leaves out is no mismatch as long as the tensor behind it is there.

    Args:
        checkpoints: at least one.
        labels: what errors call them; their sources by default.
        only: names or globs of the tensors that are blended; the others come from the first and may differ.

    Raises:
        IncompatibleError: `problems` holds all mismatches, the text shows the first 20.
        BlendError: no checkpoints, or an entry of `only` that matches nothing.
    """
    labels = labels_of(checkpoints, labels)
    first, *others = [Layout.of(checkpoint) for checkpoint in checkpoints]
    check_layouts(first, others, labels, only=only)


def check_layouts(
    first: Layout, others: Sequence[Layout], labels: Sequence[str], *, only: Sequence[str] | None = None
) -> None:
    """`check_compatible` for what is known of the checkpoints; labels[0] belongs to `first`."""
    _selection(first, only)  # an entry that matches nothing is said before any mismatch
    problems: list[str] = []
    fix = "leave out the ingredients that differ; mix can blend the tensors that agree, with --only"
    for label, other in zip(labels[1:], others, strict=True):
        prefix = _explaining_prefix(first, other, labels[0], label)
        if prefix:
            fix = "store the same names in all ingredients: strip the prefix from the names and save again"
        problems += [prefix] if prefix else _mismatches(first, other, labels[0], label, only)
        if not prefix and _differ_in_dtype_alone(first, other):
            fix = "store all of them in one dtype first: stockpot mix INGREDIENT --dtype fp32 -o CONVERTED"
    if problems:
        raise _incompatible(problems, fix)


def blended_specs(
    checkpoints: Sequence[Checkpoint], dtype: str | None = None, only: Sequence[str] | None = None
) -> dict[str, TensorSpec]:
    """The specs of the blend, in file order of the first checkpoint.

    Args:
        checkpoints: compatible ones; only the first is looked at.
        dtype: output dtype of the blended tensors, e.g. "bf16"; the stored one by default.
        only: names or globs of the tensors to blend; the others keep everything, their dtype included.

    Raises:
        BlendError: no checkpoints, an unknown dtype, or an entry of `only` that matches nothing.
    """
    labels_of(checkpoints, None)
    return {plan.name: plan.output for plan in plan_tensors(Layout.of(checkpoints[0]), dtype, only)}


def plan_tensors(first: Layout, dtype: str | None = None, only: Sequence[str] | None = None) -> list[TensorPlan]:
    """What happens to each tensor, in file order; arguments as for `blended_specs`."""
    output_dtype = None if dtype is None else parse_dtype(dtype)
    chosen = _selection(first, only)
    return [_tensor_plan(name, spec, output_dtype, name in chosen) for name, spec in first.specs.items()]


def parse_dtype(text: str) -> str:
    """The format's name of a floating dtype, from any common spelling.

    Raises:
        BlendError: not a floating dtype; names the known ones and the nearest.

    Example:
        >>> parse_dtype("bfloat16"), parse_dtype("torch.float32"), parse_dtype("F8_E5M2")
        ('BF16', 'F32', 'F8_E5M2')
        >>> parse_dtype("bf61")
        Traceback (most recent call last):
        stockpot.errors.BlendError: unknown dtype 'bf61'
        fix: did you mean 'bf16'? known are fp64, fp32, fp16, bf16, fp8_e4m3, fp8_e5m2
    """
    spelling = text.strip().lower().removeprefix("torch.")
    if spelling in _DTYPE_BY_ALIAS:
        return _DTYPE_BY_ALIAS[spelling]
    known = f"known are {', '.join(_OFFERED_DTYPES)}"
    raise BlendError(f"unknown dtype {text!r}", fix=_did_you_mean(spelling, _DTYPE_BY_ALIAS) + known)


def labels_of(checkpoints: Sequence[Checkpoint], labels: Sequence[str] | None) -> tuple[str, ...]:
    """One label for each of at least one checkpoint: the given ones, or where they come from."""
    if not checkpoints:
        raise BlendError("there is nothing to blend", fix="give at least one checkpoint")
    if labels is None:
        return tuple(checkpoint.source for checkpoint in checkpoints)
    if len(labels) != len(checkpoints):
        raise BlendError(f"{len(labels)} labels for {len(checkpoints)} checkpoints")
    return tuple(labels)


def _tensor_plan(name: str, stored: TensorSpec, dtype: str | None, is_chosen: bool) -> TensorPlan:
    is_blended = stored.is_float and is_chosen
    output = TensorSpec(dtype, stored.shape) if is_blended and dtype else stored
    return TensorPlan(name, stored, output, is_blended)


def _selection(first: Layout, only: Sequence[str] | None) -> frozenset[str]:
    """The stored names that `only` chooses; a tied name chooses the tensor behind it."""
    names = [*first.specs, *first.tied]
    if only is not None:
        _check_entries(only, names)
    return frozenset(first.tied.get(name, name) for name in names if _matches(name, only))


def _check_entries(only: Sequence[str], names: Sequence[str]) -> None:
    missed = [entry for entry in only if not any(_matches(name, (entry,)) for name in names)]
    if not only or missed:
        nearest = next(filter(None, (_did_you_mean(entry, names) for entry in missed)), "")
        raise BlendError(
            "only these tensors to blend, but there are none",
            problems=[f"{entry!r} matches none of the {len(names)} tensors" for entry in missed],
            fix=f"{nearest}tensors are named like {', '.join(map(repr, names[:3]))}",
        )


def _matches(name: str, only: Sequence[str] | None) -> bool:
    return only is None or any(name == entry or fnmatch.fnmatchcase(name, entry) for entry in only)


def _mismatches(
    first: Layout, other: Layout, first_label: str, label: str, only: Sequence[str] | None
) -> Iterator[str]:
    chosen = _selection(first, only)
    # dict.fromkeys: each name once, in the order of the first checkpoint's file, the other's own names last.
    for name in dict.fromkeys((*first.specs, *first.tied, *other.specs, *other.tied)):
        if first.stored_name(name) in chosen or (first.stored_name(name) is None and _matches(name, only)):
            yield from _mismatch(name, first, other, first_label, label)


def _differ_in_dtype_alone(first: Layout, other: Layout) -> bool:
    if first.specs.keys() != other.specs.keys() or first.specs == other.specs:
        return False
    pairs = [(spec, other.specs[name]) for name, spec in first.specs.items()]
    return all(a.shape == b.shape and a.is_float == b.is_float for a, b in pairs)


def _mismatch(name: str, first: Layout, other: Layout, first_label: str, label: str) -> Iterator[str]:
    here, there = first.stored_name(name), other.stored_name(name)
    if here is None or there is None:
        # A tied name may be left out: the tensor behind it is compared under its own name.
        if name in first.specs or name in other.specs:
            has, lacks = (first_label, label) if there is None else (label, first_label)
            yield f"{name}: in {has!r} but missing in {lacks!r}"
        return
    if name in first.specs and first.specs[here] != other.specs[there]:
        yield f"{name}: {first.specs[here]} in {first_label!r} but {other.specs[there]} in {label!r}"
    if (name in first.tied or name in other.tied) and not _ties_agree(name, first, other):
        yield f"{name} is {_tie(name, first)} in {first_label!r} but {_tie(name, other)} in {label!r}"


def _ties_agree(name: str, first: Layout, other: Layout) -> bool:
    """Whether `name` shares memory with the same names in both, names that only one of them knows aside."""
    here = {partner for partner in first.partners(name) if other.stored_name(partner)}
    there = {partner for partner in other.partners(name) if first.stored_name(partner)}
    return here == there


def _tie(name: str, layout: Layout) -> str:
    if name in layout.tied:
        return f"tied to {layout.tied[name]}"
    partners = sorted(layout.partners(name) - {name})
    return f"shared with {', '.join(partners)}" if partners else "stored separately"


def _explaining_prefix(first: Layout, other: Layout, first_label: str, label: str) -> str | None:
    """The one line that explains all differences when one side only puts a prefix before every name."""
    here, there = set(first.specs), set(other.specs)
    if here == there or len(here) != len(there):
        return None
    for longer, shorter, has, lacks in ((there, here, label, first_label), (here, there, first_label, label)):
        name = min(shorter)
        for candidate in sorted(longer):
            prefix = candidate.removesuffix(name)
            if prefix != candidate and {prefix + short for short in shorter} == longer:
                return f"all {len(longer)} names start with {prefix!r} in {has!r} but not in {lacks!r}"
    return None


def _incompatible(problems: list[str], fix: str) -> IncompatibleError:
    hidden = len(problems) - _PROBLEMS_SHOWN
    shown = problems if hidden <= 0 else [*problems[:_PROBLEMS_SHOWN], f"... and {hidden} more"]
    count = "1 mismatch" if len(problems) == 1 else f"{len(problems)} mismatches"
    error = IncompatibleError(f"the ingredients do not fit together: {count}", problems=shown, fix=fix)
    error.problems = tuple(problems)  # a program gets them all, a person the first ones
    return error


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    import difflib  # for mistakes alone

    nearest = difflib.get_close_matches(text, list(known), n=1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""

"""What may stand in a task of each family: comments under a file that somebody has to complete."""

from __future__ import annotations

__all__ = ["hints"]

_TABLES = """
# data:
#   text: review              # or two columns: [premise, hypothesis]
#   label: rating             # names or integers; numbers with a metric of regression
#   held_out: {file: dev.tsv} # the only split that recipes see; or {rows: 1000} of `file: all.tsv`
#   test: {file: test.tsv}    # measured once, afterwards
#   shifts:
#     typos: {of: test, corrupt: typos, rate: 0.08}"""
_IMAGES = """
# data:
#   held_out: {path: photos/val} # a folder of class folders: the only split that recipes see
#   test: {path: photos/test}    # measured once, afterwards
#   shifts:
#     noise: {of: test, corrupt: noise, severity: 3}"""
_TEXTS = """
# scoring: likelihood         # or multiple-choice: then context, choices and answer stand for text
# data:
#   text: text
#   held_out: {file: valid.jsonl}
#   test: {file: test.jsonl}"""
_LABELS = "\n# labels: [negative, positive]  # only where neither config.json nor the data say them in the right order"
_METRIC = "\n# metric: accuracy  # or f1, f1_macro, matthews, nll, ...; of numbers: mse, r2, spearman"
_WORDS = '\n# template: "review: {review}"\n# label_words: {0: negative, 1: positive}'
_BY_FAMILY = {
    "text-classification": _TABLES + _LABELS + _METRIC,
    "seq2seq-classification": _TABLES + _WORDS,
    "image-classification": _IMAGES + _LABELS,
    "clip": _IMAGES + _LABELS,
    "lm": _TEXTS,
}


def hints(family: str) -> list[str]:
    """Comment lines with an example of every key that matters; of an unknown family, also which there are.

    Example:
        >>> hints("lm")[3]
        '# data:'
    """
    known = f"# family: one of {', '.join(_BY_FAMILY)}, custom"
    body = _BY_FAMILY.get(family) or f"\n{known}{_TABLES}{_LABELS}{_METRIC}"
    return ["#", "# What may stand here (docs/guide/tasks.md), by example:", *body.strip().splitlines()]

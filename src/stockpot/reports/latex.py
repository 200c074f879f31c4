r"""LaTeX that compiles whatever a user calls things: plain ASCII, no package but booktabs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from stockpot.reports.text import printable

__all__ = ["comments", "escape", "number", "tabular"]

_SPECIAL: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    # In TeX's own encoding these three keys hold other glyphs.
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "`": r"\textasciigrave{}",
    # After a row's \\ these would be read as its options.
    "[": "{[}", "]": "{]}", "*": "{*}",
    "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\dots{}", "±": r"$\pm$", "×": r"$\times$", "°": r"$^\circ$",
    "µ": r"$\mu$", "≤": r"$\le$", "≥": r"$\ge$", "→": r"$\to$", "ß": r"{\ss}", "ı": r"{\i}", "å": r"{\aa}",
    "Å": r"{\AA}", "æ": r"{\ae}", "Æ": r"{\AE}", "ø": r"{\o}", "Ø": r"{\O}", "œ": r"{\oe}", "Œ": r"{\OE}",
    "ł": r"{\l}", "Ł": r"{\L}",
}  # fmt: skip
#: Combining characters and the accent commands that every encoding has.
_ACCENTS: Mapping[str, str] = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0323": "d",
}  # fmt: skip
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")
#: The others look like Latin letters and have no command.
_GREEK_CAPITALS = "GAMMA DELTA THETA LAMDA XI PI SIGMA UPSILON PHI PSI OMEGA"
_GREEK_SMALL = (
    "ALPHA BETA GAMMA DELTA EPSILON ZETA ETA THETA IOTA KAPPA LAMDA MU NU XI PI RHO SIGMA TAU UPSILON PHI CHI PSI OMEGA"
)


def escape(text: object) -> str:
    r"""The text as LaTeX that shows it literally; letters that LaTeX may lack appear as their code point.

    Example:
        >>> escape("lr_3e-5 & 50%"), escape("Zoë β [中]")
        ('lr\\_3e-5 \\& 50\\%', 'Zo\\"{e} $\\beta$ {[}{[}U+4E2D{]}{]}')
    """
    # Two hyphens would become a dash, two apostrophes a quotation mark.
    return re.sub(r"(?<=-)(?=-)|(?<=')(?=')", "{}", "".join(_character(c) for c in printable(text)))


def number(text: str) -> str:
    """A number with a real minus sign.

    Example:
        >>> number("-0.5"), number("-")
        ('$-$0.5', '--')
    """
    return "--" if text == "-" else text.replace("-", "$-$")


def comments(lines: Sequence[str]) -> str:
    """Lines that LaTeX skips; they hold ASCII only."""
    shown = (printable(line).encode("ascii", "backslashreplace").decode() for line in lines)
    return "".join(f"% {line}\n" for line in shown)


def tabular(header: Sequence[Sequence[str]], sections: Sequence[Sequence[Sequence[str]]], *, left: int) -> str:
    r"""A table in the style of booktabs.

    Args:
        header: lines of titles, escaped like all cells.
        sections: lines of cells; a rule goes between two sections.
        left: number of columns of words; the others are right-aligned.

    Example:
        >>> print(tabular([["a", "b"]], [[["x", "1"]]], left=1), end="")
        \begin{tabular}{lr}
        \toprule
        a & b \\
        \midrule
        x & 1 \\
        \bottomrule
        \end{tabular}
    """
    blocks = ["".join(f"{' & '.join(cells)} \\\\\n" for cells in lines) for lines in (header, *sections)]
    columns = "l" * left + "r" * (len(header[0]) - left)
    body = "\\midrule\n".join(blocks)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\\bottomrule\n\\end{{tabular}}\n"


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii():
        letter = base if base not in "ij" else f"\\{base}"
        return f"\\{_ACCENTS[marks[0]]}{{{letter}}}"
    return _greek(character) or f"{{[}}U+{ord(character):04X}{{]}}"


def _greek(character: str) -> str | None:
    match = _GREEK.fullmatch(unicodedata.name(character, ""))
    is_small = match is not None and match[1] == "SMALL"
    if match is None or match[2] not in (_GREEK_SMALL if is_small else _GREEK_CAPITALS).split():
        return None
    name = match[2].lower().replace("lamda", "lambda")
    return f"$\\{name if is_small else name.capitalize()}$"

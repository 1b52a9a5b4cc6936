"""Refuse docstrings in the package that begin with neither a verb nor a noun. Run by `nox -s lint`.

A docstring begins with an imperative verb or a noun phrase, and no sentence in it with a word that stands for
a noun: CONTRIBUTING.md, "English".
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "peershare"

# First words that no verb or noun phrase has: of questions, of clauses, and of phrases that hang on a verb
# which is missing; and pronouns, which stand for a noun that is not said.
_FIRST_WORDS = """
    what who whom whose whether where how when why which
    as because if since so than though unless until while
    after at before behind below beside beyond by for from in into of on once out to with within without
    and but not nor or also then
    it its it's he his she they their them there nobody nothing we you
"""
_REFUSED = re.compile(rf"({'|'.join(_FIRST_WORDS.split())})(?![\w'-])", re.IGNORECASE)
# And of further sentences, where the word could be the subject: "What is left goes…".
_REFUSED_LATER = re.compile(r"[.:]\s+((?:Who|What|Whether)\b[^.?]*\.)")
_HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def refused(source: str) -> Iterator[tuple[int, str]]:
    """Find the docstrings to be mended: the line of each, and its first line of text."""
    for node in ast.walk(ast.parse(source)):
        docstring = ast.get_docstring(node) if isinstance(node, _HAVE_DOCSTRINGS) else None
        if docstring and _REFUSED.match(docstring):
            yield node.body[0].lineno, docstring.splitlines()[0]
        for sentence in _REFUSED_LATER.findall(docstring or ""):
            yield node.body[0].lineno, " ".join(sentence.split())


def main() -> int:
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: begin with a verb or a noun: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in refused(path.read_text("utf-8"))
    ]
    print("\n".join(found) or "docstrings: all well")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

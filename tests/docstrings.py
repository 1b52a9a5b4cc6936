"""Refuse docstrings in the package that begin with a question word or "it". Run by `nox -s lint`.

A docstring begins with a verb or a noun: CONTRIBUTING.md, "English".
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "peershare"

_REFUSED = re.compile(r"(what|who|it|whether|where|how)\b", re.IGNORECASE)
_HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def refused(source: str) -> Iterator[tuple[int, str]]:
    """Find the docstrings to be mended: the line of each, and its first line of text."""
    for node in ast.walk(ast.parse(source)):
        docstring = ast.get_docstring(node) if isinstance(node, _HAVE_DOCSTRINGS) else None
        if docstring and _REFUSED.match(docstring):
            yield node.body[0].lineno, docstring.splitlines()[0]


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

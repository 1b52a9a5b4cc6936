"""The check of docstrings, which `nox -s lint` runs over the package."""

import pytest

from tests.docstrings import refused

QUESTIONS = ["What", "Who", "Whether", "Where", "How", "how", "When", "Why"]
PRONOUNS = ["It", "It's", "Its", "Nobody", "Nothing", "There"]
CLAUSES = ["As", "If", "In", "With", "Of", "For", "To", "While", "Until", "So", "Not", "Or"]


@pytest.mark.parametrize("first", [*QUESTIONS, *PRONOUNS, *CLAUSES])
def test_neither_a_verb_nor_a_noun_is_refused(first):
    """Refused at the head of a module, class, function or coroutine, with its line."""
    text = f'"""{first} follows.\n\nMore."""'
    source = f"{text}\nclass A:\n    {text}\ndef f():\n    {text}\nasync def g():\n    {text}\n"
    found = [(line, said) for line, said in refused(source)]
    assert found == [(line, f"{first} follows.") for line in (1, 5, 9, 13)]


@pytest.mark.parametrize("word", ["What", "Who", "Whether"])
def test_a_later_sentence_without_a_noun_is_refused(word):
    """Refused where the word may be the subject, and not in a question."""
    source = f'"""Keep it. {word} is left\ngoes. {word} asks?"""\n'
    assert list(refused(source)) == [(1, f"{word} is left goes.")]


@pytest.mark.parametrize(
    "first", ["Return", "Whatever", "Items", "Hosts", "Frames", "However", "To-do", "Forget", "Offers", "No"]
)
def test_a_verb_or_a_noun_is_not(first):
    """Not refused, nor is what stands behind the first word, or is no docstring."""
    source = f'"""{first} follows. It is so."""\nwhat = """What follows."""\ndef f():\n    return 0\n'
    assert list(refused(source)) == []

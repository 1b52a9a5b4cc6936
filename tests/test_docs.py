"""The documents against the code and against each other."""

import importlib
import json
import math
import re
from pathlib import Path

import attrs
import pytest

from bench.attack.__main__ import name_of, programs
from docs import generate
from peershare.api.metrics_table import METRICS
from peershare.settings import Settings, about

DOCUMENTS = [*sorted(generate.ROOT.glob("*.md")), *sorted((generate.ROOT / "docs").glob("*.md"))]


def test_generated_blocks_are_up_to_date():
    """Every generated table and diagram says what the code says now, and stands in a document."""
    assert generate.stale() == [], "nox -s docs writes them anew"


def test_check_names_a_stale_block(tmp_path, monkeypatch, capsys):
    """`--check` fails and names a block that was changed by hand; writing it anew makes it pass again."""
    copies = [tmp_path / file.name for file in generate.FILES]
    for file, copy in zip(generate.FILES, copies, strict=True):
        copy.write_text(file.read_text("utf-8").replace("| `PORT` ", "| `DOOR` "), "utf-8")
    monkeypatch.setattr(generate, "FILES", copies)
    assert generate.main(["--check"]) == 1
    assert "stale: settings" in capsys.readouterr().out
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "protocol.js", "protocol.d.ts"])
def test_check_names_a_stale_file(tmp_path, monkeypatch, capsys, name):
    """`--check` fails and names a generated file that was changed or is missing; `main` writes it."""
    copies = {tmp_path / file.name: make for file, make in generate.WHOLE_FILES.items()}
    for file in generate.WHOLE_FILES:
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(generate, "WHOLE_FILES", copies)
    assert generate.main(["--check"]) == 0
    for change in (lambda file: file.write_text(file.read_text("utf-8") + " ", "utf-8"), Path.unlink):
        change(tmp_path / name)
        assert generate.main(["--check"]) == 1
        assert f"stale: {name}" in capsys.readouterr().out
        assert generate.main([]) == 0
        assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document):
    """Every relative link points to a file that is there, and every anchor to a heading of its page."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", document.read_text("utf-8")):
        page = document.parent / target if target else document
        assert page.exists(), target
        if anchor:
            assert anchor in _anchors(page.read_text("utf-8"))


def _anchors(text):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _sources():
    ours = [generate.ROOT / "noxfile.py", generate.ROOT / "pyproject.toml"]
    for folder in ("peershare", "tests", "bench", "docs"):
        ours += (
            file for kind in ("py", "js", "html") for file in (generate.ROOT / folder).rglob(f"*.{kind}")
        )
    return [file for file in ours if "node_modules" not in file.parts]


def test_11_29_documents_that_are_cited_are_there():
    """Whoever reads a test or a comment finds what it refers to in the repository, spelled like that."""
    cited = {
        (file.name, document)
        for file in _sources()
        for document in re.findall(r"(?<![\w/.*\"-])(?:docs/|bench/)?[\w-]+\.md\b", file.read_text("utf-8"))
    }
    places = [generate.ROOT, generate.ROOT / "docs", generate.ROOT / "bench"]
    missing = [one for one in cited if not any((place / one[1]).exists() for place in places)]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_json_examples_are_json(document):
    """Every example that calls itself JSON parses."""
    for example in re.findall(r"^```json\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        json.loads(example)


def _shown():
    """The metrics that the dashboard's queries name."""
    board = json.loads(generate.DASHBOARD.read_text("utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found = set(re.findall(r"\b(?:peershare|process)_\w+", " ".join(queries)))
    return {name.removesuffix("_bucket") for name in found}


def test_the_dashboard_shows_every_metric():
    """And none that the code does not have."""
    assert {name for name in _shown() if not name.startswith("process_")} == {row.name for row in METRICS}


def test_the_documents_name_no_other_metrics():
    """Alerts on what is not there would be silent for ever."""
    text = (generate.ROOT / "docs" / "metrics.md").read_text("utf-8")
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bpeershare_\w+", text)}
    assert named == {row.name for row in METRICS}


def test_panels_do_not_overlap():
    """Each has an ID and a place of its own."""
    panels = json.loads(generate.DASHBOARD.read_text("utf-8"))["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


# --- the limits ----------------------------------------------------------------------------------

LIMITS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in (generate.ROOT / "docs" / "limits.md").read_text("utf-8").splitlines()
    if re.match(r"\| (?!---|What \|)", line)
]


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0])
def test_each_limit_is_the_codes(row):
    """A number of docs/limits.md is its setting's default, its constant's value, or a product of them."""
    _, bound, source, _ = row
    names = re.findall(r"`([^`]+)`", source)
    if names:
        assert math.isclose(_number(bound), math.prod(map(_value, names)), rel_tol=0.01)
    assert source.count("\N{MULTIPLICATION SIGN}") == max(0, len(names) - 1)


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0])
def test_each_limit_is_shown(row):
    """Every row but the sum names a test or an attack program, and each of them is there."""
    shown = re.findall(r"`([^`]+)`", row[3])
    assert shown
    attacks = {f"attack: {name_of(module)}" for module in programs()}
    for name in shown:
        file, _, test = name.partition("::")
        assert name in attacks or f"def {test}(" in (generate.ROOT / file).read_text("utf-8"), name


def test_what_one_address_can_hold_altogether():
    """The rows of that section make the sum that stands below them."""
    section = (generate.ROOT / "docs" / "limits.md").read_text("utf-8")
    section = section.partition("\n## Memory of one address altogether\n")[2].partition("\n## ")[0]
    rows = [row for row in LIMITS if f"| {row[0]} |" in section]
    *parts, (_, total, *_) = rows
    assert len(parts) > 5
    assert math.isclose(sum(_number(bound) for _, bound, *_ in parts), _number(total), rel_tol=0.01)


def _number(bound):
    """The first number of a cell, such as `64 KiB` or `1,000`."""
    number, unit = re.match(r"([\d,.]+) ?([KM]iB)?", bound).groups()
    return float(number.replace(",", "")) * {None: 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]


def _value(name):
    """The default of a setting, or the value of a constant; a field's default where a class has it."""
    defaults = {about(field).variables[0]: field.default for field in attrs.fields(Settings)}
    if name in defaults:
        return defaults[name]
    module, names = re.match(r"([a-z_.]+)\.(.+)", name).groups()
    *classes, last = names.split(".")
    owner = importlib.import_module(module)
    for part in classes:
        owner = getattr(owner, part)
    is_class = isinstance(owner, type) and attrs.has(owner)
    return attrs.fields_dict(owner)[last].default if is_class else getattr(owner, last)

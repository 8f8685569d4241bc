"""What the documentation says of files, commands and options is there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import click
import cv2
import pytest

from bcd_edge import bundle
from bcd_edge.synthetic import tissue

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "cli.md")]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def cli() -> ModuleType:
    """docs/cli.py, which is no module of a package."""
    specification = importlib.util.spec_from_file_location("docs_cli", ROOT / "docs" / "cli.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands(cli: ModuleType) -> dict[str, click.Context]:
    return dict(cli.commands())


def options(context: click.Context) -> set[str]:
    """Of a command and of those above it."""
    own = {name for parameter in context.command.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)}
    return own | (options(context.parent) if context.parent else set())


def indented(page: Path) -> list[str]:
    """Lines to type, those that a backslash continues joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def test_the_page_of_commands_is_in_step(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    subprocess.run([sys.executable, ROOT / "docs" / "cli.py", page], cwd=ROOT, check=True)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), "the commands changed; run: make docs"


def layout() -> dict[str, str]:
    """Folder to what CONTRIBUTING says is in it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Layout")[2].partition("\n## ")[0]
    folders: dict[str, str] = {}
    top = here = ""
    for line in text.splitlines():
        if heading := re.match(r"( {4}| {6})(\w+)/ {2,}(.*)", line):
            top = heading[2] if len(heading[1]) == 4 else top
            here = heading[2] if len(heading[1]) == 4 else f"{top}/{heading[2]}"
            folders[here] = heading[3]
        elif line.startswith("      ") and here:
            folders[here] += " " + line
    return folders


def test_the_layout_names_every_module_and_none_that_is_not_there() -> None:
    folders = layout()
    missing = []
    for top in ("bcd_edge", "train", "export", "benchmarks", "deploy"):
        for module in (ROOT / top).rglob("*.py"):
            parts = module.relative_to(ROOT).parts
            folder = "/".join(parts[:2]) if len(parts) > 2 else top
            if not parts[-1].startswith("__") and not re.search(rf"\b{module.stem}\b", folders.get(folder, "")):
                missing.append("/".join(parts))
    named = {f"{folder}/{name}" for folder, text in folders.items() for name in re.findall(r"\b(\w+\.py)\b", text) if folder != "tests"}
    assert missing == []
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_names_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 120
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in text] == []


def test_the_readme_shows_the_embedded_bundle() -> None:
    opened = bundle.open()
    ran = re.search(r"^    (\S+ \S+) int8 on cpu .*, bundle (\w+), bcd-edge", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert ran, "README.md shows what `make demo` prints"
    assert ran.groups() == (opened.name, opened.sha256[:12]), "the bundle changed; paste what `make demo` prints into README.md"


@PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}, target


def python_examples() -> list[str]:
    """The indented blocks of the documentation that begin with an import."""
    blocks = [block for page in PAGES for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(encoding="utf-8"), re.MULTILINE)]
    examples = [textwrap.dedent(block).strip() for block in blocks]
    return [example for example in examples if example.startswith(("import ", "from "))]


@pytest.mark.parametrize("example", python_examples(), ids=range(len(python_examples())))
def test_python_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The camera is a video file: two images, numbered."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    for name in ("image.png", "inbox/image.png", "frame0.png", "frame1.png"):
        cv2.imwrite(name, tissue(1))
    exec(compile(example.replace("VideoCapture(0)", "VideoCapture('frame%d.png')"), "example", "exec"), {})
    assert "print" not in example or re.search("benign|malignant|review", capsys.readouterr().out)


@PAGE
def test_commands_to_type_have_their_options(page: Path, commands: dict[str, click.Context]) -> None:
    programs = {path for path in commands if path == "bcd-edge" or (path.count(" ") == 2 and path.startswith("python -m"))}
    for line in indented(page):
        program = next((name for name in sorted(programs) if re.search(rf"(^|[ /]){name} ", f"{line} ")), None)
        if program is None:
            continue
        words = shlex.split(line.partition(program)[2].split(" | ")[0].split(" > ")[0], comments=True)
        path = program
        for word in words:
            path = f"{path} {word}" if f"{path} {word}" in commands else path
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options(commands[path]) | {"--help"}, f"{page.name}: {line}"


@PAGE
def test_options_in_the_text_exist(page: Path, commands: dict[str, click.Context]) -> None:
    """Those of other programs (pip, docker) stand in lines to type or behind their program's name, never alone."""
    known = {name for context in commands.values() for name in options(context)} | {"--help"}
    prose = "\n".join(line for line in page.read_text(encoding="utf-8").splitlines() if not line.startswith("    "))
    alone = set(re.findall(r"`(--[a-z][a-z-]*)[ =`]", prose))
    assert alone - known == set(), page.name

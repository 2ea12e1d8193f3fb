"""What README and the pages show runs as it stands: each page from top to bottom, Python and commands alike."""

import re
import shlex
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from ptmetrics.cli import main

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "docs/extending.md": "test_extending.py",
    "docs/recipes.md": "test_recipes.py",
    "docs/runs.md": "test_resume_example.py",  # of whose script these are lines, see below
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "README.md",
    *sorted({f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - set(ELSEWHERE)),
]
NEEDED = {
    "torchmetrics": "torchmetrics",
    "TensorBoardLogger": "tensorboard",
    "MeanAveragePrecision": "pycocotools",
    "lightning": "lightning",
    "transformers": "transformers",
    "ignite": "ignite",
    "accelerate": "accelerate",
    "optuna": "optuna",
}
WARNING = re.compile("lightning|transformers|ignite|accelerate|optuna")  # at their own code
COMMANDS_OF_OTHERS = {"pip", "python", "torchrun"}


class Block(NamedTuple):
    """A fenced block, the section that it stands in, and the last name above it: the file that it is."""

    language: str
    code: str
    section: str
    file: str


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        before = BLOCK.sub("", text[: found.start()]).rstrip()
        heads = re.findall(r"^#+ (.*)$", before, re.MULTILINE)
        named = re.findall(r"`([\w./-]+\.\w+)`", before.splitlines()[-1])
        yield Block(found[1], found[2], heads[-1], (named or [""])[-1])


def code_of(page: str, language: str) -> list[str]:
    return [block.code for block in blocks(page) if block.language == language]


def commands(lines: str) -> Iterator[tuple[list[str], set[int]]]:
    """Commands of ours, and how each may end: as the comment says, else with a verdict."""
    for line in lines.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["ptmetrics"] and words[1] != "demo":  # which CI runs by itself
            told = re.search(r"# ends with (\d)", line)
            if told is None:
                yield words[1:], {0, 1, 3}
            else:
                yield words[1:], {int(told[1])}


def missing(block: Block) -> list[str]:
    """Libraries that a block needs and that are not installed."""
    needed = [library for name, library in NEEDED.items() if name in block.code]
    return [library for library in needed if find_spec(library) is None]


def run(page: str, number: int, block: Block, names: dict[str, object]) -> None:
    if block.language == "python":
        exec(compile(block.code, f"{page}, block {number + 1}", "exec"), names)
    elif block.language == "bash":
        for words, ends in commands(block.code):
            assert main(words) in ends, f"{page}: {words}"
    elif block.language == "toml":
        Path(block.file).write_text(block.code, encoding="utf-8")


@pytest.fixture(scope="module")
def readme_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(
    page: str, readme_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path
    if page == "README.md":
        folder = readme_folder
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "page"}
    passed_over: dict[str, list[str]] = {}
    for number, block in enumerate(blocks(page)):
        if missing(block):
            passed_over[block.section] = missing(block)
        if block.section not in passed_over:
            with warnings.catch_warnings():
                if WARNING.search(block.code):
                    warnings.simplefilter("ignore")
                run(page, number, block, names)
    if passed_over:
        pytest.skip(f"the rest ran; these sections need libraries: {passed_over}")


def test_a_search_prunes_runs_by_their_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks("docs/callbacks.md")):
        run("docs/callbacks.md", number, block, names)
    assert names["states"] == {"COMPLETE", "PRUNED"}


def test_pages_with_tests_of_their_own_are_there() -> None:
    for page, test in ELSEWHERE.items():
        assert code_of(page, "python")
        assert (ROOT / "tests" / test).exists()


def test_the_page_on_resuming_shows_the_lines_of_the_example() -> None:
    example = (ROOT / "examples" / "resume.py").read_text(encoding="utf-8")
    assert [code in example for code in code_of("docs/runs.md", "python")] == [True]


def test_the_commands_of_readme_read_the_run_of_its_loop(
    readme_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(readme_folder)
    if not Path("runs/digits").exists():
        exec(compile(code_of("README.md", "python")[0], "README.md", "exec"), {"__name__": "page"})
    found = list(commands("\n".join(code_of("README.md", ""))))
    assert ["report", "runs/digits"] in [words for words, _ in found]
    for words, ends in found:
        assert main(words) in ends, words
        assert "Verdict" in capsys.readouterr().out or words[0] != "report"


def workflow_steps(page: str) -> list[dict[str, str]]:
    """The steps of the workflows that a page shows, read as YAML."""
    yaml = pytest.importorskip("yaml")
    steps: list[dict[str, str]] = []
    for code in code_of(page, "yaml"):
        for job in yaml.safe_load(code)["jobs"].values():
            steps += job["steps"]
    return steps


def test_the_workflow_of_the_gate_calls_commands_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = workflow_steps("docs/ci-gate.md")
    lines = [step["run"] for step in steps if "run" in step]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    ours = {script.name for script in entry_points(group="console_scripts", name="ptmetrics")}
    for line in lines:
        assert shlex.split(line)[0] in COMMANDS_OF_OTHERS | ours, line
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks("docs/ci-gate.md")):
        if block.language in {"python", "toml"} and number < 5:
            run("docs/ci-gate.md", number, block, names)
    judged = list(commands("\n".join(lines)))
    assert [words[0] for words, _ in judged] == ["check", "check", "report"]
    assert [main(words) for words, _ in judged] == [0, 1, 0]  # as the page says of these runs


def test_every_link_and_anchor_of_the_pages_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    heads = {page: anchors(page) for page in pages}
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text("utf-8"))):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = page
            if path:
                target = (page.parent / path).resolve()
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or target not in heads or anchor in heads[target], f"{page}: {link}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's heads."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}

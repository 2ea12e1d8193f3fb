"""What README and the pages show runs as it stands: each page's Python in one go, each command of README."""

import re
import shlex
from pathlib import Path

import pytest

from ptmetrics.cli import main

ROOT = Path(__file__).parents[1]
TRAINERS = pytest.param("docs/integrations.md", marks=pytest.mark.filterwarnings("ignore"))
PAGES = ("README.md", "docs/metrics.md", "docs/ranks.md", "docs/trackers.md", TRAINERS)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for found, code in BLOCK.findall(text) if found == language]


@pytest.fixture(scope="module")
def readme_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: str, readme_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {
        "torchmetrics": "torchmetrics",
        "TensorBoardLogger": "tensorboard",
        "import lightning": "lightning",
        "from transformers": "transformers",
        "from accelerate": "accelerate",
        "from ignite": "ignite",
    }
    for name, library in needed.items():
        if name in "".join(blocks(page, "python")):
            pytest.importorskip(library)
    monkeypatch.chdir(readme_folder)
    names: dict[str, object] = {"__name__": "page"}
    code = blocks(page, "python")
    assert code
    for number, block in enumerate(code):
        exec(compile(block, f"{page}, block {number + 1}", "exec"), names)


def test_the_commands_of_readme_read_the_run_of_its_loop(
    readme_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(readme_folder)
    if not Path("runs/digits").exists():
        exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), {"__name__": "page"})
    lines = "\n".join(blocks("README.md", "")).splitlines()
    commands = [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ptmetrics ")
    ]
    assert ["report", "runs/digits"] in commands
    for command in commands:
        assert main(command) in {0, 1, 3}, command
        assert "Verdict" in capsys.readouterr().out or command[0] != "report"


def test_every_link_and_anchor_of_readme_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    heads = {
        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in heads, link
        elif "://" not in link:
            assert (ROOT / link).exists(), link

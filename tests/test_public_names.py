"""The names that a user sees."""

import ast
from pathlib import Path

import ptmetrics as pm

ROOT = Path(pm.__file__).parent.parent


def test_dir_shows_the_public_names_and_no_others() -> None:
    pm.judge  # noqa: B018 — looked up names stay in the module
    assert dir(pm) == sorted(pm.__all__)
    assert {"judge", "Monitor", "report"} <= set(dir(pm))
    assert not {"Any", "import_module", "show", "TYPE_CHECKING"} & set(dir(pm))
    for name in dir(pm):
        assert getattr(pm, name) is not None


def test_an_editor_and_a_type_checker_know_the_same_names_from_the_same_homes() -> None:
    tree = ast.parse(Path(str(pm.__file__)).read_text(encoding="utf-8"))
    typed = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and "ptmetrics" in node.module:
            for alias in node.names:
                typed[alias.asname] = f"{node.module}.{alias.name}".removeprefix("ptmetrics.")
    assert set(typed) == set(pm._HOME)
    for name, home in pm._HOME.items():
        assert typed[name] in (home, f"{home}.{name}"), name


def test_every_callback_is_in_the_table_of_its_page() -> None:
    pages = [ROOT / "docs" / page for page in ("callbacks.md", "trackers.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    for name in pm.__all__:
        each = getattr(pm, name)
        if isinstance(each, type) and issubclass(each, pm.Callback) and each is not pm.Callback:
            assert f"pm.{name}(" in text, name

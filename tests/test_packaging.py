"""What a user installs: extras, size, imports, completion, and commands that are printed as a cure."""

import ast
import io
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import ptmetrics
from ptmetrics.cli import main
from tests.typing import user_script

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ptmetrics"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PROMISED = "demo report torchmetrics trackio tensorboard mlflow wandb lightning transformers"
PROMISED += " ignite accelerate leakage all"
NAMED_LATER = {
    "{package}",
    "{error.name}",
}  # what trackers pass is looked at; data sets name theirs


def required(extra: str) -> set[str]:
    """Packages of an extra, those of extras that it names included."""
    found = set()
    for line in EXTRAS[extra]:
        inner = re.match(r"ptmetrics\[(.+)\]", line)
        if inner is None:
            found.add(re.match(r"[\w.-]+", line)[0].lower())
        else:
            found.update(*(required(name) for name in inner[1].split(",")))
    return found


def printed_pip_lines() -> list[tuple[str, str]]:
    """What texts of the package say behind `pip install`, with the file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text("utf-8")
        for named in re.findall(r'library\("[\w.]+", "([\w-]+)"\)', source):
            found.append((path.name, named))
        for node in ast.walk(ast.parse(source)):
            text = ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = ast.unparse(node)
            for named in re.findall(r"pip install '?([\w.\[\],{}-]+[\w\]}])", text):
                found.append((path.name, named))
    return found


def test_all_extras_that_are_promised_exist_and_all_holds_them() -> None:
    assert set(PROMISED.split()) <= set(EXTRAS)
    for extra in PROMISED.split():
        assert required(extra) <= required("all")


def test_every_pip_line_that_is_printed_names_an_extra_or_a_package_of_one() -> None:
    lines = printed_pip_lines()
    packages = set().union(*(required(extra) for extra in EXTRAS))
    wrong = []
    for file, named in lines:
        inner = re.fullmatch(r"ptmetrics\[(.+)\]", named)
        if inner is not None and not set(inner[1].split(",")) <= set(EXTRAS):
            wrong.append((file, named))
        if inner is None and named not in packages | NAMED_LATER:
            wrong.append((file, named))
    assert not wrong
    assert len(lines) >= 14
    assert ("wandb.py", "wandb") in lines


def test_the_version_is_that_of_the_project_and_the_changelog_tells_of_it() -> None:
    assert ptmetrics.__version__ == PROJECT["version"]
    assert f"## [{ptmetrics.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_wheel_is_at_most_one_mib() -> None:
    """As a wheel packs it; `make package` looks at the wheel itself."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for folder in (PACKAGE, ROOT / "configs"):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    wheel.write(path, path.relative_to(ROOT))
    assert 300_000 < len(packed.getvalue()) <= 1024**2


def test_importing_the_package_imports_nothing_else_and_its_parts_nothing_heavy() -> None:
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import ptmetrics as pm\n"
        "assert set(sys.modules) - before == {'ptmetrics'}, set(sys.modules) - before\n"
        "pm.Monitor, pm.MulticlassMetrics, pm.EarlyStopping, pm.judge\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    added = set(done.stdout.split()) - sys.stdlib_module_names
    assert added <= {"ptmetrics", "numpy", "tomli"}


def test_a_users_typed_script_runs_as_it_is_checked(tmp_path: Path) -> None:
    user_script.main(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_of_a_shell_knows_commands_options_and_paths(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("shtab") is None:
        pytest.skip("shtab is not installed")
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert not ended.value.code
    script = capsys.readouterr().out
    for word in ("check", "--baseline", "report", "watch", "_files"):
        assert word in script


def test_completion_without_its_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 2
    assert "Run pip install 'ptmetrics[completion]'." in capsys.readouterr().err

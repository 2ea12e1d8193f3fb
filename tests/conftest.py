"""One thread: the suite shares its cores, and sums depend on how many. And `--faults-table`."""

from collections.abc import Iterator
from pathlib import Path

import fault_rows
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("suite", deadline=None)  # how long something takes is no test of it
settings.load_profile("suite")
SLOW_TO_IMPORT = {
    f"test_{name}.py"
    for name in (
        "accelerate_prepared",
        "ignite",
        "lightning",
        "lightning_ranks",
        "peft",
        "transformers",
    )
}
"""Files of which every test is slow."""
MINUTES_LONG = "test_interpreted.py"
"""Begun first, so that no process is left alone with it in the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults-table", action="store_true", help="only rows of the table of faults, and print it"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Libraries that take seconds to import are left alone where none of their tests is wanted."""
    if config.option.markexpr == "not slow" and collection_path.name in SLOW_TO_IMPORT:
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--faults-table"):
        items[:] = [item for item in items if item.get_closest_marker("fault")]
    items.sort(key=lambda item: item.path.name != MINUTES_LONG)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    rows = [row for mark in item.iter_markers("fault") for row in mark.args]
    report.user_properties += [
        ("fault", row) for row in rows if report.when == "call" or not report.passed
    ]
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.getoption("--faults-table"):
        return
    told = [
        fault_rows.Told(row, report.nodeid, outcome)
        for outcome in ("passed", "failed", "skipped", "error", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)  # a file that is skipped has one of another kind
        for name, row in report.user_properties
        if name == "fault"
    ]
    terminalreporter.section("table of faults")
    for line in fault_rows.table(told):
        terminalreporter.write_line(line)

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_makers import journal_of, line

import ptmetrics
from ptmetrics.errors import ConfigError, RecordError
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run
from ptmetrics.record.run_folder import create, environment, find_run, find_runs, journals

BAD_NAMES = {
    "nul": ("a\0b", "no control characters"),
    "newline": ("a\nb", "no control characters"),
    "C1 control": ("a\x85b", "no control characters"),
    "up": ("../a", 'no ".."'),
    "up in between": ("a/../../b", 'no ".."'),
    "10 kB": ("x" * 10_000, "at most 120 characters"),
    "10 kB above": ("x" * 10_000 + "/a", "can be made"),
    "121 above": ("x" * 121 + "/a", "at most 120 characters"),
    "device": ("CON", "no device name"),
    "device with suffix": ("nul.tar.gz", "no device name"),
    "device above": ("Com1/a", "no device name"),
    "device with space": ("aux .x", "no device name"),
    "superscript device": ("LPT²", "no device name"),
    "pipe sign": ("a|b", "only letters"),
    "backslash": ("a\\b", "only letters"),
    "colon": ("a:b", "only letters"),
    "markup": ("<img src=x onerror=alert(1)>", "only letters"),
    "bidi": ("a\u202eb", "only letters"),
    "trailing dot": ("a.", "nor end with a dot"),
    "trailing space": ("a ", "neither start nor end with a space"),
    "leading space": (" a", "neither start nor end with a space"),
    "surrogate": ("a\ud800", "only letters"),
}
GOOD_NAMES = [
    "pretrained",
    "runs/seed=1/lr 0.1+aug@v2",
    "runs//a/",
    "./a",
    ".hidden",
    "größe",
    "अनुभव",
    "e\u0301",
    "-x",
    "CONTROL",
    "lpt",
]


@pytest.mark.fault(44)
@pytest.mark.parametrize(("name", "rule"), BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_a_bad_name_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rule: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with pytest.raises(RecordError) as caught:
        create(name)
    assert rule in caught.value.expected
    assert caught.value.name.startswith("run ")
    assert caught.value.cure.startswith("Choose a")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
    assert list(tmp_path.rglob("*")) == [work]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_name_is_made_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create(name)
    assert folder == tmp_path / name
    assert folder.is_dir()
    assert create(name) == folder  # still without a run


@pytest.mark.fault(44)
@given(st.text(max_size=40))
def test_no_name_at_all_makes_a_folder_outside(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    root = tmp_path_factory.mktemp("outer") / "inner" / "runs"
    try:
        folder = create(f"{root}/{name}")
    except RecordError:
        assert not root.exists()
    else:
        assert folder.is_dir()
        assert folder.resolve().is_relative_to(root)


def test_folders_above_that_exist_may_have_any_name(tmp_path: Path) -> None:
    above = tmp_path / "Projects (old) & more"
    above.mkdir()
    assert create(above / "runs" / "a").is_dir()


@pytest.mark.fault(44)
def test_a_link_as_the_run_itself_is_refused_and_a_link_above_is_not(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    for name in ("link", "dangling"):
        with pytest.raises(
            RecordError, match=r"expected a folder, got a symbolic link\. Choose another name"
        ):
            create(tmp_path / name)
    assert create(tmp_path / "link" / "a").is_dir()
    assert list(real.iterdir()) == [real / "a"]


@pytest.mark.fault(41)
def test_a_folder_with_a_run_is_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    path = journal_of(tmp_path, line(0, "note", {}), rank=3)
    before = path.read_bytes()
    with pytest.raises(RecordError) as caught:
        create(tmp_path, if_exists="error")
    assert caught.value.expected == "a folder without a run"
    assert caught.value.got == "one that holds journal-rank3.jsonl"
    assert '"keep", "overwrite" or "resume"' in caught.value.cure
    assert create(tmp_path, if_exists="resume") == tmp_path
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match='"keep", "error", "overwrite" or "resume", got \'new\''):
        create(tmp_path, if_exists="new")
    assert path.read_bytes() == before


def left_by_a_run(folder: Path) -> dict[str, bytes]:
    """A folder with all that a run leaves, and two files of the user's own."""
    journal_of(folder, line(0, "note", {}))
    journal_of(folder, line(0, "note", {}), rank=1)
    (folder / "samples-3.npy").write_bytes(b"samples")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.pt").write_bytes(b"weights")
    (folder / "notes.txt").write_bytes(b"mine")
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").write_bytes(b"mine")
    return files(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


MINE = {"notes.txt": b"mine", "figures/a.png": b"mine"}


def test_an_earlier_run_is_moved_whole_and_the_users_own_files_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = left_by_a_run(tmp_path)
    create(tmp_path)
    moved = {f"earlier/1/{name}": held for name, held in before.items() if name not in MINE}
    assert files(tmp_path) == moved | MINE
    assert len(caplog.records) == 1
    assert f"is now in {tmp_path}/earlier/1" in caplog.text
    create(tmp_path)  # nothing there to move
    journal_of(tmp_path, line(1, "note", {}))
    create(tmp_path)
    assert sorted(path.name for path in (tmp_path / "earlier").iterdir()) == ["1", "2"]
    assert len(caplog.records) == 2


def test_overwrite_removes_the_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    left_by_a_run(tmp_path)
    create(tmp_path)
    kept = files(tmp_path)
    journal_of(tmp_path, line(1, "note", {}))
    (tmp_path / "samples-0.npy").write_bytes(b"samples")
    create(tmp_path, if_exists="overwrite")
    assert files(tmp_path) == kept


def test_a_move_that_was_cut_off_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left_by_a_run(tmp_path)
    replace = Path.replace

    def cut(path: Path, target: Path) -> Path:
        if path.name == "journal-rank1.jsonl":
            raise OSError(5, "Input/output error")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(RecordError, match="Input/output error"):
            create(tmp_path)
    assert any(path.name.startswith("journal") for path in tmp_path.iterdir())
    create(tmp_path)
    found = files(tmp_path)
    assert sorted(found.values()) == sorted(before.values())
    assert not any(path.name.startswith("journal") for path in tmp_path.iterdir())


@pytest.mark.parametrize("if_exists", ["keep", "overwrite", "error"])
def test_a_run_that_a_process_writes_is_refused_and_stays(tmp_path: Path, if_exists: str) -> None:
    with Journal(tmp_path) as journal:
        journal.append("note", {"code": "a", "message": "b"})
        before = files(tmp_path)
        with pytest.raises(RecordError, match=r"another process writes|a folder without a run"):
            create(tmp_path, if_exists=if_exists)
        assert files(tmp_path) == before
    create(tmp_path)  # its writer is done
    assert (tmp_path / "earlier" / "1" / "journal-rank0.jsonl").exists()


def test_a_journal_that_is_moved_while_it_is_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal_of(tmp_path, line(0, "note", {}))
    moved = tmp_path / "moved.jsonl"

    def lock(fd: int) -> bool:
        if not moved.exists():
            path.replace(moved)  # another process was quicker
        return True

    monkeypatch.setattr("ptmetrics.record.journal.try_lock", lock)
    before = path.read_bytes()
    with Journal(tmp_path) as journal:
        assert journal.attempt == 1
        journal.append("note", {"code": "a", "message": "b"})
    assert moved.read_bytes() == before


@pytest.mark.parametrize("name", ["", b"run", None, 3, ["run"]])
def test_what_is_no_path_is_refused_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    journal_of(tmp_path, line(0, "note", {}))
    before = files(tmp_path)
    for use in (create, find_runs, read_run):
        with pytest.raises(RecordError) as caught:
            use(name)
        assert (caught.value.name, caught.value.expected) == ("run", "a path")
        assert "runs/pretrained" in caught.value.cure
    assert files(tmp_path) == before


def test_lists_pass_over_earlier_runs(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    for _ in range(3):
        create(run)
        journal_of(run, line(0, "note", {}))
    assert find_runs(run) == [run]
    assert find_runs(tmp_path / "runs") == [run]
    assert find_runs(run / "earlier") == [run / "earlier" / "1", run / "earlier" / "2"]


def test_a_run_that_wrote_no_record_does_not_use_its_name_up(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    journal_of(tmp_path / "run")
    assert create(tmp_path / "run") == tmp_path / "run"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    for name in ("a", "a/b"):
        with pytest.raises(
            RecordError,
            match=r"expected a folder that can be made, got .*\. Choose a folder that can",
        ):
            create(tmp_path / name)
    assert (tmp_path / "a").read_text() == "mine"


def test_journals_are_listed_by_rank_and_nothing_else_is(tmp_path: Path) -> None:
    for rank in (10, 2, 0):
        journal_of(tmp_path, rank=rank)
    for other in ("journal-rank1.jsonl.bak", "xjournal-rank1.jsonl", "journal-rank-1.jsonl"):
        (tmp_path / other).touch()
    assert [path.name for path in journals(tmp_path)] == [
        f"journal-rank{rank}.jsonl" for rank in (0, 2, 10)
    ]


def test_a_person_names_one_run_or_a_folder_of_runs(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "arm" / name).mkdir(parents=True)
        journal_of(tmp_path / "arm" / name)
    assert find_runs(tmp_path / "arm") == [tmp_path / "arm" / "a", tmp_path / "arm" / "b"]
    assert find_run("RUN", tmp_path / "arm" / "a") == tmp_path / "arm" / "a"
    with pytest.raises(RecordError, match=r"RUN: expected one run, got a folder with 2 runs\."):
        find_run("RUN", tmp_path / "arm")
    with pytest.raises(RecordError, match="a run folder, got nothing there"):
        find_runs(tmp_path / "nowhere")


def test_a_folder_without_runs_is_refused_with_what_may_be_meant(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"got none in it\. Pass the folder that Monitor"):
        find_runs(tmp_path)
    (tmp_path / "metrics.csv").touch()
    with pytest.raises(RecordError, match=r"Did you mean .*metrics\.csv\?"):
        find_runs(tmp_path)


def test_runs_are_found_at_any_depth_but_not_inside_of_one_nor_those_set_aside(
    tmp_path: Path,
) -> None:
    wanted = [tmp_path / "plain", tmp_path / "resnet" / "a" / "seed1", tmp_path / "z" / "b"]
    passed_over = [
        tmp_path / "plain" / "earlier" / "1",
        tmp_path / "plain" / "inner",
        tmp_path / "z" / "earlier" / "1",
        tmp_path / "earlier" / "2",
    ]
    for folder in (*wanted, *passed_over):
        folder.mkdir(parents=True)
        journal_of(folder)
    assert find_runs(tmp_path) == wanted
    assert find_runs(tmp_path / "earlier") == [tmp_path / "earlier" / "2"]


def test_the_environment_is_a_fixed_list_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setattr(sys, "argv", ["prog", "--password=hunter2"])
    found = environment()
    assert list(found) == [
        "ptmetrics",
        "python",
        "platform",
        "machine",
        "cpu_count",
        "torch",
        "cuda",
    ]
    assert found["ptmetrics"] == ptmetrics.__version__
    assert "hunter2" not in repr(found)


def test_the_environment_names_torch_only_if_it_is_there_already() -> None:
    code = "import sys, ptmetrics.record.run_folder as r; print(r.environment()['torch'], 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == [
        "None",
        "False",
    ]
    torch = pytest.importorskip("torch")
    assert environment()["torch"] == str(torch.__version__)
    assert environment()["cuda"] == torch.version.cuda

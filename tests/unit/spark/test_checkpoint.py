"""A checkpoint is continued only where it can be, and never lost without a word."""

from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape_spark.checkpoint import Beginning, CheckpointFolder, starting_offsets

BEGINNING = Beginning("the same", {"0": 17, "1": 4}, 1_000_000)


def test_what_was_begun_is_read_back(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "new" / "folder")
    assert folder.read("the same") is None
    folder.begin(BEGINNING)
    assert CheckpointFolder(folder.folder).read("the same") == BEGINNING


def test_a_stream_that_was_begun_otherwise_is_not_continued(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.begin(BEGINNING)
    assert folder.read("another") == "it was made from another tape, or by a version that computes panes otherwise"


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"[" * 100_000])
def test_a_damaged_beginning_is_said_and_not_raised(tmp_path: Path, content: bytes) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.begin(BEGINNING)
    (tmp_path / "current" / "beginning.json").write_bytes(content)
    assert "beginning.json" in str(folder.read("the same"))


def test_a_checkpoint_of_a_start_that_was_killed_at_once_is_said(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    assert "No such file" in str(CheckpointFolder(tmp_path).read("the same"))


def test_what_is_set_aside_is_kept_and_makes_room(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for state in ("first", "second"):
        folder.begin(BEGINNING)
        folder.spark.mkdir()
        (folder.spark / "state").write_text(state)
        aside = folder.set_aside()
    assert (aside / "spark" / "state").read_text() == "second"
    assert folder.read("the same") is None


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_surroundings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="choose another with --checkpoint"):
        CheckpointFolder(tmp_path / "file" / "folder")


def test_offsets_are_written_as_spark_reads_them() -> None:
    assert starting_offsets("x.trades", {"0": 17}) == '{"x.trades":{"0":17}}'

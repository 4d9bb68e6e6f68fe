"""The staging area in a folder: what is described is whole, and what is set aside can come back."""

from pathlib import Path

import msgspec
import pytest

from fulltape.errors import ConfigurationError
from fulltape.warehouse.staging import Staging, batch_path
from tests.redshift.rows import stage, trade


def test_a_batch_is_listed_once_it_is_published_and_reads_back(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path / "area"))
    assert staging.listed("trades") == {}
    hidden = stage(staging, 5, [trade(1)], publish=False)
    assert staging.listed("trades") == {}
    staging.publish(hidden)
    other = stage(staging, 0, [trade(1), trade(2), trade(3)], files=2)
    assert list(staging.listed("trades")) == [other.name, hidden.name]
    assert staging.read("trades", other.name) == other
    assert [file.rows for file in other.files] == [2, 1]


def test_written_again_a_batch_is_the_same_bytes_in_the_same_places(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    first = stage(staging, 0, [trade(1)])
    content = (tmp_path / first.files[0].path).read_bytes()
    stage(staging, 0, [trade(1)])
    assert (tmp_path / first.files[0].path).read_bytes() == content
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


def test_a_writer_that_died_leaves_nothing_that_is_listed(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    batch = stage(staging, 0, [trade(1)])
    (tmp_path / f"batches/trades/.{batch.name}.json.1.2").write_text("half")
    assert list(staging.listed("trades")) == [batch.name]


def test_a_removed_batch_leaves_nothing_and_may_be_removed_again(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    batch = stage(staging, 0, [trade(1), trade(2)], files=2)
    staging.remove_batch(batch)
    staging.remove_batch(batch)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_batch_that_was_set_aside_comes_back_as_it_was(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    batch = stage(staging, 0, [trade(1)])
    staging.quarantine("trades", batch.name, "it is bad")
    staging.quarantine("trades", batch.name, "said another loader")
    assert staging.listed("trades") == {}
    (aside,) = staging.quarantined("trades")
    assert (aside.name, aside.reason, staging.count_quarantined("trades")) == (batch.name, "it is bad", 1)
    staging.release(aside)
    assert staging.read("trades", batch.name) == batch
    assert staging.count_quarantined("trades") == 0


def test_a_description_of_another_batch_is_refused(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    batch = stage(staging, 0, [trade(1)])
    staging.write(batch_path("trades", "other"), msgspec.json.encode(batch))
    with pytest.raises(msgspec.ValidationError, match="describes the batch"):
        staging.read("trades", "other")


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Exception, match="can't write") as caught:
        stage(Staging(str(tmp_path / "file")), 0, [trade(1)])
    assert caught.type.__name__ in {"StagingUnavailableError", ConfigurationError.__name__}

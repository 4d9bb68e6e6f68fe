"""The cluster of a machine with Docker, by a program in kind's place that only remembers what it was asked for."""

from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from tests.cluster.kind import Kind

_PROGRAM = """\
#!/bin/sh
echo "$@" >> {folder}/asked
[ "$1" != get ] || cat {folder}/clusters
exit $(cat {folder}/code)
"""


class _InKindsPlace:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.program = folder / "kind"
        self.program.write_text(_PROGRAM.format(folder=folder))
        self.program.chmod(0o755)
        self.say(clusters="", code=0)

    def say(self, clusters: str, code: int) -> None:
        (self._folder / "clusters").write_text(clusters)
        (self._folder / "code").write_text(str(code))

    def asked(self) -> list[list[str]]:
        return [line.split() for line in (self._folder / "asked").read_text().splitlines()]


@pytest.fixture
def in_kinds_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _InKindsPlace:
    monkeypatch.setattr(Kind, "kubeconfig", tmp_path / "cache" / "kubeconfig")
    return _InKindsPlace(tmp_path)


def test_a_cluster_is_made_once_by_the_file_that_names_it(in_kinds_place: _InKindsPlace) -> None:
    kind = Kind(in_kinds_place.program)
    kind.start()
    in_kinds_place.say(clusters="other\nfulltape\n", code=0)
    kind.start()
    made, exported = (asked for asked in in_kinds_place.asked() if asked[0] != "get")
    assert made[:2] == ["create", "cluster"]
    assert exported[:2] == ["export", "kubeconfig"]
    for asked in (made, exported):
        assert {"--name=fulltape", f"--kubeconfig={Kind.kubeconfig}"} <= set(asked)


def test_what_kind_refuses_is_told(in_kinds_place: _InKindsPlace) -> None:
    in_kinds_place.say(clusters="", code=1)
    with pytest.raises(ConfigurationError, match="kind create cluster failed"):
        Kind(in_kinds_place.program).start()


def test_a_cluster_that_is_deleted_leaves_nothing_that_opens_it(in_kinds_place: _InKindsPlace) -> None:
    Kind.kubeconfig.parent.mkdir()
    Kind.kubeconfig.touch()
    Kind(in_kinds_place.program).delete()
    assert not Kind.kubeconfig.exists()
    assert in_kinds_place.asked()[-1][:2] == ["delete", "cluster"]

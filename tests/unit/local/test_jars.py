"""What counts as a whole set of jars, and what a damaged or incomplete one is called."""

import hashlib
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.local import jars


def put(folder: Path, **contents: bytes) -> dict[str, str]:
    """Write jars and return the lock that fits them."""
    for name, content in contents.items():
        (folder / f"{name}.jar").write_bytes(content)
    return {f"{name}.jar": hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_a_set_that_fits_its_lock_has_no_mistakes(tmp_path: Path) -> None:
    lock = put(tmp_path, a=b"1", b=b"2")
    (tmp_path / "java-17.jsa").write_bytes(b"the JVM's class archive lies beside the jars")
    assert jars.mistakes(tmp_path, lock) == []


def test_missing_surplus_and_changed_jars_are_each_named(tmp_path: Path) -> None:
    lock = put(tmp_path, a=b"1", b=b"2")
    put(tmp_path, c=b"3")
    (tmp_path / "a.jar").unlink()
    (tmp_path / "b.jar").write_bytes(b"")
    assert sorted(jars.mistakes(tmp_path, lock)) == [
        "a.jar is missing",
        "b.jar has another content",
        "c.jar is not in the lock",
    ]


def test_a_folder_that_does_not_exist_misses_every_jar(tmp_path: Path) -> None:
    assert jars.mistakes(tmp_path / "none", {"a.jar": "0" * 64}) == ["a.jar is missing"]


@pytest.mark.parametrize("jar_set", jars.JAR_SETS, ids=lambda jar_set: jar_set.name)
def test_a_committed_lock_names_the_artifacts_of_its_set(jar_set: jars.JarSet) -> None:
    lock = jars.read_lock(jar_set.lock)
    assert {f"{artifact}-{version}.jar" for _, artifact, version in jar_set.dependencies} <= lock.keys()


@pytest.mark.parametrize("line", ["abc  x.jar", "0" * 64 + "  ../x.jar", "0" * 64 + "  x.zip", ""])
def test_a_damaged_lock_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "some.lock"
    path.write_text(f"{'0' * 64}  good.jar\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"some\.lock:2: is not"):
        jars.read_lock(path)


def test_what_a_killed_fetch_left_is_not_taken_for_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that brings other jars than the lock's installs nothing and leaves nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock_file = tmp_path / "set.lock"
    lock_file.write_text(f"{'0' * 64}  wanted.jar\n")
    jar_set = jars.JarSet("set-1", [("org.example", "wanted", "1")], lock_file)
    half_done = jars.cache_folder() / "set-1.fetching" / "jars"
    half_done.mkdir(parents=True)
    (half_done / "wanted.jar").write_bytes(b"half")

    def fetch(_jar_set: jars.JarSet, scratch: Path, expected: int) -> None:
        assert expected == 1
        assert list(scratch.iterdir()) == []
        (scratch / "jars").mkdir()
        (scratch / "jars" / "wanted.jar").write_bytes(b"not what the lock says")

    monkeypatch.setattr(jars, "_resolve", fetch)
    with pytest.raises(ConfigurationError, match=r"wanted\.jar has another content; nothing was installed"):
        jars.ensure_jars(jar_set)
    assert [path.name for path in jars.cache_folder().iterdir()] == ["set-1.lock"]


def test_a_damaged_set_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock_file = tmp_path / "set.lock"
    lock_file.write_text(f"{hashlib.sha256(b'good').hexdigest()}  wanted.jar\n")
    jar_set = jars.JarSet("set-1", [("org.example", "wanted", "1")], lock_file)
    folder = jars.cache_folder() / "set-1"
    folder.mkdir(parents=True)
    put(folder, wanted=b"bad", old=b"old")

    def fetch(_jar_set: jars.JarSet, scratch: Path, **_: int) -> None:
        (scratch / "jars").mkdir()
        put(scratch / "jars", wanted=b"good")

    monkeypatch.setattr(jars, "_resolve", fetch)
    assert jars.ensure_jars(jar_set) == [folder / "wanted.jar"]
    assert [path.name for path in folder.iterdir()] == ["wanted.jar"]

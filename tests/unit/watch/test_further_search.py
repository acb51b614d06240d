"""The search of directories that scans pass over: it finds every file, however many there are, and a part at a time."""

from __future__ import annotations

from pathlib import Path

from sessiond.watch.scan import FurtherSearch


def fill(directory: Path, count: int) -> set[str]:
    """Write files in subdirectories; return their paths."""
    found = set()
    for number in range(count):
        path = directory / f"d{number % 7}" / f"{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}\n")
        found.add(str(path))
    return found


def test_a_search_without_a_bound_finds_every_file_once(tmp_path: Path) -> None:
    expected = fill(tmp_path, 200)
    search = FurtherSearch([str(tmp_path), str(tmp_path / "d1"), str(tmp_path)])
    found = list(search.files())
    assert search.complete
    assert sorted(found) == sorted(expected)


def test_a_search_in_parts_finds_the_same_files(tmp_path: Path) -> None:
    expected = fill(tmp_path, 200)
    search = FurtherSearch([str(tmp_path)])
    parts = []
    while not search.complete:
        parts.append(set(search.files(10)))
    assert len(parts) > 5
    assert set().union(*parts) == expected
    assert sum(map(len, parts)) == len(expected)


def test_a_part_ends_with_the_directory_in_which_enough_was_seen(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / str(number)).touch()
    search = FurtherSearch(str(tmp_path / name) for name in "abc")
    assert [len(list(search.files(most))) for most in (3, 4)] == [3, 6]
    assert search.complete


def test_what_can_not_be_read_and_links_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    search = FurtherSearch([str(tmp_path), str(tmp_path / "missing")])
    assert list(search.files()) == []
    assert search.complete

"""Programs of other sites, where directories are shared."""

import os
from pathlib import Path

from gateway.backends.sources import Elsewhere, Rule, glob


def near(rules: dict[str, str], directory: Path | str, owner: str = "me") -> set[bytes]:
    """Return the directories of the rules that are found; `rules` is directory -> owner."""
    pairs = [(name, (os.fsencode(path), glob(b"*.cgi"))) for path, name in rules.items()]
    made: list[tuple[str, Rule]] = list(pairs)
    return {rule[0] for rule in Elsewhere(made).near(os.fsencode(directory), owner)}


def test_what_is_inside_or_around_is_found_and_nothing_else(tmp_path: Path) -> None:
    names = ("a", "a/b", "a/b/c", "a/bc", "a-b", "b", "a/b.d")
    rules = {f"{tmp_path}/{name}": "other" for name in names}
    found = near(rules, f"{tmp_path}/a/b")
    assert found == {os.fsencode(tmp_path / name) for name in ("a", "a/b", "a/b/c")}
    assert near(rules, f"{tmp_path}/a/b/") == found
    assert near(rules, "/") == {os.fsencode(path) for path in rules}
    assert near({"/": "other"}, tmp_path) == {b"/"}


def test_ones_own_are_not(tmp_path: Path) -> None:
    rules = {f"{tmp_path}/a": "me", f"{tmp_path}/a/b": "other"}
    assert near(rules, f"{tmp_path}/a") == {os.fsencode(tmp_path / "a/b")}


def test_links_are_seen_through_on_both_sides(tmp_path: Path) -> None:
    real = tmp_path / "releases" / "5" / "cgi"
    real.mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/5")
    (tmp_path / "again").symlink_to(tmp_path / "current")
    for one, other in (("current", "releases/5"), ("releases/5", "again"), ("again", "current")):
        rule = f"{tmp_path}/{other}/cgi"
        assert near({rule: "other"}, f"{tmp_path}/{one}") == {rule.encode()}
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    assert near({f"{circle}/cgi": "other"}, tmp_path) == {f"{circle}/cgi".encode()}

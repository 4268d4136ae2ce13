"""The reader's memory: what has not changed is not read again, and nothing else is remembered."""

import os
from pathlib import Path

import pytest

from gateway.config.load import SettingsFile, runtime_of
from gateway.reading import BadConfig
from gateway.units import Duration

MAIN = 'include = ["sites.d/*.toml"]\n[limits]\nidle = "30 s"\n'


def site(directory: Path, name: str, more: str = "") -> str:
    (directory / "htdocs").mkdir(exist_ok=True)
    return f'[[site]]\nhosts = ["{name}"]\nroot = "{directory}/htdocs"\n{more}'


@pytest.fixture
def file(tmp_path: Path) -> SettingsFile:
    (tmp_path / "sites.d").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"sites.d/{name}.toml").write_text(site(tmp_path, f"{name}.test"))
    (tmp_path / "gateway.toml").write_text(MAIN)
    return SettingsFile(str(tmp_path / "gateway.toml"))


def write(path: Path, text: str) -> None:
    """Write a file so that its identity is surely another: clocks of file systems are coarse."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 1, before + 1))


def test_what_has_not_changed_is_the_same_object(file: SettingsFile, tmp_path: Path) -> None:
    first = file.load()
    write(tmp_path / "sites.d/b.toml", site(tmp_path, "b.test", "listing = true\n"))
    second = file.load()
    assert second.site[0] is first.site[0]
    assert (first.site[1].listing, second.site[1].listing) == (False, True)


def test_same_size_at_the_same_second_is_seen_all_the_same(
    file: SettingsFile, tmp_path: Path
) -> None:
    file.load()
    write(tmp_path / "sites.d/b.toml", site(tmp_path, "c.test"))
    assert [each.hosts for each in file.load().site] == [("a.test",), ("c.test",)]


def test_replaced_file_is_seen_whatever_its_time(file: SettingsFile, tmp_path: Path) -> None:
    file.load()
    old = tmp_path / "sites.d/b.toml"
    new = tmp_path / "new.toml"
    new.write_text(site(tmp_path, "c.test"))
    times = old.stat()
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.rename(old)
    assert file.load().site[1].hosts == ("c.test",)


def test_files_come_and_go(file: SettingsFile, tmp_path: Path) -> None:
    file.load()
    (tmp_path / "sites.d/a.toml").unlink()
    write(tmp_path / "sites.d/z.toml", site(tmp_path, "z.test"))
    assert [each.hosts for each in file.load().site] == [("b.test",), ("z.test",)]


def test_general_limits_reach_sites_that_have_not_changed(
    file: SettingsFile, tmp_path: Path
) -> None:
    assert file.load().site[0].limits.idle == Duration(30.0)
    write(tmp_path / "gateway.toml", MAIN.replace("30 s", "40 s"))
    assert file.load().site[0].limits.idle == Duration(40.0)


def test_directory_that_has_gone_is_refused_though_the_file_is_the_same(
    file: SettingsFile, tmp_path: Path
) -> None:
    file.load()
    (tmp_path / "htdocs").rmdir()
    with pytest.raises(BadConfig, match="no such directory"):
        file.load()
    (tmp_path / "htdocs").mkdir()
    assert len(file.load().site) == 2


def test_pool_that_has_gone_is_refused_though_the_site_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    text = site(tmp_path, "a.test", '[[site.route]]\npath = "/app/"\npool = "app"\n')
    path.write_text(text + '[pool.app]\ncommand = ["/bin/true"]\n')
    file = SettingsFile(str(path))
    file.load()
    write(path, text + '[pool.other]\ncommand = ["/bin/true"]\n')
    with pytest.raises(BadConfig, match=r"there is no \[pool.app\]"):
        file.load()


def test_bad_reading_is_forgotten(file: SettingsFile, tmp_path: Path) -> None:
    good = file.load()
    write(tmp_path / "sites.d/b.toml", site(tmp_path, "b.test", "listin = true\n"))
    for _ in range(2):
        with pytest.raises(BadConfig, match='did you mean "listing"'):
            file.load()
    write(tmp_path / "sites.d/b.toml", site(tmp_path, "b.test"))
    assert file.load() == good


def test_second_site_of_a_host_is_refused_each_time(file: SettingsFile, tmp_path: Path) -> None:
    file.load()
    write(tmp_path / "sites.d/b.toml", site(tmp_path, "a.test"))
    for _ in range(2):
        with pytest.raises(BadConfig, match=r'"a.test" is taken by .*a.toml:1: \[\[site\]\] #1'):
            file.load()


def test_lines_of_files_with_returns_are_right(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(site(tmp_path, "a.test", "rot = 1\n").replace("\n", "\r\n").encode())
    with pytest.raises(BadConfig, match=r"gateway.toml:4: \[\[site\]\] #1: rot"):
        SettingsFile(str(path)).load()


def test_runtime_directory_is_found_in_a_file_with_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[server]\nruntime = "run"\nfronts = "many"\n[sight]\n')
    assert runtime_of(str(path)) == str(tmp_path / "run")
    path.write_text("[server]\n")
    assert runtime_of(str(path)) == ""
    path.write_text("[server]\nruntime = 3\n")
    with pytest.raises(BadConfig, match="must be a string"):
        runtime_of(str(path))

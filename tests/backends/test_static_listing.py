"""The page that lists a directory."""

import asyncio
import html
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from gateway.backends import listing
from gateway.backends.static import Static, StaticSettings
from gateway.exchange import NO_BODY, Limits, Notes, Place, Request, Response


def fetch(root: Path, name: bytes = b"", method: str = "GET") -> Response:
    base = os.fsencode(root)
    static = Static(StaticSettings(root=base, listing=True))
    notes = Notes(Limits())
    notes.place = Place(root=base, file=base + b"/" + name, script_name=b"/" + name, path_info=b"")
    request = Request(
        id="1", method=method, target=b"/", path=b"/", query=b"", protocol=b"HTTP/1.1",
        headers=(), host=b"", scheme=b"http", remote=("", 0), local=("", 0), body=NO_BODY,
        length=0, notes=notes,
    )  # fmt: skip

    async def run() -> Response:
        async with static(request) as response:
            return response

    return asyncio.run(run())


def page(root: Path, name: bytes = b"") -> str:
    response = fetch(root, name)
    assert response.status == 200
    assert dict(response.headers)[b"Content-Type"] == b"text/html; charset=utf-8"
    assert isinstance(response.body, bytes)
    return response.body.decode()


def links(text: str) -> list[bytes]:
    found = [unquote_to_bytes(html.unescape(link)) for link in re.findall(r'href="([^"]*)"', text)]
    return [link.removeprefix(b"./") for link in found if link != b"../"]


def test_directories_come_first_and_dotfiles_never(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x" * 1536)
    for name in ("z", ".git"):
        (tmp_path / name).mkdir()
    text = page(tmp_path)
    assert links(text) == [b"z/", b"a.txt", b"b.txt"]
    assert "1.5 KiB" in text
    assert "../" not in text
    assert 'href="../"' in page(tmp_path, b"z/")


NASTY = [
    b"<script>alert(1)</script>",
    b'" onmouseover="x',
    b"' x",
    b"a&amp;b",
    b"new\nline\x1b[31m",
    b"\xff\xfe not text",
    "ünï".encode(),
    b"javascript:alert(1)",
    b"http:",
    b"100%41",
    b"q?a=b#c",
    b"back\\slash",
    b" space ",
]


def test_every_name_is_shown_inert_and_its_link_leads_to_it(tmp_path: Path) -> None:
    for name in NASTY:
        name = name.replace(b"/", b"|")
        (tmp_path / os.fsdecode(name)).touch()
    text = page(tmp_path)
    assert sorted(links(text)) == sorted(name.replace(b"/", b"|") for name in NASTY)
    assert "<script" not in text
    assert "\x1b" not in text
    assert 'onmouseover="' not in text
    for link in re.findall(r'href="([^"]*)"', text):
        assert link.startswith("./") or link == "../"
        assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", link)


def test_the_title_is_inert(tmp_path: Path) -> None:
    (tmp_path / "<b>\x1b").mkdir()
    text = page(tmp_path, b"<b>\x1b/")
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "\x1b" not in text


def test_only_what_a_request_could_open_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"x" * 123_456)
    (root / "file").touch()
    (root / "out").symlink_to("../secret")
    (root / "gone").symlink_to("nothing")
    (root / "sub" / "back").symlink_to("../file")
    os.mkfifo(root / "fifo")
    assert links(page(root)) == [b"sub/", b"file"]
    assert links(page(root, b"sub/")) == [b"back"]


def test_a_huge_directory_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ENTRIES_MAX", 3)
    for n in range(5):
        (tmp_path / f"{n}").touch()
    text = page(tmp_path)
    assert len(links(text)) == 3
    assert "Only 3 of the entries" in text


def test_a_listing_has_no_script_of_its_own(tmp_path: Path) -> None:
    policy = dict(fetch(tmp_path).headers)[b"Content-Security-Policy"]
    assert policy.startswith(b"default-src 'none'")


def test_head_of_a_listing(tmp_path: Path) -> None:
    assert fetch(tmp_path, method="HEAD").status == 200


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"), (1 << 30, "1.0 GiB"), (5 << 50, "5120.0 TiB"),
    ],
)  # fmt: skip
def test_sizes_for_people(count: int, text: str) -> None:
    assert listing.size(count) == text

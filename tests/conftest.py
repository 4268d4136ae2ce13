"""Accounts of the system, made for the tests that need real ones, and taken away again."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.guests import ZYGOTE_PYTHON

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Account:
    """An account with a group of its own, and an empty home, mode 0711."""

    name: str
    uid: int
    gid: int
    home: Path

    def own(self, *paths: Path) -> None:
        """Give files, directories and links to this account."""
        for path in paths:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def directory(self, name: str, mode: int = 0o755) -> Path:
        """Make a directory in the home, and those above it."""
        path = self.home / name
        for each in (*reversed(path.relative_to(self.home).parents), Path(name)):
            if not (self.home / each).exists():
                (self.home / each).mkdir()
                (self.home / each).chmod(mode)
                self.own(self.home / each)
        return path

    def script(self, name: str, text: str, mode: int = 0o755) -> Path:
        """Write a program in the home, in a directory that is there."""
        path = self.home / name
        # Under another name first: no other process of the tests may hold it open for writing.
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text)
        self.own(fresh)
        fresh.chmod(mode)
        fresh.rename(path)
        return path

    def change(self, *options: str) -> None:
        """Change the account, with options of usermod(8)."""
        _changed(["usermod", *options, self.name])


def _changed(command: list[str]) -> None:
    """Change the lists of accounts. Whoever else does so at this moment has them locked."""
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr or time.monotonic() > deadline:
            pytest.fail(f"{command}: {done.stderr}")
        time.sleep(0.05)  # between two attempts, as nothing tells when the lock is free


@pytest.fixture(scope="session")
def make_account() -> Iterator[Callable[[], Account]]:
    """Return a function that makes an account. It is there until the tests end."""
    if os.geteuid() != 0:
        pytest.skip("only root can make accounts")
    if shutil.which("useradd") is None or shutil.which("userdel") is None:
        pytest.skip("useradd and userdel are not installed")
    homes = Path(tempfile.mkdtemp(prefix="gateway-homes-"))
    homes.chmod(0o711)
    with contextlib.ExitStack() as undone:
        undone.callback(shutil.rmtree, homes)
        names = (f"gwt{os.getpid()}{letter}" for letter in LETTERS)

        def make() -> Account:
            name = next(names)
            home = homes / name
            _changed(["useradd", "-M", "-U", "-d", str(home), "-s", "/bin/sh", name])
            undone.callback(_changed, ["userdel", "-f", name])
            entry = pwd.getpwnam(name)
            made = Account(name, entry.pw_uid, entry.pw_gid, home)
            home.mkdir()
            _renew(made)
            return made

        yield make


def _renew(account: Account) -> None:
    """Make the home what it was at first."""
    for name in os.listdir(account.home):
        path = account.home / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    account.own(account.home)
    account.home.chmod(0o711)


@pytest.fixture(scope="session")
def accounts(make_account: Callable[[], Account]) -> tuple[Account, Account, Account]:
    return make_account(), make_account(), make_account()


@pytest.fixture
def tenant(accounts: tuple[Account, ...]) -> Account:
    """An account whose home is empty."""
    _renew(accounts[0])
    return accounts[0]


@pytest.fixture
def other(accounts: tuple[Account, ...]) -> Account:
    """Another one."""
    _renew(accounts[1])
    return accounts[1]


@pytest.fixture
def attacker(accounts: tuple[Account, ...]) -> Account:
    """And one that means harm."""
    _renew(accounts[2])
    return accounts[2]


def _nobody_can(*command: str) -> bool:
    """Whether an account that owns nothing can run this."""
    with contextlib.suppress(OSError):
        done = subprocess.run(
            command, user=65534, group=65534, extra_groups=[], cwd="/", capture_output=True
        )
        return done.returncode == 0
    return False


@pytest.fixture(scope="session")
def open_python(make_account: Callable[[], Account]) -> str:
    """A Python that every account can start, and that can read our tree: a zygote does."""
    if not _nobody_can("/bin/sh", "-c", 'exec < "$0"', ZYGOTE_PYTHON):
        pytest.skip("other accounts cannot read the directory that the tests are run in")
    for python in (sys.executable, "/usr/bin/python3"):
        if _nobody_can(python, "-c", "pass"):
            return python
    pytest.skip("there is no Python that other accounts can start")

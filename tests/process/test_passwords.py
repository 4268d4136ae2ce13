"""Password files: the forms that htpasswd writes, by htpasswd itself where it is installed."""

import ctypes
import shutil
import subprocess

import pytest

from gateway.process.passwords import fits, stored

HTPASSWD = shutil.which("htpasswd")

KNOWN = [
    # As other implementations make them: openssl passwd, Apache's manual, bcrypt's own tests.
    (b"myPassword", b"$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"),
    (b"secret", b"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
    (b"Hello world!", b"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    (b"password", b"$2a$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe"),
]


def has(entry: bytes) -> bool:
    """Whether the system's libcrypt has this form."""
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            crypt = ctypes.CDLL(name).crypt
        except OSError:
            continue
        crypt.restype = ctypes.c_char_p
        return not (crypt(b"x", entry) or b"*").startswith(b"*")
    return False


@pytest.mark.parametrize(("password", "entry"), KNOWN)
def test_known_hash_fits_its_password_alone(password: bytes, entry: bytes) -> None:
    if entry[:2] in (b"$2", b"$5") and not has(entry):
        pytest.skip("this system's libcrypt does not have this form")
    assert fits(password, entry)
    assert not fits(password + b"x", entry)
    assert not fits(b"", entry)
    assert not fits(password + b"\0x", entry)


@pytest.mark.skipif(HTPASSWD is None, reason="htpasswd is not installed")
@pytest.mark.parametrize("form", ["-B", "-m", "-s", "-d", "-2", "-5"])
@pytest.mark.parametrize("password", ["x", "secret", "quite a long one, of 37 characters: é"])
def test_what_htpasswd_writes_fits(form: str, password: str) -> None:
    made = subprocess.run(
        [str(HTPASSWD), "-nb", form, "bob", password], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this htpasswd has no {form}")
    entry, theirs = stored(made.stdout, b"bob")
    assert theirs
    assert fits(password.encode(), entry)
    assert not fits(b"#" + password.encode(), entry)  # of -d the first eight characters count


@pytest.mark.parametrize(
    "entry",
    [
        b"secret",
        b"",
        b"{SSHA}xxxx",
        b"$apr1$toolongsalt$xxxxxxxxxxxxxxxxxxxxxx",
        b"*",
        b"!",
        b"$9$x$y",
    ],
)
def test_form_that_is_not_known_is_said_to_be(entry: bytes) -> None:
    with pytest.raises(ValueError):
        fits(b"secret", entry)


def test_first_line_of_a_user_counts_and_others_stand_in_for_who_is_not_there() -> None:
    data = b"# bob:comment\n\nnonsense\nal:1:more\r\nbob:2\nbob:3\n"
    assert stored(data, b"bob") == (b"2", True)
    assert stored(data, b"al") == (b"1", True)
    assert stored(data, b"eve") == (b"1", False)
    assert stored(data, b"# bob") == (b"1", False)
    assert stored(b"", b"eve") == (b"", False)

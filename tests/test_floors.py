"""The house holds: imports go down the floors, in no circle, and files and functions stay small."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
PACKAGE = HERE / "gateway"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "wire": 0,
    "units": 1,
    "exchange": 1,
    "address": 1,
    "meter": 1,
    "where": 1,
    "journal": 1,
    "reading": 1,
    "process": 2,
    "guests": 2,
    "backends": 3,
    "site": 4,
    "listeners": 5,
    "config": 6,
    "daemon": 7,
    "__main__": 8,
}
GROUND = "gateway"
"""The package itself holds the version and imports nothing; anything may import it."""

NOT_IN_WIRE = {"socket", "asyncio", "os", "logging", "time", "select", "selectors", "threading"}
WEAK_NAMES = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
CATCH_ALL = {"listeners/drive.py", "daemon/master.py"}
"""Where whatever happens is caught: an exchange and the master go on."""
FILE_MAX = 450
FUNCTION_MAX = 60
ONE_FILE_BY_NATURE = "guests"
"""What runs in somebody else's interpreter is one file each, and imports nothing of ours."""


def name_of(file: Path) -> str:
    """Return the dotted name of a module."""
    parts = file.relative_to(HERE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
PATHS = {name_of(file): file for file in FILES}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else GROUND


def imports_of(module: str) -> Iterator[str]:
    """Give every module that is imported anywhere in a module, also in functions."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import hides its floor"
            source = node.module or ""
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in TREES else source


def ours(module: str) -> set[str]:
    return {name for name in imports_of(module) if name.split(".")[0] == "gateway"} - {GROUND}


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("module", sorted(TREES))
def test_every_module_has_a_floor_and_a_strong_name(module: str) -> None:
    assert room_of(module) in {*FLOORS, GROUND}
    assert WEAK_NAMES.isdisjoint(module.split("."))


@pytest.mark.parametrize("module", sorted(TREES))
def test_imports_go_down_only(module: str) -> None:
    floor = FLOORS.get(room_of(module), -1)
    upward = {name for name in ours(module) if FLOORS[room_of(name)] > floor}
    assert upward == set()


@pytest.mark.parametrize("module", sorted(TREES))
def test_nothing_is_imported_that_is_not_there(module: str) -> None:
    assert {name for name in ours(module) if name not in TREES} == set()


def test_imports_make_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way, module))}"
        if module not in done:
            for name in sorted(ours(module) & set(TREES)):
                if name != module:
                    visit(name, (*way, module))
            done.add(module)

    for module in sorted(TREES):
        visit(module, ())


def test_guests_use_the_standard_library_alone() -> None:
    for module in TREES:
        if room_of(module) == "guests":
            outside = {name.split(".")[0] for name in imports_of(module)}
            allowed = {"flup"} if module.endswith("flup_worker") else set()
            # Side by side, and in Python 2 as well.
            if module.endswith((".zygote", ".warm", ".stay")):
                allowed = {"warm", "thread", "__builtin__", "imp"}
            assert outside - set(sys.stdlib_module_names) - allowed == set(), module


def test_wire_knows_neither_sockets_nor_clock_nor_loop() -> None:
    for module in TREES:
        if room_of(module) == "wire":
            roots = {name.split(".")[0] for name in imports_of(module)}
            assert roots.isdisjoint(NOT_IN_WIRE), module


def test_typing_imports_are_imports() -> None:
    for file in FILES:
        assert "TYPE_CHECKING" not in file.read_text(encoding="utf-8"), file


@pytest.mark.parametrize("module", sorted(TREES))
def test_every_module_says_what_it_decides(module: str) -> None:
    if PATHS[module].read_text(encoding="utf-8").strip():
        assert ast.get_docstring(TREES[module])


def test_files_stay_small() -> None:
    large = {
        str(file.relative_to(PACKAGE)): lines
        for file in FILES
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > FILE_MAX
        and file.parent.name != ONE_FILE_BY_NATURE
    }
    assert large == {}


def test_functions_stay_small() -> None:
    large = {
        f"{module}.{function.name}": length_of(function)
        for module in TREES
        for function in functions(module)
        if length_of(function) > FUNCTION_MAX
    }
    assert large == {}


def test_everything_is_caught_in_two_places_only() -> None:
    for module, tree in TREES.items():
        place = str(PATHS[module].relative_to(PACKAGE))
        if place in CATCH_ALL or room_of(module) == "guests":
            continue  # a guest must not die of the application that it serves
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = "everything" if node.type is None else ast.unparse(node.type)
                assert caught not in ("everything", "Exception"), f"{place}:{node.lineno}"

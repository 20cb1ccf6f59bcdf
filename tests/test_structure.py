"""The rules of the house that a program can check; the layers are import-linter's (`make imports`)."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "solvar").rglob("*.py"))
}
MOST_LINES, MOST_ARGUMENTS = 400, 7
REASON = re.compile(r"^\s*(Eight|Nine|Ten|More than seven) arguments: \w", re.MULTILINE)
# a command's parameters are its options, a callback's are what the page tells it
FRAMEWORK = {"app.command", "app.callback"}


@cache
def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports(name):
    """The modules of ours that a module imports, at whatever time and if only for its annotations."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update((inside & MODULES.keys()) or {node.module})
    return (found & MODULES.keys()) - {name}


def arguments(function):
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [each.arg for each in (given.vararg, given.kwarg) if each is not None]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def is_framework(function):
    called = (each.func for each in function.decorator_list if isinstance(each, ast.Call))
    return any(ast.unparse(each) in FRAMEWORK for each in called)


def test_no_module_is_longer_than_four_hundred_lines():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_functions_of_more_than_seven_arguments_give_their_reason():
    unexplained = []
    for name in MODULES:
        of_all = REASON.search(ast.get_docstring(tree(name)) or "")
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef) and len(arguments(node)) > MOST_ARGUMENTS:
                explained = of_all or REASON.search(ast.get_docstring(node) or "")
                if not explained and not is_framework(node):
                    unexplained.append(f"{name}.{node.name} ({len(arguments(node))})")
    assert unexplained == []


def test_the_forward_model_knows_nothing_of_particle_files():
    known = {
        each for name in MODULES if name.startswith("solvar.imaging") for each in imports(name)
    }
    assert [name for name in sorted(known) if name.startswith("solvar.particles")] == []


def test_no_module_imports_the_public_page():
    assert [name for name in MODULES if "solvar" in imports(name)] == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imports(name) for name in MODULES if name != "solvar"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))

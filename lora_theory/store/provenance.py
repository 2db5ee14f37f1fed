"""Where a number comes from: the config that decided it, the versions, and the code that ran."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Libraries whose version decides rounding.
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
_OWN = ("lora_theory", "experiments")
# Own modules named in strings, as the registry of experiments writes them: "package.module:name".
_NAMED = re.compile(rf"({'|'.join(_OWN)})(\.\w+)*:\w+")


class Provenance(NamedTuple):
    """What decides a result.

    Attributes:
        config: the values that decide it, as plain data.
        versions: library -> version, and the backend.
        code: digest of the code that computes, from `code_digest`.
    """

    config: dict[str, Any]
    versions: dict[str, str]
    code: str

    @property
    def digest(self) -> str:
        """Short name of all three."""
        return _digest(json.dumps(self, sort_keys=True))[:16]

    def difference(self, other: "Provenance") -> str | None:
        """In words, the first thing in which `other` differs; None if nothing does.

        >>> now = Provenance({"seeds": 3}, {"jax": "0.10"}, "a")
        >>> now.difference(Provenance({"seeds": 3}, {"jax": "0.9"}, "a"))
        'jax is 0.9 there and 0.10 here'
        """
        changed = difference(self.config, other.config)
        if changed is None:
            changed = difference(self.versions, other.versions)
        if changed is not None:
            key, here, there = changed
            return f"{key} is {there} there and {here} here"
        return "the code that computes has changed" if self.code != other.code else None


def difference(asked: dict[str, Any], saved: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first key of nested data whose saved value is another: (key, asked, saved).

    >>> difference({"model": {"width": 8}}, {"model": {"width": 9, "rank": 1}})
    ('model.width', 8, 9)
    """
    for key, value in asked.items():
        if not isinstance(saved, dict) or key not in saved:
            return f"{path}{key}", value, "missing"
        if isinstance(value, dict):
            if (inner := difference(value, saved[key], f"{path}{key}.")) is not None:
                return inner
        elif saved[key] != value:
            return f"{path}{key}", value, saved[key]
    return None


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide rounding; starts none of them.

    >>> sorted(library_versions())[-1]
    'scipy'
    """
    major, minor, _ = platform.python_version_tuple()
    found = {"python": f"{major}.{minor}"}
    return found | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def code_digest(run: Callable[..., Any]) -> str:
    """Digest of the code that a function runs, comments, docstrings and annotations aside.

    Of the function's own module: its definition and what it names there, directly or not. Of every
    module of this project that this code imports: all of it, and what that imports in turn.
    Other libraries count by their versions.

    >>> len(code_digest(Provenance.difference))
    16
    """
    file = inspect.getsourcefile(run)
    assert file is not None
    nodes = _reached(_module(Path(file)), run.__qualname__.split("."))
    names = [name for node in nodes for name in _imports(node)]
    texts = ["".join(_text(node) for node in nodes)]
    seen: set[Path] = {Path(file)}
    beside = Path(file).parent
    todo = [path for name in names for path in _files(name, beside)]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        tree = _module(path)
        texts.append(_text(tree))
        todo += [other for name in _imports(tree) for other in _files(name, beside)]
    return _digest("\n".join(sorted(texts)))[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _module(path: Path) -> ast.Module:
    """A module without what does not run: docstrings, annotations, imports for type checkers."""
    tree = _Bare().visit(ast.parse(path.read_text(encoding="utf-8")))
    assert isinstance(tree, ast.Module)
    return tree


@functools.cache
def _text(node: ast.AST) -> str:
    return ast.dump(node)


class _Bare(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if checking else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _reached(tree: ast.Module, place: list[str]) -> list[ast.stmt]:
    """The definition at `place` (class and method, or function) and all that it names here.

    A name after a dot may be a method of any class of the module; an import that is not named
    is not reached.
    """
    top: dict[str, list[ast.stmt]] = {}
    methods: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _bound(statement):
            top.setdefault(name, []).append(statement)
        if isinstance(statement, ast.ClassDef):
            for member in statement.body:
                for name in _bound(member):
                    methods.setdefault(name, []).append(member)
    found: dict[int, ast.stmt] = {}
    todo = list((methods if len(place) > 1 else top).get(place[-1], []))
    while todo:
        node = todo.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                todo += top.get(inner.id, [])
            elif isinstance(inner, ast.Attribute):
                todo += methods.get(inner.attr, [])
    return sorted(found.values(), key=lambda node: node.lineno)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that a piece of code imports, or names in a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _NAMED.fullmatch(node.value)
        ):
            yield node.value.replace(":", ".")


@functools.cache
def _files(name: str, beside: Path) -> list[Path]:
    """The source of a module of this project, or of one in the folder `beside` that imports it."""
    package, *rest = name.split(".")
    path = _home(package) if package in _OWN else beside / package
    if path.with_suffix(".py").is_file():
        return [path.with_suffix(".py")]
    if not (path / "__init__.py").is_file():
        return []
    for part in rest:
        if (path / part).is_dir():
            path = path / part
        elif (path / f"{part}.py").is_file():
            return [path / f"{part}.py"]
        else:  # A name of the package itself; the stub says where the lazy ones stand.
            stub = path / "__init__.pyi"
            home = _lazy(stub).get(part) if stub.is_file() else None
            return [path / "__init__.py", *(_files(home, beside) if home else [])]
    return [path / "__init__.py"]


def _home(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else Path(package)


@functools.cache
def _lazy(stub: Path) -> dict[str, str]:
    return {
        alias.name: f"{node.module}.{alias.name}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

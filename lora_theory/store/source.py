"""Python source as it counts for what is computed, and where modules stand; nothing is run."""

import ast
import copy
import functools
import importlib.util
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

# As the registry of experiments writes what it loads when it is used.
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_NOT_RUN = ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")
Tables = Mapping[str, Collection[str]]
Place = tuple[Path | None, str]  # A dotted name, and the folder where it is relative to one.


@functools.cache
def name_of(path: Path) -> str:
    """The dotted name of a module, as its packages say."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


@functools.cache
def module(path: Path) -> ast.Module:
    """A module without what does not compute: docstrings, annotations, what only checkers read."""
    tree = _Bare().visit(ast.parse(path.read_text(encoding="utf-8")))
    assert isinstance(tree, ast.Module)
    return tree


@functools.cache
def text(node: ast.AST) -> str:
    """All of it that counts."""
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

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.unparse(node.test) in _NOT_RUN:
            otherwise = self.generic_visit(ast.Module(node.orelse, []))
            assert isinstance(otherwise, ast.Module)
            return otherwise.body
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def only(tree: ast.Module, tables: Tables) -> ast.Module:
    """A module of whose tables only some entries are left."""
    body = []
    for node in tree.body:
        name = next(bound(node), "") if isinstance(node, ast.Assign | ast.AnnAssign) else ""
        if name in tables and isinstance(node, ast.Assign | ast.AnnAssign):
            node = copy.copy(node)
            if isinstance(node.value, ast.Dict):
                node.value = _entries(node.value, tables[name])
        body.append(node)
    return ast.Module(body, [])


def _entries(table: ast.Dict, keys: Collection[str]) -> ast.Dict:
    pairs = [
        (key, value)
        for key, value in zip(table.keys, table.values, strict=True)
        if not isinstance(key, ast.Constant) or key.value in keys
    ]
    return ast.Dict([key for key, _ in pairs], [value for _, value in pairs])


def by_name(statements: Iterable[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Name -> the statements that bind it."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in statements:
        for name in bound(statement):
            found.setdefault(name, []).append(statement)
    return found


def bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds."""
    if isinstance(statement, FUNCTION | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))


def _from(path: Path, node: ast.ImportFrom) -> tuple[Path | None, str]:
    """Where names are imported from, with a dot behind it unless it is the package itself."""
    folder = path.parents[node.level - 1] if node.level else None
    return folder, f"{node.module}." if node.module else ""


@functools.cache
def bindings(path: Path, tree: ast.Module) -> Mapping[str, Place]:
    """What each imported name of a module stands for."""
    found: dict[str, Place] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or name] = None, name
        elif isinstance(node, ast.ImportFrom):
            folder, prefix = _from(path, node)
            for alias in node.names:
                found[alias.asname or alias.name] = folder, f"{prefix}{alias.name}"
    return found


@functools.cache
def imports(path: Path, tree: ast.Module, piece: ast.AST) -> frozenset[Place]:
    """All that a piece of a module imports, names in a string, or takes from an imported package.

    Kept, as every digest of one process asks it of the same modules.
    """
    return frozenset(_imports(path, piece, bindings(path, tree)))


def _imports(path: Path, piece: ast.AST, bound: Mapping[str, Place]) -> Iterator[Place]:
    for node in ast.walk(piece):
        if isinstance(node, ast.Import):
            yield from ((None, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder, prefix = _from(path, node)
            yield from ((folder, f"{prefix}{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            first, rest = _dotted(node)
            if first in bound:
                folder, name = bound[first]
                yield folder, f"{name}.{rest}"
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _REFERENCE.fullmatch(node.value)
        ):
            yield None, node.value.replace(":", ".")


@functools.cache
def files(folder: Path, name: str) -> tuple[Path, ...]:
    """Sources of a module under a folder and of the packages in which it lies; none: not there."""
    found: list[Path] = []
    path = folder
    for part in name.split("."):
        outer, path = path, path / part
        if (path / "__init__.py").is_file():
            found.append(path / "__init__.py")
        elif (outer / f"{part}.py").is_file():
            return (*found, outer / f"{part}.py")
        elif not path.is_dir():  # A name of the package; its stub says where lazy ones stand.
            stub = outer / "__init__.pyi"
            home = _lazy(stub).get(part) if stub.is_file() else None
            return (*found, *(files(folder, home) if home else ()))
    return tuple(found)


@functools.cache
def packages(folder: Path) -> tuple[Path, ...]:
    """Sources of the packages in which a folder lies, itself among them."""
    file = folder / "__init__.py"
    return (file, *packages(folder.parent)) if file.is_file() else ()


@functools.cache
def home(package: str) -> Path:
    """The folder in which an installed package lies."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]).resolve().parent if places else Path()


@functools.cache
def _lazy(stub: Path) -> dict[str, str]:
    return {
        alias.name: f"{node.module}.{alias.name}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _dotted(node: ast.Attribute) -> tuple[str, str]:
    """Of a.b.c: a, and b.c; two empty names if it begins with something else."""
    parts, value = [node.attr], node.value
    while isinstance(value, ast.Attribute):
        parts.insert(0, value.attr)
        value = value.value
    return (value.id, ".".join(parts)) if isinstance(value, ast.Name) else ("", "")

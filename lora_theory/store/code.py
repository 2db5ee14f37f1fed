"""A digest of the code that computes, comments, docstrings and annotations aside.

Read from the source, nothing is run. What is reached through a computed name (`getattr`), a file of
data or a string other than "package.module:name" is not seen.
"""

import ast
import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lora_theory.store import source
from lora_theory.store.source import FUNCTION, Tables

_OWN = ("lora_theory", "experiments")
_NAMING = FUNCTION | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign


def code_digest(
    kind: type,
    entries: Sequence[str],
    *,
    records: Sequence[type] = (),
    tables: Tables | None = None,
    outside: str = "",
) -> str:
    """Digest of the code that methods of a class run.

    Of the modules in which the class, its bases and the records stand: the methods where it
    begins, all that these name there, directly or not, and statements that are neither definitions
    nor assignments. Of every other module of this project, or of the script's folder, that this
    code imports: all of it, and what that imports in turn. Other libraries count by their versions.

    Args:
        kind: the class.
        entries: methods where it begins, as `run`; of the class and of all its bases.
        records: classes of what these are given, whose methods they may call.
        tables: "package.module:NAME" of a dict -> the keys of which the entries count.
        outside: a package that does not count; a class beside `kind` with the same base of that
            package is not read.

    Raises:
        TypeError: the class does not stand in a file.

    >>> from lora_theory.store.provenance import Provenance
    >>> len(code_digest(Provenance, ["difference"]))
    16
    """
    reach = _Reach(kind, records, tables or {}, outside)
    return hashlib.sha256("\n".join(sorted(reach.texts(entries))).encode()).hexdigest()[:16]


class _Script(NamedTuple):
    """A module of which only what is reached counts.

    Attributes:
        path: of its source.
        tree: of the module.
        ours: names of the class that is digested and of its bases.
        top: name -> statements that bind it.
        methods: the same in that class and its bases.
        members: the same in all its classes.
        beside: id of a member -> the same in its class alone.
        always: statements that count whatever is reached.
    """

    path: Path
    tree: ast.Module
    ours: set[str]
    top: dict[str, list[ast.stmt]]
    methods: dict[str, list[ast.stmt]]
    members: dict[str, list[ast.stmt]]
    beside: dict[int, dict[str, list[ast.stmt]]]
    always: list[ast.stmt]


class _Reach:
    def __init__(self, kind: type, records: Sequence[type], tables: Tables, outside: str):
        self.tables, self.outside = tables, outside
        classes = [c for c in kind.__mro__ if self._counts(c)]
        if kind not in classes:
            raise TypeError(f"{kind.__qualname__} must stand in a file of its project")
        records = [c for record in records for c in record.__mro__ if self._counts(c)]
        skeleton = next((c for c in kind.__mro__ if _inside(c.__module__, outside)), None)
        self.roots = _roots([path for c in (*classes, *records) if (path := _file_of(c))])
        self.scripts: dict[Path, _Script] = {}
        for c in (*classes, *records):
            path = _file_of(c)
            if path is not None and path not in self.scripts:
                here = [other for other in classes if _file_of(other) == path]
                self.scripts[path] = self._script(path, c.__module__, here, skeleton)

    def texts(self, entries: Sequence[str]) -> Iterator[str]:
        """What counts, module by module."""
        todo = [path for script in self.scripts for path in source.packages(script.parent)]
        for script, nodes in self._reached(entries):
            yield "".join(ast.dump(node) for node in nodes)
            todo += self._imported(script.path, script.tree, nodes)
        seen: set[Path] = set()
        while todo:
            path = todo.pop()
            if path not in seen and not _inside(source.name_of(path), self.outside):
                seen.add(path)
                tree = self._tree(path)
                yield source.text(tree)
                todo += self._imported(path, tree, [tree])

    def _counts(self, c: type) -> bool:
        return not _inside(c.__module__, self.outside) and _file_of(c) is not None

    def _tree(self, path: Path) -> ast.Module:
        name = source.name_of(path)
        keep = {n.partition(":")[2]: k for n, k in self.tables.items() if n.startswith(f"{name}:")}
        return source.only(source.module(path), keep) if keep else source.module(path)

    def _script(self, path: Path, module: str, ours: list[type], skeleton: Any) -> _Script:
        tree, names = self._tree(path), {c.__name__ for c in ours}
        others = {
            name
            for name, value in vars(sys.modules[module]).items()
            if skeleton and isinstance(value, type) and issubclass(value, skeleton)
        } - names
        classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name not in others]
        mine = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name in names]
        always = [n for n in tree.body if not isinstance(n, _NAMING) or _takes_all(n)]
        for c in mine:
            always += [n for n in c.body if not isinstance(n, _NAMING)]
            values = (*c.decorator_list, *(keyword.value for keyword in c.keywords))
            always += [ast.Expr(n, lineno=n.lineno) for n in values]
        methods = source.by_name(n for c in mine for n in c.body)
        bodies = list({id(c): c.body for c in (*classes, *mine)}.values())
        members = source.by_name(itertools.chain.from_iterable(bodies))
        beside = {id(n): source.by_name(body) for body in bodies for n in body}
        top = source.by_name(tree.body)
        return _Script(path, tree, names, top, methods, members, beside, always)

    def _reached(self, entries: Sequence[str]) -> Iterator[tuple[_Script, list[ast.stmt]]]:
        """What is reached in each script; a name after a dot may be of any of their classes."""
        scripts = list(self.scripts.values())
        todo = [(script, node) for script in scripts for node in script.always]
        todo += [(s, n) for s in scripts for entry in entries for n in s.methods.get(entry, [])]
        found: dict[int, tuple[_Script, ast.stmt]] = {}
        while todo:
            script, node = todo.pop()
            if id(node) in found:
                continue
            found[id(node)] = script, node
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name):
                    todo += [(script, n) for n in _named(script, inner.id)]
                elif isinstance(inner, ast.Attribute):
                    todo += [(s, n) for s in scripts for n in s.members.get(inner.attr, [])]
            beside = script.beside.get(id(node), {})
            todo += [(script, n) for name in _in_class(node) for n in beside.get(name, [])]
        for script in scripts:
            nodes = [node for at, node in found.values() if at is script]
            yield script, sorted(nodes, key=lambda node: node.lineno)

    def _imported(self, path: Path, tree: ast.Module, nodes: Sequence[ast.AST]) -> list[Path]:
        names = {found for node in nodes for found in source.imports(path, tree, node)}
        return [file for folder, name in names for file in self._files(folder, name)]

    def _files(self, folder: Path | None, name: str) -> tuple[Path, ...]:
        if folder is not None:
            return (*source.packages(folder), *source.files(folder, name))
        first = name.partition(".")[0]
        if first in _OWN:
            return source.files(source.home(first), name)
        for root, package in self.roots:
            if package in (None, first) and (found := source.files(root, name)):
                return found
        return ()


def _inside(module: str, package: str) -> bool:
    return package != "" and (module == package or module.startswith(f"{package}."))


def _file_of(c: type) -> Path | None:
    """The file in which a class stands, unless it is of an installed library or of Python."""
    file = getattr(sys.modules.get(c.__module__), "__file__", None)
    if c.__module__ == "builtins" or file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    library = {"site-packages", "dist-packages"} & set(path.parts)
    standard = path.is_relative_to(Path(ast.__file__).resolve().parent)
    own = source.name_of(path).split(".")[0] in _OWN
    return path if own or not (library or standard) else None


def _roots(paths: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """Folders in which scripts find modules, and which package alone, if one alone."""
    found: dict[tuple[Path, str | None], None] = {}
    for path in paths:
        parts = source.name_of(path).split(".")
        outer = path.parents[len(parts) - (path.name != "__init__.py")]
        if outer.name in ("site-packages", "dist-packages"):
            found[outer, parts[0]] = None
        else:
            found |= {(path.parent, None): None, (outer, None): None}
    return list(found)


def _named(script: _Script, name: str) -> list[ast.stmt]:
    """What a name in a script means; of our own classes, only the members that are named."""
    return [
        node
        for node in script.top.get(name, [])
        if not (isinstance(node, ast.ClassDef) and node.name in script.ours)
    ]


def _in_class(node: ast.stmt) -> Iterator[str]:
    """Names that a member of a class may take from that class: all but those inside functions."""
    inner: list[Any] = [node]
    if isinstance(node, FUNCTION):
        inner = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
    for part in inner:
        for n in ast.walk(part) if part is not None else ():
            if isinstance(n, ast.Name):
                yield n.id


def _takes_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)

"""Nothing but files.py, folders.py and streams.py writes, renames or deletes files, or opens databases."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mailmerge"
ALONE = {"files.py", "folders.py", "streams.py"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix() not in ALONE)
OUR_OWN_TOUCH = "sending"
"""A package whose connections have a method of that name."""

_WRITING_MODULES = {
    "shutil",
    "tempfile",
    "mailbox",
    "tarfile",
    "dbm",
    "shelve",
    "fileinput",
    "pathlib._local",
}
_OS = {
    *("open", "creat", "mkdir", "makedirs", "mkfifo", "mknod", "link", "symlink", "truncate", "sendfile"),
    *("replace", "rename", "renames", "unlink", "remove", "rmdir", "removedirs", "copy_file_range", "utime"),
    *("chmod", "lchmod", "fchmod", "chown", "lchown", "fchown", "chflags", "lchflags"),
    *("setxattr", "removexattr"),
}
_CALLS = {
    *(f"os.{name}" for name in _OS),
    *(f"posix.{name}" for name in _OS),
    *(
        "io.FileIO",
        "io.open",
        "_io.open",
        "_io.FileIO",
        "codecs.open",
        "sqlite3.connect",
        "sqlite3.Connection",
    ),
    *("sqlite3.dbapi2.connect", "gzip.open", "bz2.open", "lzma.open", "gzip.GzipFile", "zipfile.PyZipFile"),
    *("logging.FileHandler", "logging.basicConfig", "logging.handlers", "logging.config", "builtins.open"),
    *("os.path.os", "pathlib.os", "glob.os"),
}
_MODULES = {"os", "posix", "nt", "io", "_io", "sqlite3", "builtins", "codecs", "zipfile", *_WRITING_MODULES}
"""Modules that are used by their names only, never handed on."""
_METHODS = {
    *("write_text", "write_bytes", "touch", "truncate", "mkdir", "makedirs", "symlink_to", "hardlink_to"),
    *("link_to", "unlink", "rmdir", "rmtree", "removedirs", "rename", "renames", "move", "chmod", "lchmod"),
    *("copyfile", "copytree", "extract", "extractall", "writestr"),
    *("to_csv", "to_excel", "to_pickle", "to_parquet", "to_json", "to_sql", "tofile"),
}
_BY_NAME = {
    *("getattr", "__import__", "importlib.import_module"),
    *("operator.methodcaller", "operator.attrgetter"),
}
_SQL = re.compile(r"(?:^|;)\s*(?:attach\s+(?:database\s+)?\S+\s+as|vacuum\s+into)\b", re.IGNORECASE)
_READING = re.compile(r"r?[bt]?\Z|[bt]r\Z|rU\Z")


class Writers(ast.NodeVisitor):
    """Finds every place in a module that may write; `found` has a line each."""

    def __init__(self, source: str, *, own_touch: bool = False) -> None:
        self.found: list[str] = []
        self._imported: dict[str, str] = {}
        self._streams: set[str] = set()
        self._methods = _METHODS - ({"touch"} if own_touch else set())
        tree = ast.parse(source)
        self._parents: dict[ast.AST, ast.AST] = {}
        nodes: list[ast.AST] = [tree]
        for node in nodes:  # grows as it is gone through
            children = list(ast.iter_child_nodes(node))
            self._parents.update(dict.fromkeys(children, node))
            nodes += children
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        self._openable = {
            node.name for node in classes if any(getattr(part, "name", "") == "open" for part in node.body)
        }
        for node in nodes:
            self._learn(node)
        self._archives = {
            item.optional_vars.id
            for node in nodes
            if isinstance(node, ast.With)
            for item in node.items
            if isinstance(item.optional_vars, ast.Name)
            and isinstance(item.context_expr, ast.Call)
            and self._dotted(item.context_expr.func) == "zipfile.ZipFile"
        }
        self.visit(tree)

    def _learn(self, node: ast.AST) -> None:
        """Note what names mean, and which are streams that files.py opened or a caller handed in."""
        if isinstance(node, ast.Import):
            for name in node.names:
                self._imported[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                self._imported[name.asname or name.name] = f"{node.module}.{name.name}"
        elif isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name):
            if node.annotation.id in {"BinaryIO", "TextIO"}:
                self._streams.add(node.arg)
        elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            call = node.context_expr
            if isinstance(call, ast.Call) and self._dotted(call.func).startswith("mailmerge.files."):
                self._streams.add(node.optional_vars.id)

    def _dotted(self, node: ast.AST) -> str:
        """Return the full name of what an expression names; an empty string where it is not a name."""
        if isinstance(node, ast.Name):
            return self._imported.get(node.id, node.id if hasattr(builtins, node.id) else "")
        if isinstance(node, ast.Attribute):
            before = self._dotted(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""

    def _tell(self, node: ast.expr | ast.stmt, what: str) -> None:
        self.found.append(f"{node.lineno}: {what}")

    def _is_stream(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in self._streams

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """See what comes from where."""
        for name in node.names:
            dotted = f"{node.module}.{name.name}"
            if name.name == "*" or dotted in _CALLS or node.module in _WRITING_MODULES:
                self._tell(node, f"from {node.module} import {name.name}")

    def visit_Import(self, node: ast.Import) -> None:
        """See which modules there are."""
        for name in node.names:
            if name.name.partition(".")[0] in _WRITING_MODULES:
                self._tell(node, f"import {name.name}")

    def visit_Name(self, node: ast.Name) -> None:
        """See modules and functions that are handed on under another name."""
        parent = self._parents[node]
        dotted = self._dotted(node)
        if dotted in _MODULES and node.id in self._imported and not isinstance(parent, ast.Attribute):
            asked = isinstance(parent, ast.Call) and self._dotted(parent.func) in {"getattr", "hasattr"}
            if not isinstance(parent, ast.Call) or not asked or not isinstance(parent.args[1], ast.Constant):
                self._tell(node, f"{dotted} itself")
        if dotted == "open" and not (isinstance(parent, ast.Call) and parent.func is node):
            self._tell(node, "open itself")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """See every function and method that writes, called or not."""
        dotted, parent = self._dotted(node), self._parents[node]
        call = parent if isinstance(parent, ast.Call) and parent.func is node else None
        if dotted == "sqlite3.Connection" and self._is_annotation(node):
            return
        if dotted in _CALLS or dotted.partition(".")[0] in _WRITING_MODULES:
            self._tell(node, dotted)
        elif node.attr in self._methods and not dotted.startswith(("mailmerge.", "os.path.")):
            self._tell(node, f".{node.attr}")
        elif (
            node.attr == "replace" and isinstance(node.ctx, ast.Load) and dotted != "msgspec.structs.replace"
        ):
            # Text is replaced with two arguments, times by keywords.
            if call is None or (len(call.args) == 1 and not call.keywords) or self._starred(call):
                self._tell(node, ".replace with one argument")
        elif node.attr == "save" and (
            call is None or not all(map(self._is_stream, call.args)) or call.keywords
        ):
            self._tell(node, ".save to a path")
        elif node.attr == "open":
            self._see_open_method(node, call, dotted)
        self.generic_visit(node)

    def _is_annotation(self, node: ast.AST) -> bool:
        parent = self._parents[node]
        while isinstance(parent, ast.expr):
            node, parent = parent, self._parents[parent]
        return node in (getattr(parent, "annotation", None), getattr(parent, "returns", None))

    @staticmethod
    def _starred(call: ast.Call) -> bool:
        return any(isinstance(argument, ast.Starred) for argument in call.args)

    def _see_open_method(self, node: ast.Attribute, call: ast.Call | None, dotted: str) -> None:
        if dotted.startswith("mailmerge.") or dotted == "webbrowser.open":
            return
        if isinstance(node.value, ast.Name) and node.value.id in self._openable:
            return
        if call is None or self._starred(call):
            self._tell(node, ".open itself")
            return
        modes = [*call.args[:1], *(word.value for word in call.keywords if word.arg in {"mode", None})]
        in_archive = isinstance(node.value, ast.Name) and (
            (node.value.id == "archive" and len(call.args) == 1)
            or node.value.id in self._archives  # where that writes is seen where it is made
        )
        if not in_archive and not all(map(self._reads, modes)):
            self._tell(node, ".open for writing")

    @staticmethod
    def _reads(mode: ast.expr) -> bool:
        return (
            isinstance(mode, ast.Constant)
            and isinstance(mode.value, str)
            and bool(_READING.match(mode.value))
        )

    def visit_Call(self, node: ast.Call) -> None:
        """Record open() and archives by their modes, and names given as strings."""
        dotted = self._dotted(node.func)
        if dotted == "open":
            modes = [*node.args[1:2], *(word.value for word in node.keywords if word.arg in {"mode", None})]
            if self._starred(node) or not all(map(self._reads, modes)):
                self._tell(node, "open for writing")
        if dotted == "zipfile.ZipFile":
            modes = [*node.args[1:2], *(word.value for word in node.keywords if word.arg in {"mode", None})]
            if not self._is_stream(node.args[0]) and not all(map(self._reads, modes)):
                self._tell(node, "ZipFile for writing")
        if dotted in _BY_NAME:
            for text in (argument for argument in node.args if isinstance(argument, ast.Constant)):
                name = str(text.value)
                if name in self._methods | _OS | _WRITING_MODULES | {
                    "os",
                    "io",
                    "sqlite3",
                    "replace",
                    "save",
                }:
                    self._tell(node, f"{dotted} of {name}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """See SQL that makes files."""
        if isinstance(node.value, str) and _SQL.search(node.value) and not self._is_docstring(node):
            self._tell(node, "SQL that makes a file")

    def _is_docstring(self, node: ast.Constant) -> bool:
        return isinstance(self._parents[node], ast.Expr)


@pytest.mark.skipif(not MODULES, reason="needs the source tree")
def test_nothing_else_writes() -> None:
    """No other module has a call, a method or a name that makes, changes, renames or removes a file."""
    found = []
    for path in MODULES:
        name = path.relative_to(PACKAGE)
        writers = Writers(path.read_text("utf-8"), own_touch=name.parts[0] == OUR_OWN_TOUCH)
        found += [f"{name}:{what}" for what in writers.found]

    assert found == []


PLANTED = [
    *(
        "open('a', 'w')",
        "open(p, mode='ab')",
        "open(p, m)",
        "open(p, **o)",
        "open(*a)",
        "f = open",
        "x(open)",
    ),
    *("open(p, 'r+')", "open(p, 'xb')", "import io\nio.open(p, 'w')", "from io import open as o\no(p)"),
    *(
        "import io\nio.FileIO(p, 'w')",
        "import codecs\ncodecs.open(p, 'w')",
        "import builtins\nbuiltins.open(p)",
    ),
    *(
        "import os\nos.open(p, f)",
        "import os as o\no.open(p, f)",
        "from os import open as x",
        "from os import *",
    ),
    *(f"import os\nos.{name}(p)" for name in sorted(_OS)),
    *(f"from os import {name}" for name in ("unlink", "replace", "mkdir", "rename")),
    *(
        "import os\no = os",
        "import os\nx(os)",
        "import os\ngetattr(os, 'unlink')(p)",
        "import os\nr = os.remove",
    ),
    *(
        "import os\ngetattr(os, n)(p)",
        "import os\nvars(os)['unlink'](p)",
        "import os.path\nos.path.os.unlink(p)",
    ),
    *("import shutil", "import shutil as s", "from shutil import copyfile", "import tempfile"),
    *("from tempfile import mkdtemp", "__import__('shutil')", "__import__('os').unlink(p)"),
    *(
        "from importlib import import_module\nimport_module('os')",
        "import importlib\nimportlib.import_module('os')",
    ),
    *(f"p.{name}(x)" for name in sorted(_METHODS)),
    *(f"(a / b).{name}()" for name in ("unlink", "touch", "mkdir")),
    *(
        "f = p.unlink",
        "map(Path.unlink, ps)",
        "x(p.write_text)",
        "getattr(p, 'unlink')()",
        "self.path.rmdir()",
    ),
    *(
        "import operator\noperator.methodcaller('unlink')",
        "from operator import methodcaller\nmethodcaller('touch')",
    ),
    *(
        "p.replace(q)",
        "(a / b).replace(q)",
        "f = p.replace",
        "p.replace(*q)",
        "Path(a).replace(b)",
        "p.rename(q)",
    ),
    *("p.open('w')", "p.open(mode='a')", "p.open(m)", "(a / b).open('r+b')", "f = p.open", "p.open(*a)"),
    *("p.open(**o)", "self.p.open('xb')", "archive.open(part, 'w')"),
    *(
        "import sqlite3\nsqlite3.connect(p)",
        "from sqlite3 import connect",
        "import sqlite3 as s\ns.connect(p)",
    ),
    *(
        "from sqlite3.dbapi2 import connect",
        "import sqlite3\nx(sqlite3)",
        "import sqlite3\nsqlite3.Connection(p)",
        "import sqlite3\nc = sqlite3.Connection",
    ),
    *("db.execute('ATTACH ? AS x')", "db.execute(\"VACUUM INTO 'x'\")"),
    *("import zipfile\nzipfile.ZipFile(p, 'w')", "from zipfile import ZipFile\nZipFile(p, mode='a')"),
    *("import zipfile\nzipfile.ZipFile(p, m)", "from zipfile import ZipFile as Z\nZ(p, 'x')"),
    *(
        "book.save(path)",
        "f = book.save",
        "book.save(filename=p)",
        "archive.extractall(p)",
        "archive.writestr(a, b)",
    ),
    *("import mailbox", "import tarfile", "import gzip\ngzip.open(p, 'w')", "frame.to_csv(p)", "a.tofile(p)"),
    *(
        "import logging\nlogging.FileHandler(p)",
        "import logging.handlers\nlogging.handlers.WatchedFileHandler(p)",
    ),
]


@pytest.mark.parametrize("source", PLANTED)
def test_a_planted_writer_is_found(source: str) -> None:
    """Each way to write a file is found, under whatever name."""
    assert Writers(source).found != []


@pytest.mark.parametrize(
    "source",
    [
        *("open(p)", "open(p, 'rb')", "p.open('rb')", "p.open(encoding='x', newline='')", "p.open()"),
        *(
            "t.replace('a', 'b')",
            "t.replace('a', 'b', 1)",
            "now.replace(microsecond=0)",
            "p.read_text('utf-8')",
        ),
        *("import os\nos.path.join(a, b)", "import os\nos.environ['x']", "import os\nos.fstat(f)"),
        *("import os\ngetattr(os, 'O_PATH', 0)", "import sqlite3\nsqlite3.Error", "archive.open(part)"),
        *("from mailmerge.files import replace_file\nwith replace_file(p) as s:\n    book.save(s)",),
        *("from mailmerge import files\nwith files.replace_file(p) as s:\n    book.save(s)",),
        *("from mailmerge import files\nfiles.open_database(p)", "from mailmerge.files import remove_file"),
        *("import zipfile\nzipfile.ZipFile(p)", "def f(s: BinaryIO):\n    zipfile.ZipFile(s, 'w')"),
        "import zipfile\ndef f(s: BinaryIO):\n    with zipfile.ZipFile(s, 'w') as z:\n        z.open(e, 'w')",
        *("from mailmerge.ledger.ledger import Ledger\nLedger.open(p, n)", "connection.open()"),
        *("class Ledger:\n    def open(self, p): ...\nLedger.open(p)",),
        *("import webbrowser\nwebbrowser.open(a)", "from msgspec.structs import replace\nreplace(a, b=c)"),
        *(
            "import sqlite3\ndef f(db: sqlite3.Connection | None) -> sqlite3.Connection: ...",
            "x = 'attach files'",
        ),
        *("'''Nothing is attached: ATTACH x.'''",),
    ],
)
def test_reading_is_left_alone(source: str) -> None:
    """What only reads, or goes through files.py, is not found."""
    assert Writers(source).found == []

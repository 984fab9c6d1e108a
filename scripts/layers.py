# SPDX-License-Identifier: GPL-2.0
"""Hold src/ to docs/architecture.md: the imports to the drawing of the folders, the files to the map of files.

The drawing is a fenced block with the info string `folders`. A line is a folder and the folders that it may use;
three blanks end the list, what follows is a remark:

    src  -> linux pure pure/rule       who does it when
    pure ->
    pure/alloc.rs -> linux/memory.rs   one import that may run upward
    pure/rule/x in pure/rule           a folder that counts as a part of another

An arrow runs downward, to a line further below. Only an arrow from one file to another may run upward. `src` has the
files of src/ itself, `C` the C code. The files of a folder may use each other, but not in a circle.

The map of files names each file of src/ as code: by its name, or the end of its path; but for mod.rs, which is its
folder.

An import is a path in a `use` or elsewhere in the code that leads to another file of src/. Comments do not count, nor
do declarations (`mod x;`) and `pub(in path)`. The path's longest part that is a module's name tells the file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = "src"  # the folder of the files of src/ itself
C = "C"

FOLDERS = re.compile(r"^```folders\n(.*?)^```$", re.M | re.S)
NAME = re.compile(r"`([\w./-]+\.(?:rs|c))`")
LINE = re.compile(r"(?P<user>\S+) +->(?P<used>(?: {1,2}\S+)*)(?: *| {3,}.*)")
PART = re.compile(r"(?P<part>\S+) +in (?P<whole>\S+)(?: *| {3,}.*)")

# What is no code, then the rest, piece by piece. (A character is none of these where it begins a lifetime.)
TOKEN = re.compile(
    r"""(?P<none> //[^\n]* | b?"(?:[^"\\]|\\.)*" | b?r(?P<hashes>\#*)".*?"(?P=hashes)
        | b?'(?:[^'\\\n]|\\[^\n]+?)'(?!\w) | \s+)
    | (?P<word> \$?\w+) | (?P<sign> :: | .)""",
    re.S | re.X,
)
COMMENT_ENDS = re.compile(r"/\*|\*/")

Module = tuple[str, ...]  # its path from the crate's root, the empty one


@dataclass
class Drawing:
    """What a drawing allows: for each folder, from above to below, the folders that it may use."""

    arrows: dict[str, list[str]] = field(default_factory=dict)
    files: set[tuple[str, str]] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)

    def folder_of(self, path: Path) -> str:
        """Return the folder that a file counts to."""
        if path.suffix != ".rs":
            return C
        name = str(path.parent.relative_to(ROOT)) if path.parent != Path(ROOT) else ROOT
        return self.parts.get(name, name)

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the drawing itself."""
        order = list(self.arrows)
        for user, used in self.pairs():
            if used not in order:
                yield f"the drawing has no line for {used}, which {user} may use"
            elif order.index(used) <= order.index(user):
                yield f"the arrow from {user} to {used} does not run downward"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each arrow between folders."""
        for user, all_used in self.arrows.items():
            for used in all_used:
                yield user, used


def read_drawing(document: str) -> Drawing:
    """Return the drawing of a document; a ValueError says why there is none."""
    blocks = FOLDERS.findall(document)
    if len(blocks) != 1:
        raise ValueError(f"{len(blocks)} blocks with the info string `folders`, not one")
    drawing = Drawing()
    for line in filter(str.strip, blocks[0].splitlines()):
        part = PART.fullmatch(line)
        if part:
            drawing.parts[part["part"]] = part["whole"]
            continue
        match = LINE.fullmatch(line)
        if not match:
            raise ValueError(f"not a line of the drawing: {line}")
        user, used = match["user"], match["used"].split()
        if user.endswith(".rs"):
            drawing.files |= {(user, one) for one in used}
        elif user in drawing.arrows:
            raise ValueError(f"two lines for {user}")
        else:
            drawing.arrows[user] = used
    return drawing


def tokens(text: str) -> list[str]:
    """Return the words and signs of Rust code, without comments, strings and characters."""
    found, at = [], 0
    while at < len(text):
        if text.startswith("/*", at):
            at = end_of_comment(text, at)
            continue
        match = TOKEN.match(text, at)
        at = match.end()
        if match.lastgroup != "none" and not match["none"]:
            found.append(match[0])
    return found


def end_of_comment(text: str, at: int) -> int:
    """Return where a block comment ends that begins at `at`; one may be within another."""
    depth = 0
    for mark in COMMENT_ENDS.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


class Reader:
    """Reads the paths of one file: `.paths` are those from the crate's root, as they stand in the code."""

    def __init__(self, text: str, module: Module) -> None:
        self.left = tokens(text)[::-1]
        self.paths: set[Module] = set()
        self.read_module(module)

    def peek(self, ahead: int = 0) -> str:
        """Return one of the next tokens; empty at the end."""
        return self.left[-1 - ahead] if ahead < len(self.left) else ""

    def read_module(self, module: Module) -> None:
        """Read a module's code to its closing brace, or the end."""
        names: dict[str, Module] = {}
        inner: list[Module] = []
        plain: list[Module] = []
        depth, last = 0, ""
        while self.left:
            token = self.left.pop()
            if token == "{":
                depth += 1
            elif token == "}":
                if depth == 0:
                    break
                depth -= 1
            elif token == "(" and last == "pub" and "in" == self.peek():
                while self.left.pop() != ")":
                    pass
            elif token == "mod" and self.peek(1) == ";":
                names.setdefault(self.peek(), (*module, self.peek()))
            elif token == "mod" and self.peek(1) == "{":
                inner_module = (*module, self.left.pop())
                self.left.pop()
                self.read_module(inner_module)
            elif token == "use" and self.peek() != "<":  # not the bounds of `impl Trait + use<'a>`
                for path, name in self.read_tree(()):
                    inner.append(path)
                    if name:
                        names.setdefault(name, self.absolute(path, module, {}) or ())
                self.left.pop()
            elif re.match(r"\$?\w", token) and last not in ("::", ".") and self.peek() == "::":
                plain.append(self.read_path(token))
            last = token
        for path in (*inner, *plain):
            absolute = self.absolute(path, module, names)
            if absolute:
                self.paths.add(absolute)

    def read_path(self, first: str) -> Module:
        """Read the rest of a path that stands in the code."""
        path = [first]
        while self.peek() == "::" and re.match(r"\w", self.peek(1)):
            self.left.pop()
            path.append(self.left.pop())
        return tuple(path)

    def read_tree(self, prefix: Module) -> list[tuple[Module, str]]:
        """Read a use-tree: the paths, and the name that each has from then on (none for a glob)."""
        path = list(prefix)
        while True:
            token = self.left.pop()
            if token == "{":
                found = []
                while self.peek() != "}":
                    found += self.read_tree(tuple(path))
                    if self.peek() == ",":
                        self.left.pop()
                self.left.pop()
                return found
            if token == "*":
                return [(tuple(path), "")]
            if token != "::" and not (token == "self" and path):
                path.append(token)
            if token != "::" and self.peek() != "::":
                break
        name = path[-1]
        if self.peek() == "as":
            self.left.pop()
            name = self.left.pop()
        return [(tuple(path), name)]

    @staticmethod
    def absolute(path: Module, module: Module, names: Mapping[str, Module]) -> Module | None:
        """Return a path as from the crate's root; None where it leads out of the crate."""
        first, *rest = path
        if first in ("crate", "$crate"):
            return tuple(rest)
        if first == "self":
            return (*module, *rest)
        if first == "super":
            while rest and rest[0] == "super":
                module, rest = module[:-1], rest[1:]
            return (*module[:-1], *rest)
        if names.get(first):
            return (*names[first], *rest)
        return None


def module_of(path: Path) -> Module:
    """Return the module that a file of src/ is; the roots of both crates are the empty one."""
    parts = path.with_suffix("").parts[1:]
    if parts in (("ctskip_main",), ("lib",)):
        return ()
    return parts[:-1] if parts[-1] == "mod" else parts


def imports(sources: Mapping[Path, str]) -> dict[Path, set[Path]]:
    """Return the files that each file of src/ uses."""
    rust = {path: text for path, text in sources.items() if path.suffix == ".rs"}
    files = {module_of(path): path for path in rust if path.name != "lib.rs"}
    found: dict[Path, set[Path]] = {path: set() for path in sources}
    for path, text in rust.items():
        for used in Reader(text, module_of(path)).paths:
            while used and used not in files:
                used = used[:-1]
            if used in files and files[used] != path:
                found[path].add(files[used])
        if re.search(r"^\s*include!\(", text, re.M):
            found[path].add(Path("rust-bindings/bindings_helper.h"))
    return found


def circle(used: Mapping[Path, Iterable[Path]]) -> list[Path]:
    """Return the files of one circle of imports, in order; empty where there is none."""
    done: set[Path] = set()

    def visit(path: Path, way: list[Path]) -> list[Path]:
        if path in way:
            return way[way.index(path) :]
        if path in done:
            return []
        for other in sorted(used.get(path, ())):
            found = visit(other, [*way, path])
            if found:
                return found
        done.add(path)
        return []

    for path in sorted(used):
        found = visit(path, [])
        if found:
            return found
    return []


def map_findings(document: str, paths: Iterable[Path]) -> Iterator[str]:
    """Yield the files of src/ that a document does not name, and those that it names and that are not there."""
    paths = list(paths)
    left = {path for path in paths if path.name != "mod.rs"}
    first_parts = {ROOT, *(path.parts[1] for path in paths)}
    for name in dict.fromkeys(NAME.findall(document)):
        meant = {path for path in paths if f"/{path}".endswith(f"/{name}")}
        first, slash, _ = name.partition("/")
        if not meant and (not slash or first in first_parts):
            yield f"`{name}` is named, and is not there"
        left -= meant
    yield from (f"{path} is not in the map of files" for path in sorted(left))


def findings(document: str, sources: Mapping[Path, str]) -> Iterator[str]:
    """Yield where a document and the files of src/ do not agree: `sources` is these and the C code beside them."""
    try:
        drawing = read_drawing(document)
    except ValueError as error:
        yield str(error)
        return
    yield from drawing.faults()

    yield from map_findings(document, [path for path in sources if path.parts[0] == ROOT])
    folders = {drawing.folder_of(path) for path in sources}
    there = {str(path.parent.relative_to(ROOT)) for path in sources if path.parts[0] == ROOT}
    yield from (f"{name} is drawn, and is not there" for name in drawing.parts if name not in there)
    yield from (
        f"the drawing has no line for {name}" for name in sorted(folders - {*drawing.arrows})
    )
    yield from (
        f"{name} is drawn, and is not there" for name in drawing.arrows if name not in folders
    )

    arrows, files = set(), set()
    used = imports(sources)
    for user, other in sorted((user, other) for user in used for other in used[user]):
        arrow = drawing.folder_of(user), drawing.folder_of(other)
        pair = tuple(str(path.relative_to(ROOT)) for path in (user, other) if arrow[1] != C)
        if arrow[0] == arrow[1]:
            continue
        if pair in drawing.files:
            files.add(pair)
            continue
        arrows.add(arrow)
        if arrow[1] not in drawing.arrows.get(arrow[0], ()):
            yield f"{user} uses {other}: the drawing has no arrow from {arrow[0]} to {arrow[1]}"
    for one, other in (*drawing.pairs(), *sorted(drawing.files)):
        if (one, other) not in arrows | files:
            yield f"no import uses the arrow from {one} to {other}"

    way = circle(used)
    if way:
        yield f"a circle of files: {' -> '.join(map(str, [*way, way[0]]))}"

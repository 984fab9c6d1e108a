# SPDX-License-Identifier: GPL-2.0
"""Check the links of the Markdown documents: each one leads to a file of the tree, and to a heading of it.

Links to other sites are not followed. Headings have the anchors that GitHub gives them. A path in backquotes, such as
`scripts/links.py`, must be there, too, where it begins with a folder of the tree.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1[`~]* *$|\Z)", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n+)+")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.S)
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.M)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
PATH = re.compile(r"`((?!build/)[\w.-]+(?:/[\w.-]+)+)/?`")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)


def blank(match: re.Match[str]) -> str:
    """Return as many lines as a match has, all of them empty."""
    return "\n" * match[0].count("\n")


def anchors(document: str) -> set[str]:
    """Return the anchors of a document's headings."""
    found: set[str] = set()
    for title in HEADING.findall(FENCE.sub(blank, document)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number, name = 0, slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def links(document: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the target of each link that is not code."""
    text = document
    for code in (FENCE, INDENTED, CODE):
        text = code.sub(blank, text)
    for match in LINK.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1]
        inner = match[0][1 : match[0].rindex("](")]
        yield from ((text.count("\n", 0, match.start()) + 1, one) for one in LINK.findall(inner))


def findings(documents: Mapping[Path, str], exists: Callable[[Path], bool]) -> Iterator[str]:
    """Yield the links that lead nowhere. `exists` tells whether a path of the tree is there."""
    for path, document in documents.items():
        for number, link in links(document):
            if ELSEWHERE.match(link):
                continue
            name, _, anchor = link.partition("#")
            target = Path(os.path.normpath(path.parent / name)) if name else path
            if not exists(target):
                yield f"{path}:{number}: {link}: no such file"
            elif anchor and (target not in documents or anchor not in anchors(documents[target])):
                yield f"{path}:{number}: {link}: no such heading"
        text = FENCE.sub(blank, document)
        for match in PATH.finditer(text):
            named = Path(match[1])
            if exists(Path(named.parts[0])) and not exists(named):
                number = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{number}: {named}: no such file"

# SPDX-License-Identifier: GPL-2.0
"""Checks that need no guest: the linters, and the tests of the pure core and the scripts.

They run in the chroot of a kernel line, with its compilers and, where the kernel has them, the
kernel's own settings. One finding of any of them fails the whole.

usage: checks.py test [NAME] | lint [LINE] | format

With a NAME, the only tests are those of the pure core whose name has it in it; with interleavings/NAME, those of
interleavings/.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cache
import chroot
import frames
import kernel
import layers
import links
import module
import stock_kernel

CHECKOUT = chroot.CHECKOUT
HERE = chroot.MODULE  # the checkout's place in the chroot
CARGO = "/usr/src/cargo"
# Tools that come from PyPI, and their versions.
RUFF = "ruff", "0.17.6"
CODESPELL = "codespell", "2.4.3"
# Words that it does not know, and that are meant: names, and what the tests write wrong on purpose.
MEANT = "caf,delte,iif,inforce,observ,parm,tabel,whats"
# The kernel lines in whose chroot the linters are.
LINTED = [
    name
    for name, line in stock_kernel.LINES.items()
    if "rust-clippy" in chroot.CONFIG["chroot"][line["chroot"]]["packages"]
]

# What may not be named in the tree: registries, mirrors, places of one machine. (The brackets keep
# these lines from matching themselves; the lock file has to name its registry.)
FORBIDDEN = re.compile(
    r"deb[.]debian[.]org|crates[.]io[/-]|pypi[.]org|/wor[k]/|/tm[p]/try|/hom[e]/\w+/"
)
MAY_NAME_REGISTRY = ("Cargo.lock",)
# Written by tools, or not ours to head with a line.
NEEDS_NO_SPDX = re.compile(r"(.*/)?(Cargo\.lock|LICENSE|proptest-regressions/.*)")

NO_SOURCES = (".git", "build", "target", "fuzz/corpus", "fuzz/target")

# The most bytes of a stack frame of the module.
FRAME = 1024

# The document that has the drawing of the folders of src/.
DRAWING = "docs/architecture.md"

# Unsafe code stands in the folder of the kernel's wrappers, and nowhere else.
WRAPPERS = Path("src/linux")

UNSAFE = re.compile(r"\bunsafe\b")
# What those who call or implement it are told of under `# Safety`.
UNSAFE_ITEM = re.compile(r"\bunsafe ((extern \S+ )?fn|trait) \w")
UNSAFE_FN_TYPE = re.compile(r"\bunsafe (extern \S+ )?fn\(")
TRAIT_IMPL = re.compile(r"(unsafe )?impl\b.* for ")


def unsafe_code(path: Path, text: str) -> Iterator[str]:
    """Yield what is wrong with the unsafe code of a file: its place, or that it states no obligation.

    Clippy asks for the obligations too, but not within macros.
    """
    is_wrapper = path.is_relative_to(WRAPPERS)
    rows = text.splitlines()
    for number, row in enumerate(rows):
        code = row.split("//")[0]
        if not UNSAFE.search(code):
            continue
        place = f"{path}:{number + 1}"
        if not is_wrapper:
            yield f"{place}: unsafe code outside the wrappers of the kernel"
        elif UNSAFE_ITEM.search(code):
            # In a trait's implementation, the trait says it.
            item = next(r for r in reversed(rows[: number + 1]) if r[:1].strip(" }"))
            if not TRAIT_IMPL.match(item) and "# Safety" not in "".join(head(rows, number)):
                yield f"{place}: an unsafe function or trait without `# Safety`"
        elif not UNSAFE_FN_TYPE.search(code) and not obligation(rows, number):
            yield f"{place}: unsafe code without `// SAFETY: `"


def head(rows: Sequence[str], number: int) -> Iterator[str]:
    """Yield the comments and attributes right above a row, from below."""
    for row in reversed(rows[:number]):
        if not row.lstrip().startswith(("//", "#[")):
            return
        yield row


def obligation(rows: Sequence[str], number: int) -> bool:
    """Tell whether a comment right above a row's statement, or within it, states an obligation."""
    while number:
        comment = "".join(head(rows, number))
        if comment:
            return "// SAFETY: " in comment
        number -= 1
        if rows[number].strip()[-1:] in ("", ",", ";", "{", "}"):
            return False
    return False


def sources(*suffixes: str) -> list[Path]:
    """Return the tree's files with one of these suffixes, or all, relative to the checkout."""
    return [path for path in walk(CHECKOUT) if not suffixes or path.suffix in suffixes]


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files of the tree, without what is built, belongs to tools or is any bytes."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(CHECKOUT)
        if path.is_symlink() or str(name) in NO_SOURCES:
            continue
        if path.is_file():
            yield name
        elif path.name != "__pycache__" and (path.name[0] != "." or path.name == ".ci"):
            yield from walk(path)


def is_shell(path: Path) -> bool:
    """Tell whether a file is a shell script."""
    with (CHECKOUT / path).open("rb") as file:
        return path.suffix == ".sh" or re.match(rb"#!.*\b(ba|da)?sh\b", file.readline()) is not None


def fail_for(what: str, findings: Iterable[str]) -> None:
    """Fail where there are findings, and show them."""
    lines = list(findings)
    if lines:
        raise cache.Failed("\n".join((f"{what}:", *lines)))


class Checks:
    """The checks, for one kernel line."""

    def __init__(self, line: str | None) -> None:
        self.kernel = kernel.get(line)
        self.chroot = self.kernel.chroot

    def place(self, **env: str) -> dict:
        """Return where and how commands run, as the chroot takes it: in the checkout."""
        cargo_home, cargo_target = cache.ROOT / "cargo", CHECKOUT / "build/cargo"
        cargo_home.mkdir(parents=True, exist_ok=True)
        cargo_target.mkdir(parents=True, exist_ok=True)
        variables = {
            "CARGO_HOME": CARGO,
            "CARGO_TARGET_DIR": f"{HERE}/build/cargo",
            "CARGO_TERM_COLOR": "never",
            "CLIPPY_CONF_DIR": chroot.TREE,
            "PYTHONDONTWRITEBYTECODE": "1",
            **env,
        }
        binds = {CHECKOUT: HERE, self.kernel.tree(): chroot.TREE, cargo_home: CARGO}
        settings = Path.home() / ".cargo/config.toml"
        if settings.is_file():  # within CARGO, so made after it
            binds[settings] = f"{CARGO}/config.toml"
        return {"binds": binds, "cwd": HERE, "env": variables}

    def run(self, *cmd: str | Path, **env: str) -> None:
        """Run a command in the chroot, in the checkout."""
        self.chroot.run(cmd, **self.place(**env))

    def host_tests(self) -> None:
        """Run the scripts' tests, and the pure core's unit and property tests."""
        for folder in ("scripts", "qemu-test/bench"):
            self.run("python3", "-m", "unittest", "discover", f"--start-directory={folder}")
        self.run("cargo", "test", "--locked", "--quiet")

    def core_tests(self, name: str) -> None:
        """Run those of the pure core's tests whose name has this one in it."""
        # What takes long is to compile them.
        options = {"CARGO_PROFILE_TEST_OPT_LEVEL": "0"}
        crate, _, name = name.rpartition("/")
        tests = ["--package", f"ctskip-{crate}"] if crate else ["--test", "pure"]
        self.run("cargo", "test", "--locked", "--quiet", *tests, name, **options)

    def rustfmt(self, *options: str) -> None:
        """Rust's layout, by the kernel's settings; `make format` puts it right."""
        style = f"{chroot.TREE}/.rustfmt.toml"
        self.run("rustfmt", "--color=never", "--config-path", style, *options, *sources(".rs"))

    def clippy_core(self) -> None:
        """Clippy on the pure core, by the kernel's lints."""
        makefile = (self.kernel.tree() / "Makefile").read_text()
        flags = re.findall(r"^(?:export )?rust_common_flags\w* := (?:.*\\\n)*.*$", makefile, re.M)
        lints = re.findall(r"-[WAD](?!unused_features)[a-z0-9_:]+", "".join(flags))
        if not lints:
            raise cache.Failed("the kernel's Makefile has no rust_common_flags any more")
        clippy = ["cargo", "clippy", "--locked", "--quiet", "--all-targets", "--"]
        self.run(*clippy, *lints, "-Dwarnings")

    def clippy_module(self) -> None:
        """The whole module under clippy, and its C code, without a warning."""
        output = CHECKOUT / "build" / f"lint-{self.kernel.line}"
        strict = ["CLIPPY=1", "KRUSTFLAGS=-Dwarnings", "KCFLAGS=-Werror"]
        module.build_for(self.kernel, output, strict)

    def frames(self) -> None:
        """The stack frames of the module, as it is built to be loaded: clippy's build has others."""
        built = module.build(self.kernel.line)
        objdump = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn"]
        place = {"binds": {built.parent: chroot.OUTPUT}}
        code = self.chroot.output([*objdump, f"{chroot.OUTPUT}/{built.name}"], **place)
        fail_for(f"stack frames over {FRAME} bytes", frames.findings(code, FRAME))

    def checkpatch(self) -> None:
        """C's style, by the kernel's checkpatch."""
        checkpatch = [f"{chroot.TREE}/scripts/checkpatch.pl", "--no-tree", "--strict", "--quiet"]
        self.run(*checkpatch, "--show-types", "--file", *sources(".c", ".h"))

    def shellcheck(self) -> None:
        """Shell scripts."""
        self.run("shellcheck", *filter(is_shell, sources()))

    def ruff(self) -> None:
        """Python: ruff's default rules, and its layout."""
        self.run_ruff("check")
        self.run_ruff("format", "--check")

    def run_ruff(self, *options: str) -> None:
        """Run ruff on the tree."""
        self.run_tool(*RUFF, *options, "--no-cache", "--quiet", ".")

    def codespell(self) -> None:
        """Words that are spelt wrong, in all texts."""
        texts = [path for path in sources() if not NEEDS_NO_SPDX.fullmatch(str(path))]
        self.run_tool(*CODESPELL, f"--ignore-words-list={MEANT}", *map(str, texts))

    def run_tool(self, name: str, version: str, *arguments: str) -> None:
        """Run a tool that comes from PyPI, in the checkout."""
        place = f"/usr/src/{name}"

        def make(new: Path) -> None:
            pip = f"python3 -m venv {place} && exec {place}/bin/pip install {name}=={version}"
            self.chroot.run(["sh", "-c", pip], log=name, binds={new: place})

        tool = cache.entry(name, version, self.chroot.root.parent.name, make=make)
        cmd = [f"{place}/bin/{name}", *arguments]
        self.chroot.run(cmd, binds={CHECKOUT: HERE, tool: place}, cwd=HERE)

    def folders(self) -> None:
        """The imports of src/, by the drawing of its folders."""
        texts = {
            path: (CHECKOUT / path).read_text()
            for path in sources(".rs", ".c", ".h")
            if path.parts[0] in ("src", "rust-bindings")
        }
        fail_for("the folders", layers.findings((CHECKOUT / DRAWING).read_text(), texts))

    def links(self) -> None:
        """Links in the documents."""
        texts = {path: (CHECKOUT / path).read_text() for path in sources(".md")}
        found = links.findings(texts, lambda path: (CHECKOUT / path).exists())
        fail_for("the links", found)

    def rules_of_the_tree(self) -> None:
        """What holds in this tree and no tool knows."""
        findings = []
        for path in sources():
            try:
                text = (CHECKOUT / path).read_text()
            except UnicodeDecodeError:
                findings.append(f"{path}: not a text")
                continue
            lines = text.splitlines()
            headed = any("SPDX-L" in row for row in lines[:2])
            if not headed and not NEEDS_NO_SPDX.fullmatch(str(path)):
                findings.append(f"{path}:1: no SPDX line")
            for number, row in enumerate(lines, 1):
                if path.name not in MAY_NAME_REGISTRY and FORBIDDEN.search(row):
                    findings.append(f"{path}:{number}: names a registry, mirror or machine's path")
            if path.suffix == ".rs":
                findings += unsafe_code(path, text)
        fail_for("the tree's own rules", findings)

    def lint(self) -> None:
        """Run all linters; go on after a failure, so that one run shows all there is to do."""
        checks: dict[str, Callable[[], None]] = {
            "rules of the tree": self.rules_of_the_tree,
            "folders": self.folders,
            "links": self.links,
            "codespell": self.codespell,
            "ruff": self.ruff,
            "shellcheck": self.shellcheck,
            "checkpatch": self.checkpatch,
            "rustfmt": lambda: self.rustfmt("--check", "-l"),
            "clippy, pure core": self.clippy_core,
            "clippy, module": self.clippy_module,
            "stack frames": self.frames,
        }
        failed = []
        for name, check in checks.items():
            try:
                with cache.step(f"lint: {name}"):
                    check()
            except cache.Failed as error:
                cache.say(f"ctskip: {error}")
                failed.append(name)
        if failed:
            raise cache.Failed(f"lint failed: {'; '.join(failed)}")
        cache.say("ctskip: lint: no findings")


def main(argv: Sequence[str]) -> None:
    """Do as the usage says."""
    match list(argv):
        case ["test"]:
            with cache.step("host tests"):
                Checks(None).host_tests()
        case ["test", name]:
            with cache.step(f"host tests: {name}"):
                Checks(None).core_tests(name)
        case ["lint"]:
            Checks(None).lint()
        case ["lint", line]:
            if line not in LINTED:
                raise cache.Failed(
                    f"lint takes no kernel line {line}, but one of {', '.join(LINTED)}"
                )
            Checks(line).lint()
        case ["format"]:
            checks = Checks(None)
            checks.rustfmt()
            checks.run_ruff("format")
        case _:
            raise cache.Failed("usage: checks.py test [NAME] | lint [LINE] | format")


if __name__ == "__main__":
    cache.entry_point(main)

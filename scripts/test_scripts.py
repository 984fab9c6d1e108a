# SPDX-License-Identifier: GPL-2.0
"""Tests of the scripts: what the cache promises, what stops a build, what the linters find. Part of `make host-test`."""

import ast
import graphlib
import os
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import cache
import checks
import frames
import fuzz
import kernel
import layers
import links
import stock_kernel

sys.path.append(str(Path(__file__).resolve().parent.parent / "qemu-test"))

import mutants  # noqa: E402
import run  # noqa: E402
import selftests  # noqa: E402

STOCK = "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n"


class CacheTest(unittest.TestCase):
    """An entry is made once, whole or not at all."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for patch in (mock.patch("cache.ROOT", self.root), mock.patch("cache.say")):
            patch.start()
            self.addCleanup(patch.stop)

    def write(self, new: Path) -> None:
        """Make an entry that counts how often it was made."""
        (new / "file").write_text("content")
        self.made = getattr(self, "made", 0) + 1

    def test_made_once(self) -> None:
        """The second call for the same key finds what the first made; another key is made anew."""
        first = cache.entry("name", 1, make=self.write)
        self.assertEqual(cache.entry("name", 1, make=self.write), first)
        self.assertEqual((first / "file").read_text(), "content")
        self.assertEqual(self.made, 1)
        self.assertNotEqual(cache.entry("name", 2, make=self.write), first)
        self.assertEqual(self.made, 2)

    def test_failure_leaves_no_entry(self) -> None:
        """What a failed or interrupted run left is not seen, and does not stop the next."""

        def fail(new: Path) -> None:
            (new / "half").write_text("")
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            cache.entry("name", 1, make=fail)
        path = cache.entry("name", 1, make=self.write)
        self.assertEqual([file.name for file in path.iterdir()], ["file"])

    def test_superseded_goes(self) -> None:
        """An entry that nobody used for long goes when another of its name is made."""
        old, used = (cache.entry("name", key, make=self.write) for key in ("old", "used"))
        os.utime(old.with_name(old.name + ".from"), (0, 0))
        new = cache.entry("name", "new", make=self.write)
        self.assertEqual([p.is_dir() for p in (old, used, new)], [False, True, True])

    def test_one_maker(self) -> None:
        """Of two processes that want an entry at once, one makes it and the other waits."""
        program = (
            "import cache, time\n"
            "def make(new):\n"
            "    with open(cache.ROOT / 'made', 'a') as file: file.write('x')\n"
            "    time.sleep(0.5)\n"
            "cache.entry('name', 1, make=make)\n"
        )
        env = {
            **os.environ,
            "CTSKIP_CACHE": str(self.root),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        cmd = [sys.executable, "-c", program]
        runs = [subprocess.Popen(cmd, env=env, stderr=subprocess.DEVNULL) for _ in range(3)]
        self.assertEqual([run.wait() for run in runs], [0, 0, 0])
        self.assertEqual((self.root / "made").read_text(), "x")

    def test_failed_command_shows_its_end(self) -> None:
        """A failed command's last lines are shown, and where the rest is."""
        with self.assertRaisesRegex(cache.Failed, r"sh failed \(3\); .*/log/some.log"):
            cache.run(["sh", "-c", "echo why; exit 3"], log="some")
        cache.say.assert_called_once_with("why")


class KernelTest(unittest.TestCase):
    """A module that was built with another .config is refused."""

    def compare(self, used: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "image"), Path(folder, "used")
            files[0].write_text(STOCK)
            files[1].write_text(used)
            stock_kernel.compare_configs(*files)

    def test_harmless(self) -> None:
        """The same, and what changes no structure, passes."""
        self.compare(STOCK)
        self.compare(STOCK + 'CONFIG_CC_VERSION_TEXT="gcc"\nCONFIG_MODULE_SIG_KEY_TYPE_RSA=y\n')

    def test_other_config(self) -> None:
        """An option more, less or other stops the build and is named."""
        for used, name in (
            (STOCK + "CONFIG_C=y\n", "CONFIG_C"),
            (STOCK.replace("CONFIG_B=m\n", ""), "CONFIG_B"),
            (STOCK.replace("A=y", "A=m"), "CONFIG_A"),
            (STOCK + "CONFIG_CC_VERSION_TEXT_MORE=y\n", "CONFIG_CC_VERSION_TEXT_MORE"),
        ):
            with self.assertRaisesRegex(cache.Failed, rf"image's in {name};"):
                self.compare(used)

    def test_newest(self) -> None:
        """The newest of a line is found by number, if all its packages and its source are there."""
        line = {"image": r"linux-image-(7\.9\.\d+)", "packages": ["linux-h-"], "source": "src"}
        names = "linux-image-7.9.9\nlinux-image-7.9.10\nlinux-image-7.9.11\nlinux-image-7.10.1\n"
        versions = {"linux-image-": (9, 10, 11), "linux-h-": (9, 10, 11), "src": (9, 10)}
        rows = [
            f" {name}{'' if name == 'src' else f'7.9.{n}'} | 7.9.{n}-1 | http://somewhere Packages"
            for name, numbers in versions.items()
            for n in numbers
        ]
        where = mock.Mock()
        where.output.side_effect = lambda cmd: names if "pkgnames" in cmd else "\n".join(rows)
        with mock.patch.dict(stock_kernel.LINES, {"7.9": line}):
            self.assertEqual(stock_kernel.look_up_newest(where, "7.9"), ("7.9.10", "7.9.10-1"))

    def test_newer_than_the_lists(self) -> None:
        """A kernel that the package lists do not know yet is fetched after these were."""
        line = {"chroot": "c", "packages": ["linux-h-"]}
        for known, updates in (("7.9.9-1", True), ("7.9.10-1", False)):
            where = mock.Mock()
            where.output.return_value = f" linux-h-7.9 | {known} | http://somewhere Packages"
            with (
                tempfile.TemporaryDirectory() as folder,
                mock.patch("cache.ROOT", Path(folder)),
                mock.patch("cache.say"),
                mock.patch("chroot.get", return_value=where),
                mock.patch.dict(stock_kernel.LINES, {"7.9": line}),
            ):
                stock_kernel.fetch("7.9", "7.9.10", "7.9.10-1")
            done = [call.args[0] for call in where.run.call_args_list]
            self.assertEqual(done[0] == ["apt-get", "-q", "update"], updates)
            self.assertIn("linux-h-7.9.10=7.9.10-1", done[updates])

    def test_names(self) -> None:
        """A name chooses a stock kernel or its debug kernel; the newest line is the default."""

        def debug(stock: str) -> str:
            return f"debug kernel of {stock}"

        with (
            mock.patch("stock_kernel.get", side_effect=lambda line: line) as stock,
            mock.patch("debug_kernel.get", side_effect=debug),
        ):
            newest = stock_kernel.DEFAULT
            self.assertEqual(kernel.get(), newest)
            self.assertEqual(kernel.get("7.2"), "7.2")
            self.assertEqual(kernel.get("7.2-debug"), debug("7.2"))
            self.assertEqual(kernel.get("-debug"), debug(newest))
            stock.reset_mock()
            with self.assertRaisesRegex(cache.Failed, "^7.2-debug is a debug kernel already$"):
                kernel.get("7.2-debug-debug")
            stock.assert_not_called()


class ImportsTest(unittest.TestCase):
    """No Python file imports itself by way of others."""

    FOLDERS = ("scripts", "qemu-test", "qemu-test/bench", "qemu-test/tests")

    def imports(self, file: Path) -> Iterator[Path]:
        """Yield the files of the checkout that a file imports."""
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import():
                    yield from self.find(file, *(alias.name for alias in node.names))
                case ast.ImportFrom(module=name, level=0):
                    yield from self.find(file, name)
                case ast.ImportFrom(module=name):
                    yield file.parent / f"{name}.py"
                case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(name)]):
                    yield from self.find(file, name)

    def find(self, file: Path, *names: str) -> Iterator[Path]:
        """Yield the file of each name, from the importer's folder or a later one of FOLDERS."""
        folders = [file.parent, *(checks.CHECKOUT / folder for folder in self.FOLDERS)]
        for name in names:
            places = [f / end for f in folders for end in (f"{name}.py", f"{name}/__init__.py")]
            yield from [place for place in places if place.is_file()][:1]

    def test_no_circle(self) -> None:
        """The files have an order in which each imports only earlier ones."""
        files = [f for folder in self.FOLDERS for f in (checks.CHECKOUT / folder).rglob("*.py")]
        graph = {file: list(self.imports(file)) for file in files}
        order = list(graphlib.TopologicalSorter(graph).static_order())
        parts = ("kernel", "stock_kernel", "debug_kernel")
        for below, above in (
            *((checks.CHECKOUT / f"scripts/{part}.py", "scripts/module.py") for part in parts),
            (checks.CHECKOUT / "qemu-test/tests/netlab/system.py", "qemu-test/tests/conftest.py"),
        ):
            self.assertLess(order.index(below), order.index(checks.CHECKOUT / above), below)


class RulesTest(unittest.TestCase):
    """The tree's own rules find what they are for."""

    def test_forbidden(self) -> None:
        """A registry's or mirror's name and a machine's path are found; like words are not."""
        for text in ("/".join(("", "work", "x")), ".".join(("deb", "debian", "org"))):
            self.assertTrue(checks.FORBIDDEN.search(text), text)
        for text in ("/network/x", "debian.org/releases", "how it works/fails"):
            self.assertFalse(checks.FORBIDDEN.search(text), text)

    def test_unsafe(self) -> None:
        """Unsafe code is found; the lint that forbids it, and a comment, are none."""
        found = [checks.UNSAFE.search(t) for t in ("unsafe {", "pub unsafe fn x()", "x=unsafe{")]
        self.assertTrue(all(found))
        self.assertFalse(re.search(checks.UNSAFE, "#![forbid(unsafe_code)]"))

    def unsafe(self, text: str, file: str = "src/linux/rcu.rs") -> list[str]:
        """What is found in a file, without its name and number of lines."""
        findings = checks.unsafe_code(Path(file), text)
        return [finding.partition(": ")[2] for finding in findings]

    def test_unsafe_outside_the_wrappers(self) -> None:
        """Anywhere but in a module that wraps the kernel, however well it is founded."""
        text = "// SAFETY: It is.\nunsafe { f() }\n"
        files = (
            "src/pure/rule/mod.rs",
            "src/rcu.rs",
            "src/ctskip_main.rs",
            "src/pure/linux/rcu.rs",
        )
        for file in (*files, "tests/pure/main.rs", "testkit/src/lib.rs", "linux/rcu.rs"):
            self.assertEqual(
                self.unsafe(text, file), ["unsafe code outside the wrappers of the kernel"]
            )
            self.assertEqual(self.unsafe("// unsafe { f() }\n", file), [])
        self.assertEqual(self.unsafe(text), [])
        self.assertTrue((checks.CHECKOUT / checks.WRAPPERS).is_dir())

    def test_unsafe_without_its_obligation(self) -> None:
        """In a wrapper, each block says above its statement why it may, each function what it asks."""
        block = ["unsafe code without `// SAFETY: `"]
        for text in (
            "unsafe { f() }",
            "// Fine.\nunsafe { f() }",
            "// SAFETY: Of another one.\nf();\nunsafe { f() }",
            "// SAFETY: Of another one.\n\nunsafe { f() }",
            "// SAFETY: Of the outer one.\nmatch {\n    unsafe { f() }",
            "f(\n    // SAFETY: Of another one.\n    x,\n    unsafe { f() },\n);",
            "unsafe impl Send for X {}",
            "mac! {\n    unsafe(uninit) static X: Y;\n}",
        ):
            self.assertEqual(self.unsafe(text), block, text)
        for text in (
            "// SAFETY: It is.\nunsafe { f() }",
            "// SAFETY: It is, and\n// that too.\n#[expect(x)]\nlet x =\n    unsafe { f() };",
            "let y = f(\n    x,\n    // SAFETY: It is.\n    unsafe { f() },\n);",
            "// SAFETY: It is.\nunsafe impl Send for X {}",
            'type F = unsafe extern "C" fn(*mut X);',
        ):
            self.assertEqual(self.unsafe(text), [], text)
        function = ["an unsafe function or trait without `# Safety`"]
        for text in (
            "unsafe fn f() {}",
            "/// It is.\npub(crate) unsafe trait T {}",
            "/// Does it.\npub(crate) unsafe fn f() {}",
            '/// # Safety\nfn g() {}\nunsafe extern "C" fn f() {}',
            "impl X {\n    /// Does it.\n    unsafe fn f() {}",
        ):
            self.assertEqual(self.unsafe(text), function, text)
        for text in (
            "/// Does it.\n///\n/// # Safety\n///\n/// None.\n#[inline]\nunsafe fn f() {}",
            "// SAFETY: It is.\nunsafe impl A for X {\n    unsafe fn f() {}",
        ):
            self.assertEqual(self.unsafe(text), [], text)


class FoldersTest(unittest.TestCase):
    """The drawing of the folders is held against the imports."""

    DRAWING = (
        "src -> linux pure/rule",
        "linux -> pure/rule C       how Linux is called",
        "pure/rule -> pure",
        "pure ->",
        "pure/alloc.rs -> linux/memory.rs",
        "C ->   helpers",
    )
    TREE = {
        "ctskip_main.rs": "mod linux;\npub mod pure;\nuse crate::{linux::hook, pure::rule::Rule, //\n};",
        "lib.rs": "pub mod pure;",
        "linux/mod.rs": "pub(crate) mod hook;\nmod memory;",
        "linux/hook.rs": "use crate::pure::rule::Rule;",
        "linux/memory.rs": 'include!("bindings.rs");',
        "linux/params.c": "",
        "pure/mod.rs": "pub mod alloc;\npub mod rule;",
        "pure/alloc.rs": "type Buffer = crate::linux::memory::Exact;",
        "pure/rule/mod.rs": "use crate::pure::alloc::Vec;",
    }

    def findings(self, drawing: Sequence[str] = DRAWING, **files: str) -> list[str]:
        """What is found where the tree has other files as well: pure__sort is src/pure/sort.rs."""
        tree = {
            **self.TREE,
            **{name.replace("__", "/") + ".rs": text for name, text in files.items()},
        }
        names = " ".join(f"`{name}`" for name in tree if name != "pure/unnamed.rs")
        document = "\n".join(("# Head", "```folders", *drawing, "```", names))
        return list(layers.findings(document, {Path("src", n): t for n, t in tree.items()}))

    def test_agree(self) -> None:
        """Nothing is found where each import is drawn and each arrow used."""
        self.assertEqual(self.findings(), [])
        unnamed = ["src/pure/unnamed.rs is not in the map of files"]
        self.assertEqual(self.findings(pure__unnamed=""), unnamed)

    def test_import_that_is_not_drawn(self) -> None:
        """In whatever form it is written, and not where it only looks like one."""
        arrow = "the drawing has no arrow from pure to pure/rule"
        found = [f"src/pure/sort.rs uses src/pure/rule/mod.rs: {arrow}"]
        for text in (
            "use crate::pure::rule::Rule;",
            "pub(crate) use crate::{\n    pure::{\n        alloc::Vec,\n        rule::{\n"
            "            self,\n            Rule, //\n        }, //\n    },\n};",
            "use super::rule::*;",
            "use super::{rule as laws, alloc};",
            "use crate::pure::rule;",
            "fn f() {\n    crate::pure::rule::f();\n}",
            "macro_rules! m {\n    () => { $crate::pure::rule::f() };\n}",
            "mod tests {\n    use super::super::rule::Rule;\n}",
            "fn f<'a>(c: char) {\n    c == '\"'; crate::pure::rule::f(); c == '\"'\n}",
            "use crate::pure as core;\nfn f() {\n    core::rule::f();\n}",
            "use crate::pure::{self, alloc};\nfn f() {\n    pure::rule::f();\n}",
            "pub(crate) fn f() -> crate::pure::rule::Rule {}",
            "/* crate::x /* y */ */ use crate::pure::rule::Rule;",
        ):
            self.assertEqual(self.findings(pure__sort=text), found, text)
        for text in (
            "//! See [`rule`](crate::pure::rule).",
            "/// use crate::pure::rule::Rule;",
            "/* use crate::pure::rule::Rule; /* x */ crate::pure::rule::f() */",
            'const X: &str = "crate::pure::rule::f()";',
            'const X: &str = r#""crate::pure::rule::f()"#;',
            "use kernel::pure::rule::Rule;",
            "mod tests {\n    use super::*;\n    use super::rule;\n}",
            "use self::rule::Rule;",
            "use crate::pure::alloc::rule::Rule;",
            "pub(in crate::pure::rule) fn f() {}",
        ):
            self.assertEqual(self.findings(pure__sort=text), [], text)

    def test_child_that_is_used(self) -> None:
        """A module that a file declares is used where a path begins with it, not by being declared."""
        circle = "a circle of files: src/pure/rule/mod.rs -> src/pure/rule/value.rs -> src/pure/rule/mod.rs"
        child = "use crate::pure::rule::Rule;"
        parent = "use crate::pure::alloc::Vec;\nmod value;\n"
        self.assertEqual(self.findings(pure__rule__mod=parent, pure__rule__value=child), [])
        for text in ("x.value::<u8>();", "<Self as X>::value::<u8>();"):
            text = f"{parent}fn f() {{ {text} }}"
            self.assertEqual(self.findings(pure__rule__mod=text, pure__rule__value=child), [])
        for text in (
            "pub use value::Value;",
            "pub use self::value::Value;",
            "fn f() -> value::Value {}",
        ):
            found = self.findings(pure__rule__mod=text + parent, pure__rule__value=child)
            self.assertEqual(found, [circle], text)

    def test_upward(self) -> None:
        """Only the import that is drawn for its file runs upward; the same from another file is found."""
        text = "use crate::linux::memory::Exact;"
        found = self.findings(pure__sort=text)
        self.assertEqual(
            found,
            [
                "src/pure/sort.rs uses src/linux/memory.rs: the drawing has no arrow from pure to linux"
            ],
        )
        upward = [line.replace("pure ->", "pure -> linux") for line in self.DRAWING]
        self.assertEqual(
            self.findings(upward, pure__sort=text),
            ["the arrow from pure to linux does not run downward"],
        )

    def test_arrow_that_no_import_uses(self) -> None:
        """An arrow more is found, and one that the code has left."""
        more = [line.replace("linux pure/rule", "linux pure pure/rule") for line in self.DRAWING]
        self.assertEqual(self.findings(more), ["no import uses the arrow from src to pure"])
        self.assertEqual(
            self.findings(pure__alloc=""),
            ["no import uses the arrow from pure/alloc.rs to linux/memory.rs"],
        )
        self.assertEqual(
            self.findings(linux__memory=""), ["no import uses the arrow from linux to C"]
        )

    def test_folders(self) -> None:
        """Every folder is drawn, and none that is not there."""
        self.assertEqual(self.findings(new__x=""), ["the drawing has no line for new"])
        self.assertEqual(
            self.findings([*self.DRAWING, "old ->"]), ["old is drawn, and is not there"]
        )
        found = self.findings([line for line in self.DRAWING if line != "pure ->"])
        self.assertIn("the drawing has no line for pure, which pure/rule may use", found)

    def test_part_of_a_folder(self) -> None:
        """Its files count as those of the other folder."""
        drawing = [*self.DRAWING, "pure/rule/x in pure/rule   packed"]
        files = {"pure__rule__x__y": "use crate::pure::{alloc::Vec, rule::Rule};"}
        self.assertEqual(self.findings(drawing, **files), [])
        self.assertEqual(self.findings(drawing), ["pure/rule/x is drawn, and is not there"])
        files["pure__rule__x__y"] = "use crate::linux::hook;"
        arrow = "the drawing has no arrow from pure/rule to linux"
        self.assertEqual(
            self.findings(drawing, **files),
            [f"src/pure/rule/x/y.rs uses src/linux/hook.rs: {arrow}"],
        )

    def test_circle(self) -> None:
        """Of files in one folder, too, and across folders."""
        one = "use crate::pure::two::X;"
        self.assertEqual(self.findings(pure__one=one, pure__two=""), [])
        self.assertEqual(
            self.findings(pure__one=one, pure__two="use super::one::X;"),
            ["a circle of files: src/pure/one.rs -> src/pure/two.rs -> src/pure/one.rs"],
        )

    def test_map_of_files(self) -> None:
        """Every file is named, by its name or more of its path; a file that is named is there."""
        paths = [Path("src", name) for name in (*self.TREE, "pure/new.rs", "linux/new.rs")]
        names = " ".join(f"`{path.name}`" for path in paths if path.name != "mod.rs")
        self.assertEqual(list(layers.map_findings(names, paths)), [])
        for name, found in (
            ("pure/new.rs", ["src/linux/new.rs is not in the map of files"]),
            ("src/linux/new.rs", ["src/pure/new.rs is not in the map of files"]),
            ("w.rs", ["`w.rs` is named, and is not there", *self.UNNAMED]),
            ("linux/x.c", ["`linux/x.c` is named, and is not there", *self.UNNAMED]),
            ("src/x/new.rs", ["`src/x/new.rs` is named, and is not there", *self.UNNAMED]),
            ("tests/x/new.rs", self.UNNAMED),
        ):
            document = names.replace("`new.rs`", "") + f"`{name}`"
            self.assertEqual(list(layers.map_findings(document, paths)), found, name)

    UNNAMED = [f"src/{folder}/new.rs is not in the map of files" for folder in ("linux", "pure")]

    def test_drawing(self) -> None:
        """A document has one drawing, with one line for a folder."""
        for lines, message in (
            (["src linux"], "not a line of the drawing: src linux"),
            (["src ->", "src ->"], "two lines for src"),
        ):
            self.assertEqual(self.findings(lines), [message])
        for document, count in (("", 0), ("```folders\n```\n" * 2, 2)):
            found = list(layers.findings(document, {}))
            self.assertEqual(found, [f"{count} blocks with the info string `folders`, not one"])


class LinksTest(unittest.TestCase):
    """Links that lead nowhere are found."""

    OTHER = "# The `other=` one's\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n"

    def findings(self, text: str) -> list[str]:
        """What is found in docs/one.md, beside other documents."""
        documents = {
            Path("docs/one.md"): text,
            Path("docs/other.md"): self.OTHER,
            Path("TOP.md"): "# Top\n",
        }
        there = {*documents, Path("build"), Path("docs"), Path("docs/plot.svg")}
        return list(links.findings(documents, there.__contains__))

    def test_good(self) -> None:
        """Files, headings, other sites; what is code is no link."""
        for text in (
            "# Here\n[a](other.md) [b](other.md#the-other-ones) [c](#here) [d](../TOP.md#top)",
            "![a plot](plot.svg) [folder](../docs) [two\nlines](other.md)",
            "[a](other.md#twice) [b](other.md#twice-1) [![a](plot.svg)](other.md)",
            "[a](https://example.org/x#y) [b](mailto:a@b)",
            "`[a](x.md)`\n\n    [a](x.md)\n\n```sh\n[a](x.md)\n```\n",
            "~~~\n[a](x.md)\n~~~\n",
            "`docs/plot.svg` `docs/` `a/b` `build/x` `docs/<x>`\n```\n`docs/x`\n```\n",
        ):
            self.assertEqual(self.findings(text), [], text)

    def test_bad(self) -> None:
        """The line and what is wrong."""
        for text, line, link, what in (
            ("[a](x.md)", 1, "x.md", "file"),
            ("\n\n[a](../other.md)", 3, "../other.md", "file"),
            ("![a](x.svg)", 1, "x.svg", "file"),
            ("[![a](x.svg)](other.md)", 1, "x.svg", "file"),
            ("```\n\n```\n[a](other.md#no-heading)", 4, "other.md#no-heading", "heading"),
            ("[a](other.md#twice-2)", 1, "other.md#twice-2", "heading"),
            ("[a](#there)", 1, "#there", "heading"),
            ("[a](plot.svg#x)", 1, "plot.svg#x", "heading"),
            ("`x` [a `b`](x.md)", 1, "x.md", "file"),
            ("```\n\n```\n\n`docs/x.rs`", 5, "docs/x.rs", "file"),
            ("`docs/x/`", 1, "docs/x", "file"),
        ):
            self.assertEqual(
                self.findings(text), [f"docs/one.md:{line}: {link}: no such {what}"], text
            )


class FramesTest(unittest.TestCase):
    """Large stack frames are found."""

    CODE = """
0000000000000000 <small>:
       0:\tpush   %rbx
       1:\tsub    $0x10,%rsp
       4:\tsub    $0xffffffffffffff80,%rsp
       5:\tret

0000000000000010 <core::two::paths>:
      10:\tpush   %r15
      12:\tpush   %rbx
      13:\tsub    $0x400,%rsp
      20:\tadd    $0x400,%rsp
      27:\tsub    $0x20,%rsp
      30:\tret

0000000000000040 <leaf>:
      40:\tsub    $0x401,%rbx
      47:\tret

0000000000000050 <any_length>:
      50:\tsub    %rax,%rsp
      53:\tsub    $0x8,%rsp
      57:\tret

0000000000000060 <most>:
{pushes}
      80:\tsub    $0x3d0,%rsp
      87:\tret
""".replace("{pushes}", "\n".join(["      60:\tpush   %r15"] * 12))

    def test_frames(self) -> None:
        """Of all paths the largest, with the registers that are saved."""
        sizes = dict(frames.frames(self.CODE))
        expected = {
            "small": 24,
            "core::two::paths": 1040,
            "leaf": 0,
            "any_length": None,
            "most": 1024,
        }
        self.assertEqual(sizes, expected)

    def test_findings(self) -> None:
        """Those over the limit, the largest first."""
        found = [
            "any_length: as many bytes as it finds at run time",
            "core::two::paths: 1040 bytes",
        ]
        self.assertEqual(frames.findings(self.CODE, 1024), found)
        self.assertEqual(len(frames.findings(self.CODE, 23)), 4)


class FuzzTest(unittest.TestCase):
    """What is made of libFuzzer's words."""

    def test_progress(self) -> None:
        """The last numbers of its output count."""
        text = "INFO: x\n#2\tINITED cov: 10 ft: 11\n#12345\tNEW    cov: 2910 ft: 3 L: 4/5 MS: 1\nx"
        self.assertEqual(fuzz.progress(text), "12,345 inputs, 2,910 edges")
        self.assertEqual(fuzz.progress("INFO: x\n"), "0 inputs, 0 edges")

    def test_corpus(self) -> None:
        """Of the files, those are chosen that take an edge that no other one has taken."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("find", *(40 * letter for letter in "abcd"))]
            for size, file in enumerate(files):
                file.write_bytes(bytes(size + 1))
            edges = dict(zip(files, ({1, 2}, {3, 4}, {3, 4}, {2, 3, 5, 6}, {1, 2})))
            self.assertEqual(list(fuzz.cover(edges)), [files[3], files[1]])

    def test_new_edges(self) -> None:
        """Each file's edges are found in what a merge leaves; a file without any is not."""
        control = "2\n0\n/a/one\n/b/two\nFT 0 1 2 900\nCOV 0 1 2\nSTARTED 1 1\nFT 1\nCOV 1\n"
        self.assertEqual(fuzz.new_edges(control), {"one": {1, 2}})


class GuestTest(unittest.TestCase):
    """A guest that QEMU made fail is told from one that the kernel did."""

    OOPS = "[ 9.1] Oops: int3: 0000 [#1] SMP PTI\n[ 9.1] RIP: 0010:f+0x5/0x10\n[ 9.1] Code: 0f 1f "

    def ended(self, console: str, accel: str = "tcg,thread=multi") -> run.Guest:
        """A guest of no more than its console."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        place = Path(folder.name)
        (place / "console.log").write_text(console)
        (place / "out").mkdir()
        one = run.Guest(["sh", "-c", ":", accel], place, 60, 60, "name")
        one.wait()
        one.process.stdout.close()
        return one

    def test_emulator_failed(self) -> None:
        """It ran a breakpoint where an instruction is."""
        self.assertTrue(self.ended(self.OOPS + "44 00 <eb> 0b 90\n").emulator_failed())

    def test_kernel_failed(self) -> None:
        """The breakpoint is there, or no code is shown, or no other CPU could have been patching."""
        for console, accel in (
            ("", "tcg,thread=multi"),
            (self.OOPS + "44 cc <eb> 0b 90\n", "tcg,thread=multi"),
            (self.OOPS.partition("Code")[0], "tcg,thread=multi"),
            (self.OOPS + "44 00 <eb> 0b 90\n", "tcg,thread=single"),
        ):
            self.assertFalse(self.ended(console, accel).emulator_failed(), (console, accel))

    def test_tsc_khz(self) -> None:
        """How fast an emulated guest's clock runs is the same each time."""
        first, second = run.tsc_khz(), run.tsc_khz()
        self.assertGreater(first, 100_000)
        self.assertLess(abs(first - second), first / 1000)


class SelftestsTest(unittest.TestCase):
    """The kernel's selftests: what is the same in every state, and what is not."""

    PASS = {
        "code": 0,
        "seconds": 1,
        "passed": 2,
        "skipped": 0,
        "missed": 0,
        "failed": 0,
        "fails": [],
    }
    MISSED = {**PASS, "passed": 1, "missed": 1}
    NONE = {**MISSED, "code": 2, "passed": 0, "missed": 2}
    SLOW = {**PASS, "passed": 1, "failed": 1, "fails": ["FAIL: a"]}
    FAIL = {**SLOW, "code": 1}

    def judged(self, without: list, empty: list, rules: list) -> tuple[bool, bool]:
        """Whether a test with these runs differs between the states; whether it shows nothing."""
        states = zip(selftests.STATES, (without, empty, rules), strict=True)
        results = {state: {"x": runs} for state, runs in states if runs}
        _, differ, nowhere = selftests.table(results, ["x"])
        return bool(differ), bool(nowhere)

    def test_lasting(self) -> None:
        """What a part that failed says is the same in each state, and another's is not."""
        for line, lasting in (
            ("ERROR: cannot ping ns1-aBcDeF via ipv6\n", "ERROR: cannot ping ns1 via ipv6"),
            ("FAIL: 1200 entries in 34 ms, 5ms, 6.7s", "FAIL: N entries in N ms, Nms, Ns"),
            ("FAIL: veth1, 10.3.0.99, 2001:db8::1", "FAIL: veth1, 10.3.0.99, 2001:db8::1"),
        ):
            self.assertEqual(selftests.lasting(line), lasting)

    def test_same(self) -> None:
        """Once failed is a busy host; what misses its moment in one state has not failed there."""
        one, missed, none, fail = self.PASS, self.MISSED, self.NONE, self.FAIL
        self.assertEqual(self.judged([one], [one], [one]), (False, False))
        self.assertEqual(self.judged([one], [fail, one], [one]), (False, False))
        self.assertEqual(self.judged([one], [missed, missed, one], [missed] * 3), (False, False))
        self.assertEqual(self.judged([one], [one], [none] * 3), (False, False))
        self.assertEqual(self.judged([self.SLOW], [one], [self.SLOW]), (False, False))

    def test_shows_nothing(self) -> None:
        """It fails in all states, or misses its moment in all."""
        self.assertEqual(self.judged([self.FAIL], [self.FAIL], [self.FAIL]), (False, True))
        self.assertEqual(self.judged([self.MISSED], [self.MISSED], [self.NONE]), (False, True))

    def test_differs(self) -> None:
        """It fails with the module only, or more often, or was not run, or a part of it is gone."""
        one, fail = self.PASS, self.FAIL
        self.assertTrue(self.judged([one], [one], [fail] * 3)[0])
        self.assertTrue(self.judged([one], [one], [fail, fail, one])[0])
        self.assertTrue(self.judged([one], [self.SLOW], [one])[0])
        other = {**self.SLOW, "fails": ["FAIL: b"]}
        self.assertTrue(self.judged([self.SLOW], [self.SLOW], [other])[0])
        self.assertTrue(self.judged([fail], [one], [fail])[0])
        self.assertTrue(self.judged([self.SLOW], [{**one, "passed": 1}], [self.SLOW])[0])
        self.assertTrue(self.judged([one], [one], [])[0])
        self.assertTrue(self.judged([one], [{**one, "passed": 1}], [one])[0])
        self.assertTrue(self.judged([{**one, "code": 4}], [one], [one])[0])
        self.assertTrue(self.judged([one], [self.MISSED] * 3, [self.NONE] * 3)[0])


class MutantsTest(unittest.TestCase):
    """What a mutant changes is in the source, once."""

    def test_texts(self) -> None:
        """Ask each of all areas."""
        for debug in (False, True):
            found = mutants.mutants([], debug)
            self.assertTrue(found)
            for mutant in found:
                mutant.check()

    def test_noticed(self) -> None:
        """A test that failed, a fault of the kernel's or what was left; not a guest or a name gone wrong."""
        console = "ctskip: console: a/console.log"
        for code, text in (
            (1, "=== 1 failed, 3 passed in 5.00s ==="),
            (1, "=== 3 passed, 1 error in 5.00s ==="),
            (1, "ctskip: the kernel says: BUG: "),
            (1, "ctskip: one test did not end within 600 s"),
            (9, "after the suite: ctskip cannot be unloaded"),
        ):
            self.assertTrue(mutants.noticed(code, f"{text}\n{console}"), text)
        for code, text in (
            (1, "ctskip: no end after 3600 s"),
            (1, "ctskip: the guest ended before the test did"),
            (2, "=== 1 error in 0.50s ==="),
            (4, "ERROR: file or directory not found: test_nothing.py"),
            (5, "ctskip: no test is chosen by these words"),
        ):
            self.assertFalse(mutants.noticed(code, f"{text}\n{console}"), text)

    def test_host_verdict(self) -> None:
        """A test that ran and failed; not a core that does not compile, or a name that no test has."""
        rest = "0 ignored; 0 measured; 7 filtered out; finished in 0.01s"
        for verdict, text in {
            "caught": f"test result: FAILED. 3 passed; 1 failed; {rest}\nerror: test failed",
            "SURVIVED": f"test result: ok. 4 passed; 0 failed; {rest}",
            "no such test": f"test result: ok. 0 passed; 0 failed; {rest}",
            "does not build": "error: could not compile `ctskip-pure` (lib) due to 1 previous error",
            "harness failed": "ctskip: cargo failed (101)",
        }.items():
            self.assertEqual(mutants.host_verdict(f"running tests\n{text}\n"), verdict)

    def test_names(self) -> None:
        """By areas, by names of their own; what nothing is called is no empty list that passes."""
        chosen = [one.name for one in mutants.mutants(["storm", "table-2"], debug=False)]
        self.assertEqual(chosen, ["storm-1", "storm-2", "table-2"])
        for name in ("tabel", "table-0", "debug"):
            with self.assertRaises(cache.Failed):
                mutants.mutants([name], debug=False)


if __name__ == "__main__":
    unittest.main()

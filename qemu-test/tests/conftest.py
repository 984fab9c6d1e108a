# SPDX-License-Identifier: GPL-2.0
"""Fixtures for the tests; what they give is in netlab/, whose head shows a test.

    lab       namespaces and links, gone after the test
    family    V4 and V6: the test runs once with each
    ctskip    the module, loaded, with an empty table and mode skip. With @pytest.mark.own_module:
              not loaded, the test calls ctskip.load(rules=...) itself; it is unloaded afterwards
    dmesg     the kernel's log since the test began: .lines(), .text(), .wait(regex)

On a debug kernel, where all takes many times as long, one in ONE_IN of a test's variants is run, at most
MOST, beginning with another one from test to test: so each way through the module is taken under the eyes
of its checks, and what all the variants are for is found out on the stock kernel. Where it matters which
memory is read or asked for, all are: @pytest.mark.every_variant. With --quick, one of each test is run, of
those as well, but no @pytest.mark.not_quick. Which one it is depends on the tests that were chosen: a failed
one is run again by its whole id.

CI runs all of them on the stock kernel: one that it must not run waits for an option of its own, as
test_storm.py does for --storm.

A failed test leaves NAME.log in the run's folder on the host: the traceback, the kernel's log since it
began, and the modules, rules, entries and ctskip's files as they were when it failed.
"""

import re
import subprocess
import traceback
from pathlib import Path

import netlab
import pytest

RUNNING = netlab.OUT / "running"  # for the host, should the guest not come to its end
ONE_IN, MOST = 4, 3  # on a debug kernel, one variant in so many is run, of a test at most so many
PARTS = ("rules", "counters", "tags", "netns", "stats", "mode", "last_error", "generation")


def pytest_addoption(parser):
    group = parser.getgroup("ctskip")
    group.addoption("--frames", type=int, default=20_000, help="mutated frames for test_fuzz.py")
    group.addoption("--storm", type=int, default=0, help="seconds of test_storm.py")
    group.addoption("--loads", type=int, default=1, help="one in so many of test_faults.py's loads")
    group.addoption("--quick", action="store_true", help="less of all, on a debug kernel")
    group.addoption("--seed", default="1", help="what all these draw from")


def pytest_report_header(config):
    options = (
        f"--{name}={config.getoption(name)}" for name in ("frames", "storm", "loads", "seed")
    )
    return f"test_fuzz.py, test_storm.py, test_faults.py: {' '.join(options)}"


@pytest.hookimpl(trylast=True)  # of what -k and the like leave
def pytest_collection_modifyitems(config, items):
    """On a debug kernel, leave out variants of the tests."""
    if netlab.SLOWER == 1:
        return
    quick = config.getoption("quick")
    left_out = [item for item in items if quick and item.get_closest_marker("not_quick")]
    tests = {}
    for item in items:
        if item not in left_out and (quick or not item.get_closest_marker("every_variant")):
            tests.setdefault((item.path, item.originalname), []).append(item)
    for turn, variants in enumerate(tests.values()):
        step = len(variants) if quick else max(ONE_IN, -(-len(variants) // MOST))
        run = variants[turn % min(len(variants), step) :: step]
        left_out += [item for item in variants if item not in run]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def dmesg(request):
    return request.node.kmsg


@pytest.fixture
def lab(request):
    made = netlab.Lab()
    request.node.lab = made
    yield made
    made.close()


@pytest.fixture(params=[netlab.V4, netlab.V6], ids=repr)
def family(request):
    return request.param


@pytest.fixture
def ctskip(request):
    if not netlab.MODULE.exists():
        pytest.skip("no ctskip.ko in this guest (run.py --no-module)")
    module = netlab.Ctskip()
    own = request.node.get_closest_marker("own_module")
    if own and module.loaded():
        assert module.unload() == 0
    if not own:
        if not module.loaded():
            assert module.load() == 0
        module.reset()
    yield module
    if own:
        assert not module.loaded() or module.unload() == 0
    elif module.loaded():
        module.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    RUNNING.write_text(item.nodeid)
    item.kmsg = netlab.Kmsg()
    try:
        return (yield)
    finally:
        item.kmsg.close()


def pytest_sessionfinish():
    RUNNING.unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed:
        log = netlab.OUT / (re.sub(r"[^\w.-]+", "_", item.nodeid) + ".log")
        with open(log, "a") as out:
            out.write(f"=== {item.nodeid}: {report.when} failed\n{report.longreprtext}\n")
            out.writelines(f"--- {title}\n{text}\n" for title, text in report.sections)
            for part in state(item):
                out.write(part.rstrip() + "\n")
    return report


def state(item):
    """What there is to see at the moment of a failure; never a failure of its own."""
    try:
        yield "--- kernel log since the test began\n" + item.kmsg.text()
        if netlab.Ctskip.loaded():
            for name in PARTS:
                try:
                    yield f"--- ctskip/{name}\n{netlab.Ctskip.read(name)}"
                except OSError as error:
                    yield f"--- ctskip/{name}: {error}"
        if hasattr(item, "lab"):
            yield from item.lab.report()
        yield "--- modules\n" + Path("/proc/modules").read_text()
        yield (
            "--- processes\n" + subprocess.run(["ps", "axf"], capture_output=True, text=True).stdout
        )
    except Exception:
        yield "--- could not find out more\n" + traceback.format_exc()


@pytest.fixture
def host(lab):
    """A host with a firewall that drops by default."""
    made = netlab.recipes.RecipeHost(lab)
    sysctls = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    before = {name: lab.init.sysctl(name) for name in sysctls}
    lab.init.forward()
    lab.init.nft(netlab.recipes.FIREWALL)
    lab.init.track()
    yield made
    for name, value in before.items():
        lab.init.sysctl(name, value)

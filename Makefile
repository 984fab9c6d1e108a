# SPDX-License-Identifier: GPL-2.0
#
# Thin: every target is one call of a script. How the module is built says Kbuild.
#
# A host needs make and python3 to start with; the rest is fetched where it is used first.

ifeq ($(shell command -v python3),)
$(error python3 (3.11 or newer) is needed)
endif

# The shell that sets it gives way: between make and the script, it would keep the signal that ends both.
PYTHON := PYTHONDONTWRITEBYTECODE=1 exec python3
SUITE := $(PYTHON) qemu-test/run.py
BENCH := $(PYTHON) qemu-test/bench/bench.py
LINE := $(addprefix --kernel=,$(KERNEL))

modules: ## build ctskip.ko for the running kernel, or KERNEL=7.3, or KDIR=<prepared tree>
	@$(if $(and $(KERNEL),$(KDIR)),$(error a tree is of one kernel: KERNEL or KDIR, not both))KDIR='$(KDIR)' \
		$(PYTHON) scripts/module.py $(if $(KERNEL),build $(KERNEL),running)

demo: ## see conntrack overflow in a guest, and with ctskip not
	@$(SUITE) demo $(LINE)

test: $(if $(TESTS),,host-test) ## test the pure core, then all of it in two guests (TESTS='-k dns')
	@$(SUITE) test $(LINE) $(or $(TESTS),--guests=2)
	@$(if $(TESTS),,$(SUITE) test $(LINE) --boot=ipv6.disable=1 test_without_ipv6.py)
	@$(if $(TESTS),,$(BENCH) check $(LINE))

test-debug: ## test all of it on a kernel full of checks, and that these see bugs (TESTS='-k dns', QUICK=1)
	@$(SUITE) test --kernel=$(KERNEL)-debug $(or $(TESTS),--guests=3 --seed=$$(date +%s) \
		$(if $(QUICK),--quick --storm=30 --loads=32,--storm=120))
	@$(if $(TESTS)$(QUICK),,$(PYTHON) qemu-test/mutants.py --kernel=$(KERNEL)-debug)

host-test: ## test the pure core and the scripts, without a guest
	@$(PYTHON) scripts/checks.py test

mutants: ## break the module in many ways, and see the tests fail each time (AREAS=terms)
	@$(PYTHON) qemu-test/mutants.py $(LINE) $(AREAS)

bench: ## count what ctskip and its peers cost (QUICK=1: in less than five minutes)
	@$(BENCH) $(if $(QUICK),quick,full) $(LINE)

bench-check: ## see that what a packet costs is what was recorded (RECORD=1: record it)
	@$(BENCH) $(if $(RECORD),record,check) $(LINE)

fuzz: ## feed it what nobody writes or sends (TIME=seconds, then 10^6 frames in a guest; TARGETS=, SEED=)
	@$(PYTHON) scripts/fuzz.py run $(or $(TIME),300) $(TARGETS)
	@$(if $(TARGETS),,$(SUITE) test $(LINE) test_fuzz.py --frames=1000000 \
		--seed=$(or $(SEED),$$(date +%s)))

storm: ## everything at once for TIME=seconds (600), and then all must be as it was (SEED=)
	@$(SUITE) test $(LINE) --limit=$$((8 * $(or $(TIME),600) + 3000)) test_storm.py \
		--storm=$(or $(TIME),600) --seed=$(or $(SEED),$$(date +%s))

selftests: ## the kernel's own netfilter tests, without the module and with it (TESTS='nft_nat')
	@$(PYTHON) qemu-test/selftests.py $(LINE) $(TESTS)

shell: ## a prompt in the guest, with the module in place
	@$(SUITE) shell $(LINE)

lint: ## rustfmt, clippy, checkpatch, shellcheck, ruff, codespell and the tree's own rules
	@$(PYTHON) scripts/checks.py lint $(KERNEL)

format: ## lay out the Rust and Python code as lint wants it
	@$(PYTHON) scripts/checks.py format

install: ## install the module for the running kernel, or with KDIR=<its prepared tree>
	@$(if $(KERNEL),$(error installs for the running kernel: not KERNEL, but KDIR))KDIR='$(KDIR)' \
		$(PYTHON) scripts/module.py install

clean: ## remove what was built here
	rm -rf build target

clean-cache: ## remove all that was fetched or built for the environment
	@$(PYTHON) scripts/cache.py clean

help: ## this list
	@echo "make [TARGET] [KERNEL=LINE]  (the lines are in scripts/kernels.toml; cache: CTSKIP_CACHE)"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

.PHONY: modules demo test test-debug host-test mutants bench bench-check fuzz storm selftests shell lint format install clean clean-cache help

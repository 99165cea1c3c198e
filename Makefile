# What people and CI run. `make help` lists the targets.

PREFIX ?= /usr/local
CARGO ?= cargo
BINARIES := provisioner reloader resolve-in-pod resolver scan-uids
# Those that `make demo` shows.
DEMO_BINARIES := resolve-in-pod resolver scan-uids
# The links keep manifests written for the original shell scripts working.
LINKS := scan-uids.sh:scan-uids resolve-in-pod.sh:resolve-in-pod
# What `make install` puts below PREFIX/share, and where, if it was made.
SHARED := man:man/man1 completions/bash:bash-completion/completions \
  completions/zsh:zsh/site-functions completions/fish:fish/vendor_completions.d
# How much is optimised: for people all of it (release), for tests less (dev, or in pods quick).
PROFILE ?= release
# Where cargo puts what it builds.
BUILT = target/$(PROFILE:dev=debug)
# Makes man pages and completions.
XTASK = $(BUILT)/xtask
# What `make image` builds with, and more of its options (IMAGE_OPTIONS=--platform=linux/arm64).
PODMAN ?= podman
IMAGE ?= data-owner-resolver
IMAGE_OPTIONS ?=
CARGO_AUDITABLE_VERSION := 0.7.7
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
PDU_VERSION := 0.24.0
# Programs that are built for the project alone.
TOOLS := target/tools
# Programs from PyPI that check manifests and examples, and the list of them with their hashes.
CHECKS := target/checks
LISTS := e2e/checks
# What starts the test cluster.
CLUSTER_SCRIPTS := $(addprefix e2e/cluster/,add-image application-images build build-on-layout cluster contained \
  data-image functions images leftovers possible postgres-entrypoint settings) \
  $(addprefix e2e/cluster/inside/,certificates control-plane node on-node start-node stop-node)
# Runs the tests of the cluster in a new one.
IN_CLUSTER = $(CARGO) --config 'target."cfg(all())".runner = ["$(CURDIR)/e2e/cluster/contained"]' \
  test --locked -p e2e --test cluster -- --ignored --show-output
# Tests that were skipped add a line here.
SKIPPED := $(CURDIR)/target/skipped-tests
# For each fuzz target.
FUZZ_SECONDS ?= 60

.PHONY: help build man completions demo check fmt-check clippy lint lint-manifests test unit checks test-manifests \
  test-airflow lock-checks fuzz \
  test-storage test-volumes test-directories test-cluster test-cluster-full test-applications \
  bench-scan bench-resolver bench-provisioner \
  bench-reloader install image e2e deny clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## Build the binaries into target/release, man pages and completions into target
	$(CARGO) build --locked --profile $(PROFILE) --workspace $(addprefix --bin ,$(BINARIES) xtask)
	rm -rf target/man && $(XTASK) man target/man
	rm -rf target/completions && $(XTASK) completions target/completions

man: ## Make man pages from the command lines, into target/man
	$(CARGO) build --locked --profile $(PROFILE) --workspace --bin xtask
	rm -rf target/man && $(XTASK) man target/man

completions: ## Make completions for bash, zsh and fish, into target/completions
	$(CARGO) build --locked --profile $(PROFILE) --workspace --bin xtask
	rm -rf target/completions && $(XTASK) completions target/completions

demo: ## Print who owns the directories of a small tree, without any server
	$(CARGO) build --locked --profile $(PROFILE) --workspace $(addprefix --bin ,$(DEMO_BINARIES))
	@examples/demo.sh $(BUILT)

check: fmt-check clippy ## Formatting, compiler warnings and unit tests: in under a minute, with Rust alone
	$(CARGO) test --locked --quiet --workspace --lib --bins

fmt-check: ## Say what is not formatted as rustfmt does
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check

clippy: ## Compiler and clippy warnings, which are errors here
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings

test: ## Set up what the tests need, then run all of them, those in pods where root may make some
	$(MAKE) check
	e2e/setup.sh
	e2e/setup.sh manifests
	$(MAKE) lint
	$(MAKE) lint-manifests
	$(MAKE) unit
	@if [ "$(CI)" = true ] || e2e/pods/possible; then $(MAKE) e2e PROFILE=quick; fi

lint: fmt-check clippy ## Warnings about formatting, code, its documentation and scripts (needs shellcheck)
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --quiet \
	  --document-private-items
	shellcheck --external-sources .ci/run e2e/setup.sh e2e/checks/advisories e2e/pods/contained e2e/pods/debian \
	  e2e/pods/possible e2e/applications/[a-z]* multicall/image-root $(CLUSTER_SCRIPTS) examples/*.sh \
	  examples/checks/[a-z]* provisioner/testdata/*/*.sh

lint-manifests: $(CHECKS)/ready ## Warnings about the YAML of manifests, examples and CI (installs PyPI's yamllint)
	$(CHECKS)/bin/yamllint --strict --config-file $(LISTS)/yamllint.yaml k8s examples .github .gitlab-ci.yml

unit: $(CHECKS)/ready ## Unit, binary and server tests (needs what `make test` sets up)
	$(CARGO) build --locked --workspace
	@rm -f "$(SKIPPED)"
	SKIPPED_TESTS="$(SKIPPED)" $(CARGO) test --locked --workspace --no-fail-fast; code=$$?; \
	  if [ -s "$(SKIPPED)" ]; then \
	    echo "$$(sort -u "$(SKIPPED)" | wc -l) tests were skipped, or parts of them:"; sort -u "$(SKIPPED)"; \
	  fi; exit $$code

checks: $(CHECKS)/ready ## Install the programs that check manifests, by their hashes, below target

$(CHECKS)/ready: $(LISTS)/uv.txt $(LISTS)/tools.txt
	python3 -m venv --clear $(CHECKS)
	$(CHECKS)/bin/python -m pip install --quiet --require-hashes -r $(LISTS)/uv.txt
	$(CHECKS)/bin/uv pip install --quiet --python $(CHECKS)/bin/python \
	  --require-hashes -r $(LISTS)/tools.txt
	touch $@

test-manifests: $(CHECKS)/ready ## Test manifests, examples and documents alone
	e2e/setup.sh manifests
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked -p e2e --test manifests

test-airflow: $(CHECKS)/ready ## Test the DAG with Airflow itself (300 MB)
	python3 -m venv --clear target/airflow
	$(CHECKS)/bin/uv pip install --quiet --python target/airflow/bin/python \
	  --require-hashes -r $(LISTS)/airflow.txt
	$(CARGO) test --locked -p e2e --test manifests airflow -- --ignored

lock-checks: $(CHECKS)/ready ## Take the newest versions of the programs that check
	cd $(LISTS) && for list in uv tools airflow; do \
	  ../../$(CHECKS)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	    --generate-hashes --no-header $$list.in --output-file $$list.txt || exit 1; \
	done

fuzz: ## Feed what reads foreign bytes with more of them, on nightly Rust (FUZZ_SECONDS=60 each)
	@$(CARGO) +nightly --version >/dev/null 2>&1 || \
	  { echo "a nightly toolchain is needed: rustup toolchain install nightly" >&2; exit 1; }
	@command -v cargo-fuzz >/dev/null || test -x $(TOOLS)/bin/cargo-fuzz || \
	  $(CARGO) install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --root $(TOOLS)
	@PATH="$$PWD/$(TOOLS)/bin:$$PATH"; for target in $$($(CARGO) fuzz list); do \
	  $(CARGO) +nightly fuzz run "$$target" -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -malloc_limit_mb=64 || exit 1; \
	done

test-storage: ## Test scan-uids on file systems of all kinds, as root (some minutes, 2 GB of memory)
	e2e/setup.sh storage
	$(CARGO) build --locked --release -p scan-uids
	$(CARGO) test --locked --release -p scan-uids --test storage -- \
	  --ignored --test-threads=1 --show-output

test-volumes: ## Test provisioner with much of everything, as root (minutes, 6 GB of memory)
	e2e/setup.sh volumes
	$(CARGO) build --locked --release -p provisioner
	$(CARGO) test --locked --release -p provisioner --test it -- volumes:: \
	  --ignored --test-threads=1 --show-output

test-directories: ## Test resolver with slapd, 389 Directory Server and Samba AD, as root (minutes)
	e2e/setup.sh directories
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked -p resolver --test directories -- --ignored --show-output

test-applications: ## Test the programs with OPA, Keycloak and nginx, as root (minutes)
	e2e/setup.sh applications
	@$(MAKE) --no-print-directory $(CHECKS)/ready
	$(CARGO) build --locked --workspace
	opa=$$(e2e/cluster/build opa) && keycloak=$$(e2e/applications/keycloak) && \
	  PATH="$$opa:$$PATH" $(CARGO) test --locked -p provisioner --test it check::examples::opa -- --ignored && \
	  OPA="$$opa/opa" KEYCLOAK="$$keycloak" \
	  $(CARGO) --config 'target."cfg(all())".runner = ["$(CURDIR)/e2e/applications/contained"]' \
	  test --locked -p e2e --test applications -- --ignored --test-threads=6 --show-output

e2e: ## Build the image and test it and all programs in pods, as root (PROFILE=quick spares minutes)
	e2e/setup.sh pods
	e2e/pods/debian target/pods/debian.tar
	command -v cargo-auditable >/dev/null || test -x $(TOOLS)/bin/cargo-auditable || \
	  $(CARGO) install cargo-auditable --version $(CARGO_AUDITABLE_VERSION) --locked --root $(TOOLS)
	$(CARGO) fetch --locked
	PODS_PROFILE=$(PROFILE) \
	  $(CARGO) --config 'target."cfg(all())".runner = ["$(CURDIR)/e2e/pods/contained"]' \
	  test --locked -p e2e --test pods -- --ignored --test-threads=2 --show-output

test-cluster: ## Test on a Kubernetes of two nodes, as root (minutes; a quarter of an hour to build it once)
	e2e/setup.sh cluster
	e2e/cluster/possible
	e2e/cluster/build >/dev/null
	e2e/cluster/images
	e2e/cluster/application-images
	e2e/cluster/leftovers
	$(IN_CLUSTER) --test-threads=4 --skip full::

test-cluster-full: test-cluster ## The same, and the tests that take longer
	$(IN_CLUSTER) --test-threads=1 full::

bench-scan: ## Compare scan-uids with other walkers (settings: scan-uids/benches/scan/main.rs)
	@e2e/setup.sh bench-scan >&2
	@test -x $(TOOLS)/bin/pdu || \
	  $(CARGO) install parallel-disk-usage --version $(PDU_VERSION) --locked --root $(TOOLS)
	@PATH="$$PWD/$(TOOLS)/bin:$$PATH" $(CARGO) bench --locked --quiet -p scan-uids --bench scan

bench-resolver: ## Compare resolver with other ways (settings: resolver/benches/resolve/main.rs)
	@e2e/setup.sh bench-resolver >&2
	@$(CARGO) bench --locked --quiet -p resolver --bench resolve

bench-provisioner: ## Compare provisioner with cp and rsync (settings: provisioner/benches/publish/main.rs)
	@e2e/setup.sh bench-provisioner >&2
	@$(CARGO) bench --locked --quiet -p provisioner --bench publish

bench-reloader: ## Compare reloader with loops around inotify (settings: reloader/benches/reload/main.rs)
	@e2e/setup.sh bench-reloader >&2
	@$(CARGO) bench --locked --quiet -p reloader --bench reload

install: ## Install what `make build` made, with the old scripts' names as links, below PREFIX
	@test -x target/release/resolver || { echo "run 'make build' first" >&2; exit 1; }
	install -d "$(DESTDIR)$(PREFIX)/bin"
	cd target/release && install -m 755 $(BINARIES) "$(DESTDIR)$(PREFIX)/bin"
	for link in $(LINKS); do \
	  ln -sf "$${link#*:}" "$(DESTDIR)$(PREFIX)/bin/$${link%:*}" || exit 1; \
	done
	for pair in $(SHARED); do \
	  if [ -d "target/$${pair%%:*}" ]; then \
	    install -d "$(DESTDIR)$(PREFIX)/share/$${pair#*:}" && \
	    install -m 644 "target/$${pair%%:*}"/* "$(DESTDIR)$(PREFIX)/share/$${pair#*:}" || exit 1; \
	  fi; \
	done

image: ## Build the container image with podman; the same commit gives the same image
	$(PODMAN) build --timestamp "$$(git log -1 --format=%ct)" \
	  --build-arg CARGO_AUDITABLE_VERSION=$(CARGO_AUDITABLE_VERSION) \
	  --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)" \
	  --build-arg REVISION="$$(git describe --always --dirty --abbrev=40)" \
	  --tag $(IMAGE) $(IMAGE_OPTIONS) .

deny: ## Check licences, sources and known vulnerabilities of all dependencies
	command -v cargo-deny >/dev/null || test -x $(TOOLS)/bin/cargo-deny || \
	  $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(TOOLS)
	PATH="$$PWD/$(TOOLS)/bin:$$PATH" $(CARGO) deny --locked check licenses bans sources
	PATH="$$PWD/$(TOOLS)/bin:$$PATH" CARGO="$(CARGO)" e2e/checks/advisories

clean: ## Remove everything that was built
	$(CARGO) clean

# Every target works on a fresh machine that has a Rust toolchain and Debian's package sources.

CARGO ?= cargo
# Debian's packages by the program that shows that they are there.
PEERS := docker-registry:docker-registry containerd:containerd runc:runc skopeo:skopeo htpasswd:apache2-utils pzstd:zstd \
         openssl:openssl ip:iproute2 mkfs.ext4:e2fsprogs mksquashfs:squashfs-tools curl:curl busybox:busybox-static podman:podman faketime:faketime \
         zsh:zsh fish:fish man:man-db promtool:prometheus /usr/lib/cni/bridge:containernetworking-plugins
# The programs of the tests' Kubernetes cluster, listed in tests-interop/tools/tools.tsv.
CLUSTER_TOOLS := etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl containerd containerd-shim-runc-v2
CLUSTER_DIR ?= $(or $(LANDFALL_CACHE),$(HOME)/.cache/landfall)/cluster

# Programs of other projects, and readers of our files, built once by `go`, listed in tests-interop/tools/tools.tsv.
TOOLS := conformance registry crane regctl oras olareg cosign ctr containerd-1.7 containerd-2.0 containerd registries-yaml \
         http-headers k3s-images

# Finds dependencies that are declared and not used. Installed once, outside of the tree.
MACHETE_VERSION := 0.9.2
MACHETE_DIR := $(or $(LANDFALL_CACHE),$(HOME)/.cache/landfall)/tools/cargo-machete-$(MACHETE_VERSION)
MACHETE := $(MACHETE_DIR)/bin/cargo-machete

.PHONY: help test fuzz mutants lint peers testbed cluster-up cluster-down manifests bench bench-bundle bench-copy bench-webhook bench-registry demo docs

help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/'

test: peers lint testbed ## Formatting, clippy, layers, dead dependencies, generated files; unit, property, doc, binary and interop tests
	$(CARGO) test --quiet --workspace --exclude landfall-tests-interop --locked
	$(CARGO) build --quiet --release --locked --package landfall --bin landfall
	$(CARGO) test --quiet --package landfall-tests-interop --locked -- --test-threads=1

lint: $(MACHETE) ## Formatting, clippy, layers, dead dependencies, generated files
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --quiet --workspace --all-targets --locked -- -D warnings
	$(CARGO) xtask check-layers
	$(CARGO) xtask gen --check
	$(MACHETE) --with-metadata crates xtask tests-interop bench

$(MACHETE):
	$(CARGO) install --quiet cargo-machete --version $(MACHETE_VERSION) --locked --root $(MACHETE_DIR)

# What `make fuzz` runs, and for how many seconds each.
TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
SECONDS_EACH ?= 60

fuzz: ## libFuzzer on the registry's parsers; needs nightly and cargo-fuzz, see fuzz/README.md
	@cd fuzz && for target in $(TARGETS); do \
	  mkdir -p corpus/$$target && \
	  $(CARGO) +nightly fuzz run $$target corpus/$$target seeds/$$target -- -max_total_time=$(SECONDS_EACH) || exit 1; \
	done

# Changes the code in small ways and runs tests of the changed package: a survivor shows a rule without a test. The test
# programs below reach all changed modules. The others of these packages take longer and find no further survivor.
MUTANTS_VERSION := 27.1.0
MUTANTS_DIR := $(or $(LANDFALL_CACHE),$(HOME)/.cache/landfall)/tools/cargo-mutants-$(MUTANTS_VERSION)
MUTANTS_PACKAGES := core oci registry
MUTANTS_TESTS_core := admission config_examples config_settings config_slips hostconf resolve stage_slips
MUTANTS_TESTS_oci := copy copy_decisions copy_outcomes copy_platforms copy_referrers copy_union copy_verification
# The tests beside the code are enough.
MUTANTS_TESTS_registry :=

mutants: $(addprefix mutants-,$(MUTANTS_PACKAGES)) ## Mutation tests of decisions, store, copies and collection; hours (ARGS='--shard 0/20')

# A part: `make mutants-core ARGS='--re resolve.rs'`. The lists of survivors are in target/mutants-PACKAGE/mutants.out.
mutants-%: $(MUTANTS_DIR)/bin/cargo-mutants
	@mkdir -p target/mutants-$*
	$(MUTANTS_DIR)/bin/cargo-mutants mutants --package landfall-$* --output target/mutants-$* $(ARGS) \
	  -- --lib $(addprefix --test ,$(MUTANTS_TESTS_$*))

$(MUTANTS_DIR)/bin/cargo-mutants:
	$(CARGO) install --quiet cargo-mutants --version $(MUTANTS_VERSION) --locked --root $(MUTANTS_DIR)

peers: ## Installs the real programs that the interop tests run, where they are missing
	@missing=$$(for peer in $(PEERS); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v "$${peer%%:*}" >/dev/null || echo "$${peer##*:}"; \
	  done); \
	if [ -n "$$missing" ]; then \
	  echo "installing from Debian's packages:" $$missing; \
	  sudo=$$([ "$$(id -u)" -eq 0 ] || echo sudo); \
	  $$sudo apt-get -qq update && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends --yes $$missing >/dev/null; \
	fi
	@tests-interop/tools/tools.sh $(TOOLS) >/dev/null

testbed: peers ## Builds the Kubernetes of the cluster tests once, in ~/.cache/landfall
	@tests-interop/tools/tools.sh $(CLUSTER_TOOLS) >/dev/null

cluster-up: testbed ## Starts a Kubernetes of one node on loopback for manual use, and prints how to use it
	@$(CARGO) build --quiet --locked --package landfall-tests-interop --bin landfall-test-cluster
	@target/debug/landfall-test-cluster up $(CLUSTER_DIR)
	@echo "export PATH=$$(dirname $$(tests-interop/tools/tools.sh kubectl)):\$$PATH"

cluster-down: ## Stops that Kubernetes and removes its resources
	@$(CARGO) build --quiet --locked --package landfall-tests-interop --bin landfall-test-cluster
	@target/debug/landfall-test-cluster down $(CLUSTER_DIR)

manifests: ## Renders the chart's plain manifests anew, for those without Helm
	@$$(tests-interop/tools/tools.sh helm) template landfall charts/landfall --namespace landfall --kube-version 1.33.0 \
	  --values charts/landfall/ci/example-values.yaml >packaging/kubernetes/landfall.yaml

bench: ## Speed and memory against their limits
	$(CARGO) build --quiet --profile dist --locked --bin landfall
	$(CARGO) run --quiet --profile dist --locked --package landfall-bench -- core

bench-copy: peers ## Copies side by side with skopeo, crane, regctl and regsync
	$(CARGO) build --quiet --profile dist --locked --bin landfall
	$(CARGO) run --quiet --profile dist --locked --package landfall-bench -- copy $(ARGS)

bench-bundle: peers ## Bundles beside crane, skopeo and regctl with tar and zstd
	$(CARGO) build --quiet --profile dist --locked --bin landfall
	$(CARGO) run --quiet --profile dist --locked --package landfall-bench -- bundle $(ARGS)

bench-webhook: ## The admission webhook under load: latency, rate, memory, cold start; and the credential provider
	$(CARGO) build --quiet --profile dist --locked --bin landfall
	@status=0; for bench in credential webhook; do \
	  $(CARGO) run --quiet --profile dist --locked --package landfall-bench -- $$bench || status=1; \
	done; exit $$status

bench-registry: peers ## Registries side by side: docker-registry, registry 3, olareg and ours
	$(CARGO) build --quiet --profile dist --locked --bin landfall
	$(CARGO) run --quiet --profile dist --locked --package landfall-bench -- registry $(ARGS)

demo: ## The whole path on this machine, with nothing installed
	$(CARGO) run --release --locked -- demo

docs: ## Writes the generated reference anew
	$(CARGO) xtask gen

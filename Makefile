# Everything runs on the Node 24 that the lock file pins (node_modules/.bin/node); the node and npm of the machine only install it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
NODE := $(CURDIR)/node_modules/.bin/node

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# npm writes this file last, so it is as old as the last complete install.
node_modules/.package-lock.json: package.json package-lock.json
	@command -v npm >/dev/null || { echo 'Install Node.js (any version from 20 on) with npm: https://nodejs.org, or apt-get install nodejs npm' >&2; exit 1; }
	npm ci --no-audit --no-fund
	@touch $@
	@"$(NODE)" -e 'if (Number(process.versions.node.split(".")[0]) < 24) process.exit(1)' || \
	  { echo 'node_modules/.bin/node is not Node 24: npm must be allowed to run the install script of the package "node"' >&2; exit 1; }

.PHONY: deps
deps: node_modules/.package-lock.json

.PHONY: tools
tools: ## Get the Kubernetes tools into the cache (the first time takes minutes)
	@hack/tools.sh >/dev/null

.PHONY: machine-tools
machine-tools: deps tools ## Get what the tests on machines need (the first time takes long); without root they are skipped
	@{ "$(NODE)" hack/images/artifacts.ts && hack/tools.sh registry && "$(NODE)" hack/images/add-ons.ts; } >/dev/null || echo 'machine-tools: not all of it could be had, see above: tests that need a machine are skipped or fail with the reason' >&2

.PHONY: demo
demo: deps tools ## Run a cluster, an EC2 and the hub in the foreground; Ctrl-C ends all of it
	@exec "$(NODE)" hack/demo.ts $(DEMO_FLAGS)

.PHONY: test
test: deps tools machine-tools ## Type check, lint, import rules, unit and end-to-end tests; the last line counts them
	@exec "$(NODE)" hack/test.ts

.PHONY: e2e-machine
e2e-machine: deps tools machine-tools ## Run the tests on real machines with systemd and kubeadm only (root, systemd-nspawn)
	@exec "$(NODE)" hack/test.ts machine

.PHONY: attacks
attacks: deps tools machine-tools ## Run the tests of the list of attacks with long counts
	@exec "$(NODE)" hack/test.ts attacks

.PHONY: soak
soak: deps tools ## Mixed load through a tunnel for MINUTES (10): memory, descriptors, event loop lag, no failed request
	@FAIRLEAD_SOAK_MINUTES=$(or $(MINUTES),10) "$(NODE)" node_modules/vitest/vitest.mjs run --project e2e e2e/sockets/agents.test.ts -t 'R52:'

.PHONY: bench-nodes
bench-nodes: deps tools ## Measure the hub against the API server it runs behind
	@exec "$(NODE)" bench/nodes.ts

.PHONY: bench-sockets
bench-sockets: deps tools ## Measure kubectl's way through hub and tunnel against the child itself
	@exec "$(NODE)" bench/sockets.ts $(ROWS)

.PHONY: bench-lifecycle
bench-lifecycle: deps tools machine-tools ## Measure making a cluster on a machine against bare kubeadm (root, systemd-nspawn)
	@exec "$(NODE)" bench/lifecycle.ts $(ROWS)

.PHONY: package
package: deps tools ## Build the agent as one executable, and as .deb and .rpm, in dist/
	@"$(NODE)" hack/build.ts --only agent --sea && "$(NODE)" hack/package.ts

.PHONY: build
build: deps ## Bundle hub, agent and plugins into dist/
	@"$(NODE)" hack/build.ts

.PHONY: lint
lint: deps ## Type check, lint and import rules only
	@exec "$(NODE)" hack/test.ts types lint imports

.PHONY: format
format: deps ## Format the sources and fix what the linter can fix
	@"$(NODE)" node_modules/@biomejs/biome/bin/biome check --write

.PHONY: clean
clean: ## Remove what was built here (not the tools in the cache)
	rm -rf dist certs node_modules

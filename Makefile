# Every target works on a fresh machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BQEMULATOR := .venv-bqemulator/.installed
SIMULATOR := sgtm/node_modules/acorn/package.json
RULE_ENGINES := .venv-bench/.installed
FUNCTIONS := stitch_sync stitch_async decide audit_sink

.DEFAULT_GOAL := help
.PHONY: help up demo test check check-middleware check-sgtm check-browser check-infra test-emulators bqemulator
.PHONY: bench bench-engines bench-identity soak schemas package deploy teardown lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

up: $(INSTALLED) $(if $(shell command -v npm),$(SIMULATOR)) ## Start the local stack on http://127.0.0.1:8080 (Ctrl-C stops it)
	@$(BIN)/tagstitch up

demo: $(INSTALLED) ## Run the main job end to end on a local stack of its own
	@$(BIN)/tagstitch demo

test: $(VENV)/.dev $(if $(shell command -v gcloud),$(BQEMULATOR)) ## Run the whole test suite
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

test-emulators: $(VENV)/.dev $(BQEMULATOR) ## Run only the tests on the Google emulators
	$(BIN)/python -m pytest -n auto --dist loadgroup -m emulators $(PYTEST_ARGS)

check: $(VENV)/.dev ## Formatter, linter, type checker, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-middleware: ## Types and tests of examples/middleware (needs Node 20 and npm)
	cd examples/middleware && npm ci && npm test

check-sgtm: ## Types, linter and template tests of sgtm (needs Node 20 and npm)
	cd sgtm && npm ci && npm run check && npm run lint && npm run test:templates

check-browser: $(VENV)/.dev ## The sample page in a headless Chromium (needs Node 20, npm and Chromium)
	$(BIN)/python -m pytest -n 0 tests/browser $(PYTEST_ARGS)

check-infra: $(VENV)/.dev ## Terraform offline: format, types, plans and their policies (needs Terraform and npm)
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/infra $(PYTEST_ARGS)

bqemulator: $(BQEMULATOR) ## Install the BigQuery emulator in a virtual environment of its own

bench: $(VENV)/.dev $(RULE_ENGINES) $(if $(shell command -v gcloud),$(BQEMULATOR)) ## Run the benchmarks, write bench/RESULTS.md
	$(BIN)/python -m bench

bench-engines: $(VENV)/.dev $(RULE_ENGINES) ## Compare with other rule engines, write that section anew
	$(BIN)/python -m bench.rule_engines

bench-identity: $(VENV)/.dev ## Stitch 400,000 edges against a union-find, write that section anew
	$(BIN)/python -m bench.identity_graph --write

soak: $(VENV)/.dev $(if $(shell command -v gcloud),$(BQEMULATOR)) ## Mixed requests under random faults, and what must hold afterwards (SOAK_ARGS='--seed 7')
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

schemas: $(VENV)/.dev ## Write the generated JSON Schemas and openapi.yaml anew
	$(BIN)/python -m schemas.generate

package: ## Stage the four functions in build/<function>/, ready to deploy
	$(PYTHON) infra/package.py build $(FUNCTIONS) $(if $(OTEL),--otel)

# The secrets of a deployment are made once: afterwards only Secret Manager has them.
deploy: ## Create or change the deployment that infra/terraform.tfvars describes (needs Terraform 1.11)
	@test -f infra/terraform.tfvars || { echo "Copy infra/terraform.tfvars.example to infra/terraform.tfvars and change it"; exit 1; }
	cd infra && terraform init -input=false
	@cd infra && { terraform state list 2>/dev/null | grep -q google_secret_manager_secret_version \
	  || $(PYTHON) secrets_file.py $(if $(CALLBACK_URL),--callback-url $(CALLBACK_URL)); }
	cd infra && terraform apply $(TERRAFORM_ARGS)

teardown: ## Delete the deployment, after saying what goes
	$(PYTHON) infra/teardown.py

lock: ## Resolve the pinned requirements anew
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	for name in requirements requirements-local requirements-dev requirements-bqemulator \
    requirements-bench requirements-otel; do \
	  build/lock/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	    --no-header $$name.in -o $$name.txt; done
	sed -i '1i -r requirements.txt' requirements-local.txt
	sed -i '1i -r requirements.txt\n-r requirements-local.txt' requirements-dev.txt

clean: ## Remove what the targets made, the local data folder included
	rm -rf build examples/middleware/node_modules sgtm/node_modules $(VENV) .venv-bqemulator .venv-bench .tagstitch

# The project itself is installed last, without its dependencies: those are pinned by hash.
$(INSTALLED): requirements.txt requirements-local.txt pyproject.toml
	@echo "Installing into $(VENV) (about a minute the first time)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-local.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(INSTALLED) requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# The stack runs without it too, and says so.
$(SIMULATOR): sgtm/package-lock.json
	@echo "Installing the simulated container's two packages into sgtm"
	@cd sgtm && npm ci --omit=dev --no-audit --no-fund --silent && touch node_modules/acorn/package.json \
	  || echo "npm could not install them"

$(BQEMULATOR): requirements-bqemulator.txt $(INSTALLED)
	@echo "Installing the BigQuery emulator into .venv-bqemulator"
	@$(BIN)/python -m tagstitch.local_stack.emulators
	@touch $@

# The other engines stay out of $(VENV); the project's own code is run from here.
$(RULE_ENGINES): requirements-bench.txt
	@echo "Installing the other rule engines into .venv-bench"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@

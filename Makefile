# pg_idempotent. `make help` lists what there is; the work is done by the small programs in tools/.
PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE = 1
export PYTHONUNBUFFERED = 1
PYTEST = $(PYTHON) tools/in_venv.py test -m pytest tests

.PHONY: help demo test test-cassert soak fuzz faults simulate all install package packages release-check start stop cluster cluster-stop checkout checkout-picture board-picture lint bench bench-sweep bench-scale bench-wal bench-tables bench-profile bench-consumer bench-page bench-all env clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo 'make demo       a private Postgres, the extension in it, and the demos'
	@echo 'make test       every test on Postgres 15 to 18   (a part: ONLY="regress isolation" MAJORS=17)'
	@echo 'make test-cassert  the suites on a Postgres 17 built with assertions (once, 5 minutes)'
	@echo 'make soak       random clients and faults, and the proof that no promise was broken (MINUTES=30; NODES=3: slots that move)'
	@echo 'make simulate   a model of fifty nodes, a million keys a second, for a day (docs/scale.md; ARGS=--help)'
	@echo 'make faults     puts faults into a copy of the source, and shows that a test notices each (ONLY="no-lock")'
	@echo 'make fuzz       random requests, names and statements, and sqlsmith (MINUTES=20)'
	@echo 'make install    into your own Postgres            (PG_CONFIG=/path/to/pg_config)'
	@echo 'make package    a tarball of the files to install (PG_CONFIG=/path/to/pg_config); make all only builds them'
	@echo 'make packages   Debian packages, tarballs and the source for PGXN, into target/packages (MAJORS="17 18")'
	@echo 'make release-check  whether a version can be released (docs/releasing.md)'
	@echo 'make start      a private server to play with; make stop stops it and deletes its data'
	@echo 'make cluster    four nodes and a proxy to play with; make cluster-stop stops and deletes them'
	@echo 'make checkout   a shop in your browser: press Pay five times, lose the answer, kill the server   (PORT=8025)'
	@echo 'make board-picture  the board of monitoring/ with the figures of a minute and a half, as docs/board.svg'
	@echo 'make bench      how much a call costs; bench-sweep, bench-scale, bench-profile: of a sweep, of a large table, by instructions;'
	@echo '                bench-wal: what claims write after a checkpoint; bench-tables: settings of the tables, by pages;'
	@echo '                bench-consumer: a batch of messages against INSERT ... ON CONFLICT;'
	@echo '                bench-page: puts the figures into the pages; bench-all: measures all that the pages show, on an idle machine'
	@echo '                (bench fetches a Redis to measure next to; or name one: REDIS_SERVER=/path/to/redis-server)'
	@echo 'make lint       rustfmt, clippy on every major, pgspot and cargo-deny'
	@echo 'make env        settings for cargo pgrx by hand: eval "$$(make -s env)"'
	@echo 'make clean      deletes target/ and this checkout'\''s private servers'
	@echo 'VERBOSE=1 shows the whole output of builds, and all of each demo.'

demo: python
	@$(PYTHON) tools/demos.py

test: python
	@ONLY="$(ONLY)" MAJORS="$(MAJORS)" $(PYTEST) $(ARGS)

# A hundred times as slow where every cache is emptied at every chance, and more on a machine that has other work.
test-cassert: python
	@ASSERTING=1 SUITE_TIMEOUT="$(or $(SUITE_TIMEOUT),5400)" ONLY="$(ONLY)" PG_SOURCE="$(PG_SOURCE)" $(PYTEST) $(ARGS)

soak: python
	@MINUTES="$(or $(MINUTES),30)" NODES="$(NODES)" ARGS="$(ARGS)" ONLY=history MAJORS=17 $(PYTEST)

faults: python
	@ONLY="$(ONLY)" $(PYTHON) tools/faults.py

simulate:
	@cargo run --release --locked --quiet -p simulate -- $(ARGS)

fuzz: python
	@MINUTES="$(or $(MINUTES),20)" SEED="$(SEED)" ONLY="domain/fuzz fuzz" MAJORS=17 $(PYTEST)

# What clients of PGXN call before `make install`.
all: python
	@$(PYTHON) tools/package.py all "$(PG_CONFIG)"

install: python
	@$(PYTHON) tools/package.py install "$(PG_CONFIG)" "$(DESTDIR)"

package: python
	@$(PYTHON) tools/package.py package "$(PG_CONFIG)"

packages: python
	@$(PYTHON) tools/pack.py $(MAJORS)

release-check: python
	@$(PYTHON) tools/release.py

start: python
	@$(PYTHON) tools/play.py start

stop: python
	@$(PYTHON) tools/play.py stop

cluster: python
	@$(PYTHON) tools/cluster.py start

cluster-stop: python
	@$(PYTHON) tools/cluster.py stop

checkout: python
	@PORT="$(PORT)" $(PYTHON) tools/shop.py open

checkout-picture: python
	@$(PYTHON) tools/shop.py picture

board-picture: python
	@$(PYTHON) tools/board.py

bench: python
	@PYTHONPATH=tools $(PYTHON) bench/bench.py

bench-sweep: python
	@PYTHONPATH=tools $(PYTHON) bench/bench.py sweep.py

bench-scale: python
	@PYTHONPATH=tools $(PYTHON) bench/bench.py scale.py

bench-wal: python
	@PYTHONPATH=tools $(PYTHON) bench/bench.py wal.py

bench-tables: python
	@PYTHONPATH=tools $(PYTHON) bench/tables.py

bench-profile: python
	@PYTHONPATH=tools $(PYTHON) bench/instructions.py

bench-consumer: python
	@PYTHONPATH=tools $(PYTHON) bench/bench.py consumer.py

# The tables of README.md and docs/performance.md, and the picture, from what the others have written.
bench-page: python
	@$(PYTHON) bench/figures.py

# What the pages show. The sweeper's ends with an error where it misses its target, and has written its figures then.
bench-all: bench bench-profile bench-wal
	-@$(MAKE) --no-print-directory bench-sweep
	@$(MAKE) --no-print-directory bench-page

lint: python
	@$(PYTHON) tools/in_venv.py lint tools/lint.py

env: python
	@$(PYTHON) tools/pgrx.py

clean: python
	@$(PYTHON) tools/play.py clean

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { echo 'error: $(PYTHON) is missing. Install it with:' >&2; \
	  echo '    apt-get install python3 python3-pip' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { \
	  echo 'error: Python 3.9 or newer is needed: make PYTHON=/path/to/python3' >&2; exit 1; }

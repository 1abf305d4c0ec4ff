"""What a transaction of bench/client costs the backend that serves it, in instructions: also what Postgres does for any statement.

The whole server runs under callgrind. What the kernel does for a round trip is not in it.
"""

import re
import subprocess
import time

from common import ROOT, Failure, say
from server import server_user

SCRIPTS = ROOT / "bench" / "client"
# Script, and its rivals.
PAIRS = {"replay": ("select", "constant"), "run": ("hand_run", "handler"), "block": ("hand_block",)}
# Transactions of a short run and of a long one: what is told is the difference.
FEW, MORE = 200, 600
DEFINED = {"finished": 2_000, "request": '{"customer": "Ada", "amount": 25.00}', "response": '{"payment": 1, "state": "paid"}'}


def start(server, out):
    command = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={out}/%p",
               str(server.prefix / "bin" / "postgres"), "-D", str(server.data), "-c", "autovacuum=off", "-c", "idempotent.sweeper_enabled=off",
               "-c", "log_disconnections=on"]
    with open(str(server.log), "a") as log:
        process = subprocess.Popen(command, cwd=str(server.base), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **server_user())
    for _ in range(240):
        if server.psql("SELECT 1")[0] == 0:
            return process
        if process.poll() is not None:
            break
        time.sleep(0.5)
    raise Failure(f"no server under callgrind:\n{server.log.read_text(errors='replace')[-2000:]}")


def backends(server, since):
    """Numbers of the processes that have served a pgbench, and ended, since a place in the log."""
    with open(str(server.log), errors="replace") as log:
        log.seek(since)
        return re.findall(r"\[(\d+)\] pgbench LOG:  disconnection", log.read())


def counted(path):
    """Instructions in a file of callgrind's; 0 while it is not complete."""
    total = re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.M) if path.exists() else None
    return int(total.group(1)) if total else 0


def instructions(server, out, script, transactions):
    since = server.log.stat().st_size
    command = [str(server.prefix / "bin" / "pgbench"), "-n", "-M", "prepared", "-c", "1", "-t", str(transactions),
               *(part for name, value in DEFINED.items() for part in ("-D", f"{name}={value}")), "-f", str(SCRIPTS / f"{script}.sql")]
    done = subprocess.run(command, env={**server.env(), "PGAPPNAME": "pgbench"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0 or f"actually processed: {transactions}/{transactions}" not in done.stdout:
        raise Failure(f"pgbench failed on {script}:\n{done.stdout}")
    # A backend ends, and writes its counts, a moment after its client has gone; pgbench has another one at its beginning.
    for _ in range(240):
        counts = [counted(out / pid) for pid in backends(server, since)]
        if len(counts) == 2 and all(counts):
            return max(counts)
        time.sleep(0.5)
    raise Failure(f"callgrind has written nothing of {script}")


def report(server):
    """A table; the server must be loaded and shut down, and is so afterwards."""
    out = server.base / "clients"
    subprocess.run(["mkdir", str(out)], check=True, **server_user())
    process = start(server, out)
    try:
        per = {script: (instructions(server, out, script, MORE) - instructions(server, out, script, FEW)) / (MORE - FEW)
               for ours, rivals in PAIRS.items() for script in (ours, *rivals)}
    finally:
        server.shut_down()
        process.wait()
    say("\nFrom a client, prepared: instructions of the backend per transaction\n\n| script | instructions | of its rival | ratio |\n|---|---:|---:|---:|")
    for ours, rivals in PAIRS.items():
        for rival in rivals:
            say(f"| {ours}, against {rival} | {per[ours]:,.0f} | {per[rival]:,.0f} | {per[rival] / per[ours]:.2f} |")

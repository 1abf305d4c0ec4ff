"""What a transaction of bench/client costs the backend that serves it, in instructions: also what Postgres does for any statement.

The whole server runs under callgrind. What the kernel does for a round trip is not in it. Callgrind's processor has no instructions
for SHA-256, which a real one does in next to no time: so the digests are counted apart, ours and with all of OpenSSL the rival's.
"""

import contextlib
import re
import subprocess
import time

from client_calls import CALLS, PAIRS, script
from common import ROOT, Failure
from server import server_user

SCRIPTS = ROOT / "bench" / "client"
# Those with a call in FROM, which are also counted without the scan node.
IN_FROM = ("replay", "run", "block")
WITHOUT_NODE = {"PGOPTIONS": "-c idempotent.scan_node=off"}
DIGEST = re.compile(r"^\s*([\d,]+) \(.*(?:sha256|libcrypto)", re.M)
# Transactions of a short run and of a long one: what is told is the difference.
FEW, MORE = 100, 300
DEFINED = {"finished": 2_000, "request": '{"customer": "Ada", "amount": 25.00}', "response": '{"payment": 1, "state": "paid"}'}


@contextlib.contextmanager
def under_callgrind(server):
    """The directory into which callgrind writes of each process of the server, which must be loaded and shut down, and is so afterwards."""
    out = server.base / "clients"
    subprocess.run(["mkdir", str(out)], check=True, **server_user())
    process = start(server, out)
    try:
        yield out
    finally:
        server.shut_down()
        process.wait()


def start(server, out):
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}/%p", str(server.prefix / "bin" / "postgres"), "-D", str(server.data), "-c", "autovacuum=off",
                "-c", "idempotent.sweeper_enabled=off", "-c", "log_disconnections=on"]
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


def digests(path):
    """Those of them that make digests; the lines of the source, which repeat them, are not asked for."""
    listing = subprocess.run(["callgrind_annotate", "--auto=no", "--threshold=100", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                             universal_newlines=True).stdout
    return sum(int(count.replace(",", "")) for count in DIGEST.findall(listing))


def profile(server, out, call, transactions, environment):
    """Callgrind's file of the backend that has served so many transactions."""
    since = server.log.stat().st_size
    command = [str(server.prefix / "bin" / "pgbench"), "-n", "-M", "prepared", "-c", "1", "-t", str(transactions),
               *(part for name, value in DEFINED.items() for part in ("-D", f"{name}={value}")), "-f", str(SCRIPTS / script(call))]
    done = subprocess.run(command, env={**server.env(), "PGAPPNAME": "pgbench", **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    if done.returncode != 0 or f"actually processed: {transactions}/{transactions}" not in done.stdout:
        raise Failure(f"pgbench failed on {call}:\n{done.stdout}")
    # A backend ends, and writes its counts, a moment after its client has gone; pgbench has another one at its beginning.
    for _ in range(240):
        counts = {out / pid: counted(out / pid) for pid in backends(server, since)}
        if len(counts) == 2 and all(counts.values()):
            return max(counts, key=counts.get)
        time.sleep(0.5)
    raise Failure(f"callgrind has written nothing of {call}")


def per_transaction(server, out, call, environment=None, counts=(counted,)):
    """What lies between a short run and a long one, by the transaction: of all instructions, or by each of `counts`."""
    more, few = (profile(server, out, call, transactions, environment or {}) for transactions in (MORE, FEW))
    return tuple((count(more) - count(few)) / (MORE - FEW) for count in counts)


def measure(server):
    """{"calls": {call: instructions and digests}, "function_scan": the same without the scan node}"""
    with under_callgrind(server) as out:
        def both(call, environment):
            instructions, of_digests = per_transaction(server, out, call, environment, (counted, digests))
            # Below 0 by what the start of a backend takes in OpenSSL, now and then.
            return {"instructions": instructions, "digests": max(of_digests, 0)}
        return {"calls": {call: both(call, {}) for call in CALLS}, "function_scan": {call: both(call, WITHOUT_NODE) for call in IN_FROM}}


def ratios(server):
    """{(ours, rival): the rival's instructions by ours}"""
    with under_callgrind(server) as out:
        per = {call: per_transaction(server, out, call)[0] for call in CALLS}
    return {(ours, rival): per[rival] / per[ours] for ours, rival in PAIRS}

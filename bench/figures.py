"""`make bench-page`: puts what the benchmarks have written (bench/*.json) into README.md, docs/performance.md and docs/speed.svg.

A page has a place for each table, between two comments: `<!-- measured: NAME -->` and `<!-- end -->`. What has not been measured here
stays as it is.
"""

import json
import re
import statistics

import picture
from client_calls import NAMES, PAIRS
from measure import HERE, figure, goal, table

ROOT = HERE.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
PICTURE = ROOT / "docs" / "speed.svg"
PLACE = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.S)
LOOPS = {"claim_complete": "claim + complete", "run": "run", "retry": "claim of a finished key", "replay": "replay"}


def read(name):
    """What a benchmark has written; none if it has not run here."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def rows(name):
    """{(what, against): (result, target)} of a table of `make bench`."""
    measured = read("results")["tables"][name]["rows"]
    return {(row["what"], row["against"]): (row["result"], row["target"]) for row in measured}


def measured(name):
    """A table of `make bench` as it was printed."""
    found = read("results")
    if found is None:
        return None
    one = found["tables"][name]
    return table(one["title"], [(row["what"], row["against"], row["result"], row["target"]) for row in one["rows"]])


def lines(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(names, *kinds):
    return [lines(*names), "|" + "|".join(kinds) + "|"]


def thousands(count):
    return f"{count / 1000:.1f}"


ANEW = "**Quick rounds (`QUICK=1`), which spread more.**"


def when(facts):
    return f"{facts['date']}. {ANEW}" if facts["quick"] else facts["date"]


def machine():
    found = read("results")
    if found is None:
        return None
    facts = found["machine"]
    quick = f" {ANEW}" if facts["quick"] else ""
    return (f"Measured {facts['date']} on Postgres {facts['server_version']} (shared_buffers {facts['shared_buffers']}, fsync {facts['fsync']}), "
            f"{facts['processors']} processors, {facts['system']}.{quick}\n")


def ratio(result):
    return f"**{result['ratio']:.2f}** ({result['lowest']:.2f} to {result['highest']:.2f})"


def calls():
    """The same calls by processor time, by instructions and by transactions a second."""
    if read("results") is None or read("profile") is None:
        return None
    processor, clients, counts = rows("processor"), rows("clients_unlogged"), read("profile")["calls"]
    text = head(("what", "against", "processor time, µs", "ratio", "target", "instructions, thousands", "ratio", "target", "four clients, a second",
                 "ratio", "target"), "---", "---", *["---:"] * 9)
    for (ours, rival), (_, counted, _) in PAIRS.items():
        pair = NAMES[ours], NAMES[rival]
        (time, time_target), (rate, rate_target) = processor[pair], clients[pair]
        a, b = (counts[call]["instructions"] - counts[call]["digests"] for call in (ours, rival))
        text.append(lines(*pair, f"{time['ours']:.1f} : {time['rival']:.1f}", ratio(time), goal(time["ratio"], time_target),
                          f"{thousands(a)} : {thousands(b)}", f"**{b / a:.2f}**", goal(b / a, counted),
                          f"{rate['ours']:,.0f} : {rate['rival']:,.0f}", ratio(rate), goal(rate["ratio"], rate_target)))
    return "\n".join(text) + "\n"


def instructions():
    """What `make bench-profile` has counted of clients, with the digests and without."""
    found = read("profile")
    if found is None:
        return None
    text = head(("what", "against", "instructions", "of SHA-256", "rival", "of SHA-256", "ratio", "without SHA-256", "target"), "---", "---", *["---:"] * 7)
    for (ours, rival), (_, target, _) in PAIRS.items():
        a, b = found["calls"][ours], found["calls"][rival]
        without = (b["instructions"] - b["digests"]) / (a["instructions"] - a["digests"])
        text.append(lines(NAMES[ours], NAMES[rival], *(f"{side[what]:,.0f}" for side in (a, b) for what in ("instructions", "digests")),
                          f"{b['instructions'] / a['instructions']:.2f}", f"**{without:.2f}**", goal(without, target)))
    return "\n".join(text) + "\n"


def loops():
    found = read("profile")
    if found is None:
        return None
    counted = [found["loops"][loop] for loop in LOOPS]
    text = head(("instructions, with all that is called", *LOOPS.values()), "---", *["---:"] * len(LOOPS))
    for what in counted[0]["parts"]:
        text.append(lines(what, *(f"{loop['parts'][what]:,.0f}" if loop["parts"][what] > 100 else "" for loop in counted)))
    text.append(lines("the same by the rival, PL/pgSQL",
                      *(f"{loop['rival']:,.0f} ({loop['rival'] / loop['parts']['the whole loop']:.2f} times)" for loop in counted)))
    return "\n".join(text) + "\n"


def in_from():
    found = read("profile")
    if found is None:
        return None
    text = head(("what", "function scan (`idempotent.scan_node = off`)", "node", "saved"), "---", *["---:"] * 3)
    for call, scanned in found["function_scan"].items():
        before, after = scanned["instructions"], found["calls"][call]["instructions"]
        text.append(lines(NAMES[call], f"{before:,.0f}", f"{after:,.0f}", f"{100 * (1 - after / before):.0f} %"))
    return "\n".join(text) + "\n"


def wal():
    """Right after a checkpoint."""
    found = read("wal")
    if found is None:
        return None
    dated, random = (found["median"][side] for side in ("dated", "random"))
    text = [f"{found['claims']:,} logged claims with an answer and nothing else, right after a checkpoint, in a table of {found['millions']:g} million records and "
            f"{found['megabytes']} MB, {found['megabytes'] / found['shared_megabytes']:.0f} times shared_buffers; medians of {found['rounds']} rounds by turns, "
            f"per claim, {when(found['machine'])}\n",
            *head(("what", "keys that are UUIDv7", "other keys", "ratio", "target"), "---", *["---:"] * 4)]
    for what, name, target in (("wal", "bytes of WAL", 0.2), ("images", "images of whole pages in it", None), ("read", "pages of the index read", None),
                               ("processor", "microseconds of processor time", None), ("rate", "claims a second, one client", None)):
        share = dated[what] / random[what] if random[what] else 0
        missed = "" if target is None else f"{target}" if round(share, 2) <= target else f"{target} (missed)"
        text.append(lines(name, f"{dated[what]:,.2f}", f"{random[what]:,.2f}", f"{share:.2f}", missed))
    return "\n".join(text) + "\n"


def scale():
    """A large table beside a small one."""
    found = read("scale")
    if found is None:
        return None
    return table(f"Transactions per second, medians of {found['rounds']} rounds, {when(found['machine'])}",
                 [(f"run at {found['large']} million live records", f"at {found['small']} million", found["result"], 0.8)])


def sweep():
    """Beside a sweeper that has much to do."""
    found = read("sweep")
    if found is None:
        return None
    ratios, targets = [off / on for off, on in zip(found["without"], found["beside"])], found["targets"]
    late = " (missed)" if found["seconds"] > targets["seconds"] else ""
    return "\n".join([
        f"{found['expired']:,} expired and {found['live']:,} live records; medians of {len(ratios)} rounds, {when(found['machine'])}\n",
        *head(("what", "figure", "target"), "---", "---:", "---:"),
        lines("processor time of a claim and its completion without the sweeper, µs", f"{statistics.median(found['without']):.1f}", ""),
        lines("beside it", f"{statistics.median(found['beside']):.1f}", ""),
        lines(f"ratio, median of the rounds' ({min(ratios):.2f} to {max(ratios):.2f})", f"**{found['ratio']:.2f}**", goal(found["ratio"], targets["ratio"])),
        lines("seconds until the backlog was gone, beside the claims", f"{found['seconds']:.0f}", f"{targets['seconds']:.0f}{late}"),
        lines("rows a second swept by hand", f"{found['swept_by_hand']:,.0f}", ""),
        lines("rows a second inserted by INSERT ... SELECT", f"{found['inserted']:,.0f}", "")]) + "\n"


def readme():
    """What a person asks first."""
    if read("results") is None:
        return None
    network, processor, server = rows("network"), rows("processor"), rows("in_server")
    wanted = [(network, "run", "hand-run", ", over a network"), (network, "run", "redis-first", ", over a network"),
              (network, "replay", "redis-replay", ", over a network"), (processor, "run", "hand-run", ", processor time"),
              (processor, "run", "handler", ", without idempotency; processor time"), (processor, "replay", "select", ", processor time")]
    text = head(("call", "compared with", "ratio"), "---", "---", "---:")
    text += [lines(NAMES[ours], NAMES[rival] + where, f"{found[NAMES[ours], NAMES[rival]][0]['ratio']:.2f}") for found, ours, rival, where in wanted]
    text += ["", ANEW] if read("results")["machine"]["quick"] else []
    return "\n".join(text) + "\n"


PLACES = {"machine": machine, "calls": calls, "logged": lambda: measured("clients_logged"), "network": lambda: measured("network"),
          "redis": lambda: measured("redis"), "in_server": lambda: measured("in_server"), "contention": lambda: measured("contention"),
          "disk": lambda: measured("disk"), "loops": loops, "in_from": in_from, "wal": wal,
          "scale": scale, "sweep": sweep, "readme": readme}


def fill(found):
    text = PLACES[found.group(2)]()
    return found.group() if text is None else f"{found.group(1)}{text}{found.group(3)}"


def main():
    for page in PAGES:
        page.write_text(PLACE.sub(fill, page.read_text()))
        print(f"{page.relative_to(ROOT)} has the tables of bench/*.json")
    if read("results") is not None:
        PICTURE.write_text(picture.draw(read("results")["tables"]["network"]))
        print(f"{PICTURE.relative_to(ROOT)} is drawn")


if __name__ == "__main__":
    main()

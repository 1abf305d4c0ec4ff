"""Several nodes and a proxy before them, each a server of its own: Debian's Postgres and its PL/Proxy, unpacked into a throw-away root.

`cluster.py start` and `cluster.py stop` are `make cluster` and `make cluster-stop`; the suite `scale` makes one of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

from build import check_rust
from common import EXTENSION, ROOT, Failure, checkout_dir, run_main, say, step
from postgres import main_prefix
from roots import DEBIANS_OWN, Root
from server import PRELOADED, Server, free_port, make_base

SLOTS = 16384
NODES = 4
NAME = "nodes"  # of the server that lists the nodes for PL/Proxy
PLPROXY = f"postgresql-{DEBIANS_OWN}-plproxy"
SCRIPT = ROOT / "packaging" / "plproxy.sql"


def shares(count):
    """The slots of each of so many nodes, as an int4multirange."""
    return [f"{{[{n * SLOTS // count},{(n + 1) * SLOTS // count})}}" for n in range(count)]


def at(*servers):
    """Where PL/Proxy finds a node: the one of these servers that takes writes."""
    return (f"host={','.join(str(server.base) for server in servers)} port={','.join(str(server.port) for server in servers)} "
            "dbname=postgres connect_timeout=5 target_session_attrs=read-write")


def proxy_script(node, *options):
    """What a proxy needs, as a node writes it."""
    done = subprocess.run([str(node.prefix / "bin" / "psql"), "-XAqt", "-v", f"cluster={NAME}", *options, "-f", str(SCRIPT)], env=node.env(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"{SCRIPT.name} failed:\n{done.stderr}")
    return done.stdout


class Cluster:
    """`with Cluster(root) as cluster:`. Each server can be reached through its socket alone, and all is done as the user postgres."""

    def __init__(self, root, count=NODES, logs=None):
        self.root, self.count, self.logs = root, count, logs
        self.nodes, self.others, self.proxy, self.pristine = [], [], None, None

    def __enter__(self):
        try:
            self.pristine = self.server(None).create()
            for _ in range(self.count):
                self.add()
            for node, share in zip(self.nodes, shares(self.count)):
                node.must(f"SELECT idempotent_own('{share}')")
            self.proxy = self.started(self.server("proxy"))
            self.put_proxy_before()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception):
        self.stop()

    def stop(self):
        for server in self.servers():
            server.stop()

    def servers(self):
        return [*self.nodes, *self.others, *filter(None, (self.proxy, self.pristine))]

    def server(self, name, settings=None):
        log = self.logs / f"scale-{name}.log" if self.logs and name else None
        return Server(self.root.prefix, settings, keep_log=log, libraries=self.root.loader)

    def started(self, server):
        server.create(like=self.pristine.data)
        server.launch()
        return server

    def add(self):
        """One more node, that answers for nothing."""
        node = self.server(f"node-{len(self.nodes)}", PRELOADED)
        self.nodes.append(node)
        self.started(node).must(f"CREATE EXTENSION {EXTENSION}; SELECT idempotent_own('{{}}')")
        return node

    def put_proxy_before(self):
        places = ", ".join(f"p{number} '{at(node)}'" for number, node in enumerate(self.nodes))
        self.proxy.must(f"CREATE EXTENSION plproxy;"
                        f"CREATE SERVER {NAME} FOREIGN DATA WRAPPER plproxy OPTIONS (modular_mapping '1', {places});"
                        f"CREATE USER MAPPING FOR PUBLIC SERVER {NAME} OPTIONS (user 'postgres')")
        self.proxy.must(proxy_script(self.nodes[0]))
        self.proxy.must("SELECT FROM idempotent.read_routes()")

    def place(self, number, *servers):
        """Tells the proxy on which servers a node is to be found."""
        known = self.proxy.must(f"SELECT 1 FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE option_name = 'p{number}'")
        self.proxy.must(f"ALTER SERVER {NAME} OPTIONS ({'SET' if known else 'ADD'} p{number} '{at(*servers)}')")

    def standby_of(self, number):
        """A synchronous one, that the proxy goes on with once it is promoted."""
        node, standby = self.nodes[number], self.server("standby")
        standby.base, standby.port = make_base(), free_port()
        self.others.append(standby)
        standby.run("pg_basebackup", "-h", node.base, "-p", node.port, "-U", "postgres", "-D", standby.data, "-R", "-c", "fast", "--no-sync")
        with open(standby.data / "postgresql.conf", "a") as conf:
            conf.write(f"port = {standby.port}\nunix_socket_directories = '{standby.base}'\n")
        standby.launch()
        node.must("ALTER SYSTEM SET synchronous_standby_names = '*'")
        node.must("SELECT pg_reload_conf()")
        self.place(number, node, standby)
        return standby


# What there is to play with.
PLAY = """CREATE TABLE payment (id bigint GENERATED ALWAYS AS IDENTITY, customer text, amount numeric);
CREATE FUNCTION pay(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
  INSERT INTO payment (customer, amount) VALUES (request->>'customer', (request->>'amount')::numeric) RETURNING to_jsonb(payment)
$$;"""
TRY = """    SELECT outcome, response FROM idempotent_run('pay', 'order-1', '{"customer": "ann", "amount": 10}', 'pay', scope => 'ann');
    SELECT node, own, records FROM idempotent.health;
    SELECT * FROM idempotent.route;"""


def state_file():
    return checkout_dir() / "cluster.json"


def left():
    """The servers that `make cluster` has left, and the root that they run from."""
    kept = json.loads(state_file().read_text())
    root = Root(DEBIANS_OWN, also=(PLPROXY,))
    root.path, root.loader = Path(kept["root"]), kept["loader"]
    servers = []
    for base, port in kept["servers"]:
        server = Server(root.prefix, libraries=root.loader)
        server.base, server.port = Path(base), port
        servers.append(server)
    return servers, root


def tell(servers):
    *nodes, proxy = servers
    psql = main_prefix(DEBIANS_OWN) / "bin" / "psql"
    say("The proxy:")
    say(f"    {psql} -h {proxy.base} -p {proxy.port} -U postgres")
    for number, node in enumerate(nodes):
        say(f"Node {number}:\n    {psql} -h {node.base} -p {node.port} -U postgres")
    say(f"\nTry, at the proxy:\n\n{TRY}\n\nmake cluster-stop ends all of it and deletes its data.")


def start():
    check_rust()
    if state_file().exists():
        servers, _ = left()
        if all(server.base.is_dir() and server.psql("SELECT 1")[0] == 0 for server in servers):
            tell(servers)
            return
        stop()
    root = Root(DEBIANS_OWN, also=(PLPROXY,)).__enter__()
    try:
        root.lay_extension()
        with step(f"starting {NODES} nodes and a proxy"):
            cluster = Cluster(root).__enter__()
    except BaseException:
        root.__exit__()
        raise
    cluster.pristine.stop()
    servers = [*cluster.nodes, cluster.proxy]
    state_file().write_text(json.dumps({"root": str(root.path), "loader": root.loader, "servers": [[str(server.base), server.port] for server in servers]}))
    for node in cluster.nodes:
        node.must(PLAY)
    cluster.proxy.must("SELECT FROM idempotent_operation('pay', durability => 'logged')")
    tell(servers)


def stop():
    if not state_file().exists():
        say("no cluster is running")
        return
    servers, root = left()
    for server in servers:
        server.stop()
    root.__exit__()
    state_file().unlink()
    say("stopped, and its data deleted")


if __name__ == "__main__":
    run_main({"start": start, "stop": stop}[sys.argv[1]])

"""Moving slots from one node to another, as docs/scale.md tells, and a node that is killed meanwhile."""

from storm import connected

READY = "CREATE TABLE arrived (at bigint GENERATED ALWAYS AS IDENTITY, line jsonb);"
# After which steps of a move a node can be killed, and which.
ACCIDENTS = {"given up": "source", "half imported": "target", "imported": "source", "taken": "target"}


def crash(node):
    node.shut_down("immediate")
    node.launch()


def own(connection, change):
    """Changes what a node answers for: `change` is an expression over `own`."""
    connection.execute(f"SELECT idempotent_own({change}) FROM (SELECT own FROM idempotent.health) AS h")


def pour(source, target, query, table):
    """Copies what a query finds here into a table there."""
    with source.cursor().copy(f"COPY ({query}) TO STDOUT") as out, target.cursor().copy(f"COPY {table} FROM STDIN") as into:
        for data in out:
            into.write(data)


class Move:
    """Of slots, from a node to another. It can be begun again from any point, which is what it does after an accident."""

    def __init__(self, source, target, slots, accident=None):
        self.nodes = {"source": source, "target": target}
        self.slots, self.accident = slots, accident
        self.answers = {}

    def run(self):
        while not self.tried():
            pass

    def tried(self):
        """Whether it has come to its end."""
        with connected(self.nodes["source"]) as source, connected(self.nodes["target"]) as target:
            for step in (self.give_up, self.copy, self.first_half, self.rest, self.take):
                step(source, target)
                if self.accident == self.done:
                    self.accident = None
                    crash(self.nodes[ACCIDENTS[self.done]])
                    return False
            source.execute("DELETE FROM effect WHERE slot <@ %s::int4multirange", (self.slots,))
        return True

    def give_up(self, source, target):
        own(source, f"own - '{self.slots}'")
        self.done = "given up"

    def copy(self, source, target):
        target.execute("TRUNCATE arrived")
        pour(source, target, f"SELECT idempotent_export('{self.slots}')", "arrived (line)")
        # An effect has an id of its own: one that came before an accident is known by it.
        with target.transaction():
            target.execute("CREATE TEMPORARY TABLE come (LIKE effect) ON COMMIT DROP")
            pour(source, target, f"SELECT * FROM effect WHERE slot <@ '{self.slots}'::int4multirange", "come")
            target.execute("INSERT INTO effect SELECT * FROM come ON CONFLICT (id) DO NOTHING")
        self.done = "copied"

    def load(self, target, condition):
        found = target.execute("SELECT idempotent_import(line), count(*) FROM (SELECT line FROM arrived"
                               f" WHERE at {condition} (SELECT (min(at) + max(at)) / 2 FROM arrived) ORDER BY at) AS a GROUP BY 1").fetchall()
        for answer, count in found:
            self.answers[answer] = self.answers.get(answer, 0) + count

    def first_half(self, source, target):
        self.load(target, "<=")
        self.done = "half imported"

    def rest(self, source, target):
        self.load(target, ">")
        self.done = "imported"

    def take(self, source, target):
        own(target, f"own + '{self.slots}'")
        self.done = "taken"

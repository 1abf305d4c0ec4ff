"""From one major of Postgres to another, with the extension in both."""

from calls import call_everything, replay_everything
from common import MAIN_MAJOR
from copies import settings, worked_in
from harness import REFUSED, UPDATE, Cluster, Session, current_prefix, older_prefix, same, wait_until
from server import free_port
from update import check_refused, claim, expire, is_swept, new_key

# to: from
FROM = {"17": "15", "18": "17"}


def upgrade(old, new):
    """Both are stopped; run as their user, as pg_upgrade wants it."""
    new.run("pg_upgrade", "-b", old.prefix / "bin", "-B", new.prefix / "bin", "-d", old.data, "-D", new.data, "-U", "postgres",
            "-s", new.base, "-p", free_port(), "-P", free_port(), "--no-sync")


def keys_survive_pg_upgrade(major):
    with current_prefix(FROM[major]) as older, current_prefix(major) as newer:
        upgrade_a_worked_in_database(older, newer, major, lambda server, database: None)


def keys_survive_pg_upgrade_beside_an_update(major):
    """The new cluster has the current library, the database still the older schema."""
    def update(server, database):
        with Session(server, database) as session:
            check_refused(session, "SELECT idempotent_replay('charge', 'k')", UPDATE)
        server.update(database)

    with older_prefix(FROM[major]) as older, current_prefix(major) as newer:
        upgrade_a_worked_in_database(older, newer, major, update)


def upgrade_a_worked_in_database(older, newer, major, update):
    old, new = Cluster(older, FROM[major], f"from-{FROM[major]}"), Cluster(newer, major, f"to-{major}")
    try:
        # Since 18 initdb switches checksums on; both must agree.
        old.create("--data-checksums")
        old.launch()
        database, keys, fence = worked_in(old)
        before = settings(old, database)
        old.shut_down()
        new.create("--data-checksums")
        upgrade(old, new)
        new.launch()
        update(new, database)
        check_upgraded(new, database, keys, fence)
        same("settings", before, settings(new, database))
        same("resets", "t|t", new.value("SELECT version = schema_version, last_reset IS NULL FROM idempotent.health", database))
        same("the server log", [], new.complaints(but=(REFUSED, "could not sweep")))
        new.crash()
        same("a dated key, after a crash", "unknown", claim(new, database, keys["charge"]))
        same("one in the logged table", "replay", claim(new, database, keys["safe"], "safe"))
    finally:
        new.stop()
        old.stop()


def check_upgraded(server, database, keys, fence):
    replay_everything(server, database, "before")
    for operation, key in keys.items():
        same(f"a dated key of {operation}", "replay", claim(server, database, key, operation))
        never_used = server.value("SELECT idempotent_new_key(now() - interval '1 hour')", database)
        same(f"a dated key of {operation} without a record", "claimed", claim(server, database, never_used, operation))
        same(f"a new key of {operation}", "claimed", claim(server, database, new_key(server, database), operation))
    same("a lease", "in_progress", claim(server, database, "leased"))
    same("its holder", "t", server.value("SELECT idempotent_complete('charge', 'leased', '{}', fence => " + f"{fence}) = '{{}}'", database))
    granted = int(server.value("SELECT fence FROM idempotent_claim('charge', 'next', lease => '1 hour')", database))
    same(f"fence {granted} is higher than {fence}", True, granted > fence)
    expire(server, database, "brief")
    wait_until("the worker has deleted an expired record", lambda: is_swept(server, database, "brief"))
    with Session(server, database) as session:
        call_everything(session, "upgraded")


def tests(major):
    """Of the main major alone there is an older library."""
    return (keys_survive_pg_upgrade, *([keys_survive_pg_upgrade_beside_an_update] if FROM[major] == MAIN_MAJOR else []))

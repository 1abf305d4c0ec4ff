"""Calls of the functions that there are in every version, with what they answer: before an update, and after it."""

from harness import same

# {k} begins every key, so that the calls can be made again and again in one database; {id} is ATTEMPT.
CALLS = (
    ("SELECT (idempotent_operation('tried', retention => '2 days')).retention;", "2 days"),
    ("BEGIN; SELECT outcome FROM idempotent_claim('tried', '{k}-done', '{{\"n\": 1}}');"
     "SELECT idempotent_complete('tried', '{k}-done', '{{\"a\": 1}}', status => 201); COMMIT;", "claimed\n{{\"a\": 1}}"),
    ("SELECT outcome, status, response FROM idempotent_claim('tried', '{k}-done', '{{\"n\": 1.0}}');", "replay|201|{{\"a\": 1}}"),
    ("SELECT outcome FROM idempotent_claim('tried', '{k}-done', '{{\"n\": 2}}');", "mismatch"),
    ("BEGIN; SELECT outcome FROM idempotent_claim('tried', '{k}-failed');"
     "SELECT idempotent_fail('tried', '{k}-failed', '{{\"no\": 1}}'); COMMIT;", "claimed\n{{\"no\": 1}}"),
    ("BEGIN; SELECT outcome FROM idempotent_claim('tried', '{k}-free');"
     "SELECT idempotent_release('tried', '{k}-free'); COMMIT;", "claimed\nt"),
    ("SELECT outcome FROM idempotent_replay('tried', '{k}-free');", "absent"),
    ("SELECT outcome, fence FROM idempotent_claim('tried', '{k}-leased', lease => '1 minute', attempt_id => '{id}') \\gset\n"
     "SELECT :'outcome';", "claimed"),
    ("SELECT idempotent_extend('tried', '{k}-leased', '1 hour', fence => :fence) > now() + interval '59 minutes';", "t"),
    ("SELECT idempotent_checkpoint('tried', '{k}-leased', '{{\"at\": 1}}', fence => :fence);", ""),
    ("SELECT outcome FROM idempotent_replay('tried', '{k}-leased');", "in_progress"),
    ("SELECT outcome, checkpoint, fence = :fence FROM idempotent_claim('tried', '{k}-leased', attempt_id => '{id}');",
     "claimed|{{\"at\": 1}}|t"),
    ("SELECT idempotent_complete('tried', '{k}-leased', '{{\"a\": 2}}', fence => :fence);", "{{\"a\": 2}}"),
    ("SELECT outcome, fence > :fence FROM idempotent_claim('tried', '{k}-lease-2', lease => '1 hour');", "claimed|t"),
    ("SELECT outcome FROM idempotent_run('tried', '{k}-run', '{{}}', 'work(jsonb)');", "executed"),
    ("SELECT outcome, response FROM idempotent_run('tried', '{k}-run', '{{}}', 'work(jsonb)');", "replay|{{\"done\": true}}"),
    ("SELECT idempotent_explain('tried', '{k}-run')->>'outcome';", "replay"),
    ("SELECT outcome FROM idempotent_seal('tried', '{k}-sealed');", "sealed"),
    ("SELECT (idempotent_operation('lapsing', durability => 'logged', on_lapse => 'unknown')).durability;", "logged"),
    ("SELECT outcome FROM idempotent_claim('lapsing', '{k}', lease => '1 microsecond');", "claimed"),
    ("SELECT outcome FROM idempotent_replay('lapsing', '{k}');", "unknown"),
    ("SELECT outcome FROM (SELECT idempotent_resolve('lapsing', '{k}', 'completed', '{{\"a\": 3}}')) AS r,"
     " idempotent_replay('lapsing', '{k}');", "replay"),
    ("SELECT idempotent_forget('lapsing', '{k}');", "t"),
    ("SELECT idempotent_sweep(1) >= 0;", "t"),
    ("SELECT length(idempotent_new_key()), idempotent_new_key('2025-01-01') < idempotent_new_key('2025-01-02');", "36|t"),
    ("SELECT idempotent_request_key('{{\"n\": 1}}') = idempotent_request_key('{{\"n\": 1.0}}');", "t"),
    ("SELECT idempotent_derive_key('card', 'order-7', 'network');", "de6b4a95-127f-8cb0-ac38-3d653d6bd4ac"),
    ("SELECT idempotent_slot('order-7') BETWEEN 0 AND 16383, idempotent_shard('order-7', 1);", "t|0"),
    ("SELECT idempotent_first('tried', '{k}-m'), idempotent_first('tried', '{k}-m');", "t|f"),
    ("SELECT idempotent_advance('tried', '{k}-p', 7), idempotent_advance('tried', '{k}-p', 7);", "t|f"),
    ("SELECT acquired, fence > 0 FROM idempotent_lock('{k}', 'key', '1 minute');", "t|t"),
    ("BEGIN; CREATE ROLE caller; SELECT idempotent_grant('caller');"
     "SELECT has_function_privilege('caller', 'idempotent_replay(text, text, text)', 'EXECUTE');"
     "SELECT idempotent_revoke('caller');"
     "SELECT has_function_privilege('caller', 'idempotent_replay(text, text, text)', 'EXECUTE'); ROLLBACK;", "t\n\nf"),
)

ATTEMPT = "01234567-89ab-4cde-8f01-23456789abcd"


def call_everything(session, name):
    """Every answer as expected: no error, no warning."""
    for sql, answer in CALLS:
        session.expect(sql.format(k=name, id=ATTEMPT), answer.format())


def replay_everything(server, database, name):
    """What `call_everything` has stored is still there."""
    for key, answer in (("done", "replay|{\"a\": 1}"), ("failed", "replay|{\"no\": 1}"), ("leased", "replay|{\"a\": 2}"),
                        ("run", "replay|{\"done\": true}"), ("lease-2", "in_progress|"), ("sealed", "sealed|")):
        sql = f"SELECT outcome, response FROM idempotent_replay('tried', '{name}-{key}')"
        same(sql, answer, server.value(sql, database))
    same("settings", "2 days", server.value("SELECT retention FROM idempotent.operation WHERE name = 'tried'", database))

"""Faults in the outbox and in sagas."""

from fault import fault

STORM = "client/outbox::every_message_arrives_once_and_in_order_whoever_dies"
KILLED = "client/saga::a_server_that_is_killed_at_any_point_of_a_saga_does_nothing_twice"
CALLERS = "client/saga::callers_that_are_killed_and_meet_do_nothing_twice"

FAULTS = [
    fault("outbox-put-takes-no-lock", "Messages of a key come in the order of the commits, not of the puts",
          ("idempotent_outbox_put", "        PERFORM idempotent.outbox_lock(topic COLLATE \"C\", key COLLATE \"C\");\n", "        NULL;\n"),
          f"isolation/outbox {STORM}"),
    fault("outbox-order-of-a-key-ignored", "Nothing is taken that comes after what another relay has",
          [("idempotent_outbox_take", "SELECT e.lease_until IS NULL OR e.lease_until OPERATOR(pg_catalog.<=) moment\n", "SELECT true\n"),
           ("idempotent_outbox_take", "                                    AND e.position OPERATOR(pg_catalog.<>) ALL (locked)\n", "                                    AND false\n")],
          f"regress/outbox isolation/outbox {STORM}"),
    fault("outbox-skips-what-is-being-taken", "Nothing is taken that comes after what another relay is just taking",
          ("idempotent_outbox_take", "                                    AND e.position OPERATOR(pg_catalog.<>) ALL (locked)\n", "                                    AND false\n"),
          f"isolation/outbox {STORM}"),
    fault("outbox-take-ignores-leases", "A message that a relay has is given to no other",
          ("idempotent_outbox_take", "                   AND (m.lease_until IS NULL OR m.lease_until OPERATOR(pg_catalog.<=) moment)\n", ""),
          f"regress/outbox {STORM}"),
    fault("outbox-lapsed-is-lost", "What a dead relay had is taken again",
          ("idempotent_outbox_take", "(m.lease_until IS NULL OR m.lease_until OPERATOR(pg_catalog.<=) moment)", "(m.fence IS NULL OR m.lease_until OPERATOR(pg_catalog.<=) m.put_at)"),
          f"regress/outbox {STORM}"),
    fault("outbox-ack-without-the-fence", "A relay that is late acknowledges nothing that another one has by now",
          ("outbox_held", "FILTER (WHERE m.fence IS DISTINCT FROM outbox_held.fence)", "FILTER (WHERE m.fence IS NULL)"),
          "regress/outbox isolation/outbox"),
    fault("outbox-fence-does-not-grow", "Each take has a higher fence",
          ("idempotent_outbox_take", "COALESCE(granted, pg_catalog.nextval('idempotent.fence'))", "COALESCE(granted, 1)"),
          "regress/outbox isolation/outbox"),
    fault("outbox-any-message-is-the-same", "A message id stands for one message",
          ("idempotent_outbox_put", "        IF same THEN\n", "        IF same IS NOT NULL THEN\n"),
          "regress/outbox isolation/outbox"),
    fault("saga-compensates-forwards", "Steps are undone in reverse order",
          ("idempotent_saga_done", "        SELECT COALESCE(pg_catalog.max(e.ordinality), 0) INTO now_at\n"
                                   "          FROM pg_catalog.jsonb_array_elements(run.steps) WITH ORDINALITY AS e\n"
                                   "         WHERE e.ordinality OPERATOR(pg_catalog.<) step AND",
                                   "        SELECT COALESCE(pg_catalog.min(e.ordinality), 0) INTO now_at\n"
                                   "          FROM pg_catalog.jsonb_array_elements(run.steps) WITH ORDINALITY AS e\n"
                                   "         WHERE (CASE WHEN state = 'running' THEN e.ordinality < step\n"
                                   "                     ELSE e.ordinality > step AND run.answers ? (e.value->>'name') END) AND"),
          f"regress/saga {KILLED}"),
    fault("saga-compensates-twice", "Each compensation runs once",
          ("idempotent_saga_run", "pg_catalog.format('SELECT %s($1)', todo.handler)",
                                  "pg_catalog.format(CASE todo.state WHEN 'running' THEN 'SELECT %s($1)' ELSE 'SELECT %1$s($1), %1$s($1)' END, todo.handler)"),
          f"regress/saga isolation/saga {KILLED}"),
    fault("saga-compensates-the-failed-step", "What a failed step did is rolled back, and not compensated, too",
          ("idempotent_saga_done", "         WHERE e.ordinality OPERATOR(pg_catalog.<) step AND", "         WHERE e.ordinality < step + (state = 'running')::integer AND"),
          "regress/saga"),
    fault("saga-step-commits-unnoted", "A step and the knowledge of it commit together",
          ("idempotent_saga_run", "        EXECUTE pg_catalog.format('SELECT %I.idempotent_saga_done(", "        COMMIT;\n        EXECUTE pg_catalog.format('SELECT %I.idempotent_saga_done("),
          f"isolation/saga {CALLERS}"),
    fault("saga-callers-meet-in-a-step", "Two calls of a saga never work on it at once",
          [("idempotent_saga_next", "    ELSIF NOT idempotent.saga_lock(name, key, scope, wait) THEN\n", "    ELSIF false THEN\n"),
           ("idempotent_saga_next", "       FOR UPDATE OF r;\n    IF run.expires_at", ";\n    IF run.expires_at"),
           ("idempotent_saga_done", "    IF run.state IS DISTINCT FROM state OR run.step IS DISTINCT FROM step THEN\n", "    IF run.state IS NULL THEN\n")],
          CALLERS),
    fault("saga-request-not-compared", "A saga's key stands for one request",
          [("idempotent_saga_next", "        AND r.request IS DISTINCT FROM idempotent_saga_next.request\n", "        AND false\n"),
           ("idempotent_saga_next", "    ELSIF run.request IS DISTINCT FROM request THEN\n", "    ELSIF false THEN\n")],
          "regress/saga isolation/saga"),
    fault("saga-changes-its-steps", "A saga goes on with the steps that it started with",
          ("idempotent_saga_next", "    current := run.steps OPERATOR(pg_catalog.->)",
                                   "    run.steps := (SELECT s.steps FROM idempotent.saga AS s WHERE s.name = run.saga);\n    current := run.steps OPERATOR(pg_catalog.->)"),
          "regress/saga"),
    fault("saga-tries-again-for-nothing", "A failure that is final is not tried again, and one that is not is never final",
          ("idempotent_saga_run", "            IF (SQLSTATE OPERATOR(pg_catalog.=) ANY (todo.final) OR", "            IF (SQLSTATE OPERATOR(pg_catalog.<>) ALL (todo.final) OR"),
          "regress/saga"),
]

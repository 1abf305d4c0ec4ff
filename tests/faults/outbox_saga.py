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
          ("done", "before.iter().rposition(|can| *can)", "before.iter().position(|can| *can)"),
          f"domain regress/saga {KILLED}"),
    fault("saga-compensates-twice", "Each compensation runs once",
          ("go_on", "    let handler = Handler::find(named)?;\n",
                    "    let handler = Handler::find(named)?;\n"
                    "    if found.place.state == State::Compensating {\n"
                    "        handler.call_judging_constraints(found.argument).unwrap_or_else(|error| error.resume());\n"
                    "    }\n"),
          f"regress/saga isolation/saga {KILLED}"),
    fault("saga-compensates-the-failed-step", "What a failed step did is rolled back, and not compensated, too",
          ("done", "at.step.saturating_sub(1).min(", "at.step.saturating_sub(usize::from(at.state != State::Running)).min("),
          "domain regress/saga"),
    fault("saga-callers-meet-in-a-step", "Two calls of a saga never work on it at once",
          [("step", "    held.keep();\n", "    drop(held);\n"),
           ("find_locked", "&[FIND, FOR_UPDATE].concat()", "FIND"),
           ("WRITE", "   AND r.state OPERATOR(pg_catalog.=) $11 AND r.step OPERATOR(pg_catalog.=) $12\n", "   AND $11 IS NOT NULL AND $12 IS NOT NULL\n")],
          CALLERS),
    fault("saga-request-not-compared", "A saga's key stands for one request",
          ("judge", "    if known.fingerprint != fingerprint {\n", "    if known.fingerprint != fingerprint && false {\n"),
          "domain regress/saga isolation/saga"),
    fault("saga-changes-its-steps", "A saga goes on with the steps that it started with",
          ("FIND", " CROSS JOIN LATERAL (SELECT r.steps OPERATOR(pg_catalog.->)",
                   " CROSS JOIN LATERAL (SELECT (SELECT d.steps FROM idempotent.saga AS d WHERE d.name = r.saga) OPERATOR(pg_catalog.->)"),
          "regress/saga"),
    fault("saga-tries-again-for-nothing", "A failure that is final is not tried again, and one that is not is never final",
          ("is_final", "(StoreFailures::parse(&found.last)?.matches(&sqlstate)", "(!StoreFailures::parse(&found.last)?.matches(&sqlstate)"),
          "regress/saga"),
]

"""All faults, in the order in which they are tried."""

import answers
import claims
import keys
import leases
import nodes
import operations
import outbox_saga
import patterns
import plan

FAULTS = [*claims.FAULTS, *leases.FAULTS, *answers.FAULTS, *keys.FAULTS, *operations.FAULTS, *patterns.FAULTS, *outbox_saga.FAULTS, *nodes.FAULTS, *plan.FAULTS]

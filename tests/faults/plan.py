"""Faults in the plan node for a call in FROM."""

from fault import fault


FAULTS = [
    fault("row-asked-for-again", "A rescan with the same arguments calls the function no second time",
          ("on_rescan", "        (*state).position = Position::Before;\n",
                        "        (*state).position = Position::Before;\n        (*state).is_called = false;\n"),
          "regress/scan_node"),
    fault("row-of-other-arguments", "A rescan with other arguments calls the function",
          ("on_rescan", "                (*state).is_called = false;\n", "                (*state).is_called = true;\n"),
          "regress/scan_node"),
    fault("filter-ignored", "A call with a filter is left to the function scan",
          ("is_plain", "            && (*relation).baserestrictinfo.is_null()\n", ""),
          "regress/scan_node"),
    fault("call-allowed-to-all", "EXECUTE is asked for whenever a statement begins",
          ("on_begin", "        raw::check_may_execute((*expression).funcid);\n", ""),
          "regress/scan_node regress/rights"),
    fault("answer-left-out-of-line", "What is stored out of line is fetched with the answer",
          ("fill", "columns[column].map(|datum| unsafe { varlena::whole(datum) })", "columns[column]"),
          "regress/scan_node"),
    fault("end-is-the-beginning", "A cursor goes back from the end to the row",
          ("Position::step", "(Self::On | Self::After, true) => (Self::After, false),", "(Self::On | Self::After, true) => (Self::Before, false),"),
          "regress/scan_node"),
    fault("plan-outlives-the-row-type", "A plan is made anew when the row type gets other columns",
          ("plan", "        (*planned).relationOids = pg_sys::lappend_oid((*planned).relationOids, row);\n", "        let _ = (planned, row);\n"),
          "regress/scan_node"),
]

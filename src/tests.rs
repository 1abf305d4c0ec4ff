//! Tests inside one session.

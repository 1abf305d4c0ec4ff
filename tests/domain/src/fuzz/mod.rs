//! Random input for everything in the domain that reads what callers send, against somebody else's
//! idea of it: another crate's arithmetic and dates, or the rule written down a second time in
//! another way. `FUZZ_SECONDS` and `FUZZ_SEED`: see [`crate::budget`].

mod dates;
mod documents;
mod identities;
mod key_form;
mod numbers;
mod settings;
mod stream;
mod verdicts;

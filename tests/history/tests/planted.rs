//! The checker's own tests: for each promise a history in which it is broken, which must be caught, and beside it one
//! that looks like it and is fine, which must not be flagged.

#[path = "planted/answers.rs"]
mod answers;
#[path = "planted/clean.rs"]
mod clean;
#[path = "planted/effects.rs"]
mod effects;
#[path = "planted/ends.rs"]
mod ends;
#[path = "planted/fences.rs"]
mod fences;
#[path = "planted/forgets.rs"]
mod forgets;
#[path = "planted/holders.rs"]
mod holders;
#[path = "planted/nodes.rs"]
mod nodes;
#[path = "planted/patterns.rs"]
mod patterns;
#[path = "planted/sagas.rs"]
mod sagas;
#[path = "planted/settings.rs"]
mod settings;
#[path = "planted/shrinking.rs"]
mod shrinking;
#[path = "planted/story.rs"]
mod story;
#[path = "planted/topics.rs"]
mod topics;

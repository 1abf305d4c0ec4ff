//! Faults of the model, one at a time: what each leaves out is needed, and the ledger notices that it is not there.

/// A step that is left out, or done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Slots go to another node, and what is known of their keys does not.
    MoveWithoutExport,
    /// Nodes answer for every slot, and routers are late.
    NoGuard,
    /// Slots are given up while claims are open.
    OwnWithoutWaiting,
    /// Fences of the new node go on from its own.
    FencesStay,
    /// The new node answers before all has arrived.
    TakenTooEarly,
    /// A node does not notice that a crash has emptied its unlogged table.
    CrashUnnoticed,
    /// The new node does not hear of what the old one has lost.
    LossesStay,
    /// What was left behind when slots went counts when they come back.
    LeftBehindCounts,
    /// A node takes slots whose records are gone, and is not told.
    NotIgnorant,
    /// Records are deleted before the dates of their keys refuse them.
    ForgottenTooEarly,
    /// The standby that is promoted has not received the last commits.
    StandbyBehind,
}

impl Plant {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 11] = [
        ("move-without-export", Self::MoveWithoutExport),
        ("no-guard", Self::NoGuard),
        ("own-without-waiting", Self::OwnWithoutWaiting),
        ("fences-stay", Self::FencesStay),
        ("taken-too-early", Self::TakenTooEarly),
        ("crash-unnoticed", Self::CrashUnnoticed),
        ("losses-stay", Self::LossesStay),
        ("left-behind-counts", Self::LeftBehindCounts),
        ("not-ignorant", Self::NotIgnorant),
        ("forgotten-too-early", Self::ForgottenTooEarly),
        ("standby-behind", Self::StandbyBehind),
    ];
}

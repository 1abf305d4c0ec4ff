//! The parts of an identity, one by one: how long each may be, and how to speak of it.

use crate::error::{Code, Error, Result};

/// The longest operation, in bytes: routes and qualified names are long.
pub const MAX_OPERATION: usize = 255;
/// The longest scope, in bytes.
pub const MAX_SCOPE: usize = 255;
/// The longest key, in bytes.
pub const MAX_KEY: usize = 255;

/// The rules of one part, and how to speak of it.
pub struct Part {
    name: &'static str,
    least: usize,
    most: usize,
    hint: &'static str,
}

/// What must happen once.
pub const OPERATION: Part = Part {
    name: "operation",
    least: 1,
    most: MAX_OPERATION,
    hint: "Pass a short name of what must happen once, such as 'charge'.",
};
/// The owner of a key, a message or a lock.
pub const SCOPE: Part = Part {
    name: "scope",
    least: 0,
    most: MAX_SCOPE,
    hint: "Pass the owner of the key, such as scope => 'tenant-7', or leave scope out.",
};
/// The caller's key.
pub const KEY: Part = Part {
    name: "key",
    least: 1,
    most: MAX_KEY,
    hint: "Pass the key that the client sent, or make one with SELECT idempotent_new_key().",
};

/// The receiver of messages: an operation, as far as its settings go.
pub const CONSUMER: Part = Part {
    name: "consumer",
    least: 1,
    most: MAX_OPERATION,
    hint: "Pass a short name of the receiver of the messages, such as 'billing'.",
};
/// The sender's name for a message.
pub const MESSAGE: Part = Part {
    name: "message_id",
    least: 1,
    most: MAX_KEY,
    hint: "Pass the id that the sender gave the message, the same with each delivery.",
};

/// A topic of the outbox: an operation, as far as its settings go.
pub const TOPIC: Part = Part {
    name: "topic",
    least: 1,
    most: MAX_OPERATION,
    hint: "Pass a short name of what takes the messages, such as 'orders'.",
};

/// The key of messages that are taken in order.
pub const LANE: Part = Part {
    name: "key",
    least: 1,
    most: MAX_KEY,
    hint: "Pass what the messages are in order for, such as 'order-1', or leave key out.",
};

/// A part of a log, within which messages have an order.
pub const PARTITION: Part = Part {
    name: "partition",
    least: 1,
    most: MAX_KEY,
    hint: "Pass the name of the part of the log, such as 'orders-3'.",
};

/// The key of a lock: its holder for a time.
pub const HOLDER: Part = Part {
    name: "key",
    least: 1,
    most: MAX_KEY,
    hint: "Pass what names this holder and no other, such as 'worker-1', or idempotent_new_key().",
};

/// A saga: an operation, as far as its settings go.
pub const SAGA: Part = Part {
    name: "name",
    least: 1,
    most: MAX_OPERATION,
    hint: "Pass the name of a saga, such as 'order'.",
};

/// A step of a saga.
pub const STEP: Part = Part {
    name: "name of a step",
    least: 1,
    most: MAX_OPERATION,
    hint: "Name each step, such as {\"name\": \"payment\", ...}.",
};

/// What is locked.
pub const RESOURCE: Part = Part {
    name: "resource",
    least: 1,
    most: MAX_KEY,
    hint: "Pass the name of what is to be locked, such as 'nightly-report'.",
};

/// Checks a part as SQL gave it; `None` is null.
///
/// # Errors
/// `ID006` for the first rule that it breaks.
pub fn check<'a>(part: &Part, given: Option<&'a [u8]>) -> Result<&'a [u8]> {
    let refuse = |what: &str, detail: String| {
        Error::new(Code::BadKey, format!("{} {what}", part.name)).detail(detail).hint(part.hint)
    };
    let allowed = format_args!("{} to {} bytes", part.least, part.most);
    let Some(bytes) = given else {
        return Err(refuse("must not be null", format!("The {} is text of {allowed}.", part.name)));
    };
    if bytes.len() < part.least {
        return Err(refuse(
            "must not be empty",
            format!("The {} is text of {allowed}.", part.name),
        ));
    }
    if bytes.len() > part.most {
        let detail = format!(
            "The {} has {} bytes in UTF-8; {} are allowed.",
            part.name,
            bytes.len(),
            part.most
        );
        return Err(refuse("is too long", detail));
    }
    if let Some((at, code)) = control_character(bytes) {
        let detail = format!(
            "Byte {} of the {} starts the control character U+{code:04X}.",
            at + 1,
            part.name
        );
        return Err(refuse("must not contain control characters", detail));
    }
    Ok(bytes)
}

/// Where the first control character begins, and its code: Unicode's Cc (C0, DEL, C1) in UTF-8.
/// In anything else only the bytes of C0 and DEL, since a higher byte may be part of a letter.
fn control_character(bytes: &[u8]) -> Option<(usize, u32)> {
    // Every byte is looked at, without a branch for each, so that the compiler can take many at once.
    if bytes.iter().fold(true, |plain, byte| plain & matches!(byte, 0x20..0x7f)) {
        return None;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (at, found) = text.char_indices().find(|(_, c)| c.is_control())?;
        Some((at, u32::from(found)))
    } else {
        let at = bytes.iter().position(u8::is_ascii_control)?;
        Some((at, u32::from(bytes[at])))
    }
}

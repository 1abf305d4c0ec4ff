//! A piece of a JSON document, in the order in which it is read.

use crate::request::number::Digits;

/// A piece of a JSON document, in the order of the text.
#[derive(Debug, Clone, Copy)]
pub enum Token<'a> {
    /// `{`
    BeginObject,
    /// `}`
    EndObject,
    /// `[`
    BeginArray,
    /// `]`
    EndArray,
    /// The name of a member, whose value follows.
    Member(&'a [u8]),
    /// A string, without quotes and escapes.
    String(&'a [u8]),
    /// A number in any decimal spelling, with or without an exponent.
    Number(&'a [u8]),
    /// A number as its digits, however long it would be written out.
    Digits(Digits<'a>),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

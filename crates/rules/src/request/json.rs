//! JSON as text: the canonical tokens of a document that came as bytes, and strings for one that goes out.
//!
//! A document that `jsonb` refuses aborts the transaction that asks `jsonb`, so the bytes of a request are
//! read here. A document that `jsonb` takes gives the tokens that its `jsonb` gives.

use crate::request::token::Token;
use std::borrow::Cow;
use std::fmt::Write;

/// The largest text that is read, in bytes: what is made of it takes several times its size.
const LARGEST: usize = 16 * 1024 * 1024;
/// How many objects and arrays may be open: about where `jsonb` runs out of its stack.
const DEEPEST: usize = 10_000;
/// Memory for each byte of a text, at the most: the nodes, and the names of an object while they are sorted.
const MEMORY: usize = 32;

/// How many steps of the work lie between two looks up.
const STEPS: usize = 4096;

/// A document: its text, and where in it the values are.
pub struct Document<'a> {
    text: &'a [u8],
    /// In the order of the text. What a container holds follows it.
    nodes: Vec<Node>,
    /// Called now and then while the document is worked on, to end that by a panic where it is not wanted any more.
    look_up: fn(),
}

#[derive(Clone, Copy)]
struct Node {
    kind: Kind,
    /// Where the text begins, for what is no container.
    start: u32,
    /// Where the text ends; of a container, the node behind its last one.
    end: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    /// The name of a member; its value follows.
    Name,
    String,
    Number,
    True,
    False,
    Null,
}

/// How much memory it can take to read a text.
#[must_use]
pub fn memory(text: &[u8]) -> usize {
    if text.len() > LARGEST { 0 } else { text.len() * MEMORY }
}

impl<'a> Document<'a> {
    /// Reads a text by RFC 8259. `None` for what is no JSON, and for what `jsonb` cannot hold: a NUL, half
    /// of a surrogate pair, more than [`LARGEST`] bytes, or values nested deeper than [`DEEPEST`].
    #[must_use]
    pub fn parse(text: &'a [u8], look_up: fn()) -> Option<Self> {
        if text.len() > LARGEST || std::str::from_utf8(text).is_err() {
            return None;
        }
        let mut reader = Reader { text, at: 0, nodes: Vec::new(), open: Vec::new(), look_up };
        reader.document()?;
        Some(Self { text, nodes: reader.nodes, look_up })
    }

    /// Emits the document: the members of an object by the length of their names and then by their bytes,
    /// of several with one name the last.
    pub fn emit(&self, mut emit: impl FnMut(Token<'_>)) {
        let mut open: Vec<Open<'_>> = Vec::new();
        let mut next = Some(0);
        for step in 1_usize.. {
            if step.is_multiple_of(STEPS) {
                (self.look_up)();
            }
            if let Some(at) = next.take() {
                match self.nodes[at].kind {
                    Kind::Object => {
                        emit(Token::BeginObject);
                        open.push(Open::Object(self.members(at).into_iter()));
                    }
                    Kind::Array => {
                        emit(Token::BeginArray);
                        open.push(Open::Array { at: at + 1, end: self.end(at) });
                    }
                    kind => emit(scalar(kind, &self.string(at))),
                }
            }
            match open.last_mut() {
                None => return,
                Some(Open::Object(members)) => {
                    if let Some((name, value)) = members.next() {
                        emit(Token::Member(&name));
                        next = Some(value);
                    } else {
                        emit(Token::EndObject);
                        open.pop();
                    }
                }
                Some(Open::Array { at, end }) => {
                    if *at < *end {
                        next = Some(*at);
                        *at = self.end(*at);
                    } else {
                        emit(Token::EndArray);
                        open.pop();
                    }
                }
            }
        }
    }

    /// The members of an object, as `jsonb` keeps them: names and nodes of values.
    fn members(&self, object: usize) -> Vec<(Cow<'a, [u8]>, usize)> {
        let mut members = Vec::new();
        let mut at = object + 1;
        while at < self.end(object) {
            members.push((self.string(at), at + 1));
            at = self.end(at + 1);
        }
        let mut steps = 0_usize;
        let by_name = |(one, _): &(Cow<'_, [u8]>, usize), (other, _): &(Cow<'_, [u8]>, usize)| {
            steps += 1;
            if steps.is_multiple_of(STEPS) {
                (self.look_up)();
            }
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        };
        // The last of one name first, which is the one that stays.
        members.reverse();
        members.sort_by(by_name);
        members.dedup_by(|later, kept| later.0 == kept.0);
        members
    }

    /// The node behind a value.
    fn end(&self, at: usize) -> usize {
        let node = self.nodes[at];
        match node.kind {
            Kind::Object | Kind::Array => node.end as usize,
            _ => at + 1,
        }
    }

    /// The text of a node, without the escapes of a string.
    fn string(&self, at: usize) -> Cow<'a, [u8]> {
        let node = self.nodes[at];
        let text = &self.text[node.start as usize..node.end as usize];
        let escaped = matches!(node.kind, Kind::Name | Kind::String) && text.contains(&b'\\');
        if escaped { Cow::Owned(unescape(text)) } else { Cow::Borrowed(text) }
    }
}

/// An object or array that is being emitted.
enum Open<'a> {
    Object(std::vec::IntoIter<(Cow<'a, [u8]>, usize)>),
    Array { at: usize, end: usize },
}

fn scalar(kind: Kind, text: &[u8]) -> Token<'_> {
    match kind {
        Kind::String => Token::String(text),
        Kind::Number => Token::Number(text),
        Kind::True => Token::Bool(true),
        Kind::False => Token::Bool(false),
        _ => Token::Null,
    }
}

/// Reads a text from its beginning.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The containers that are open, outermost first.
    open: Vec<usize>,
    look_up: fn(),
}

impl Reader<'_> {
    /// `None` at the first byte that is wrong.
    fn document(&mut self) -> Option<()> {
        loop {
            if self.value()? {
                continue;
            }
            // A value has ended: what it stands in goes on, or ends as well.
            loop {
                self.blanks();
                let Some(&container) = self.open.last() else {
                    return (self.at == self.text.len()).then_some(());
                };
                let is_object = self.nodes[container].kind == Kind::Object;
                match (self.take()?, is_object) {
                    (b',', true) => {
                        self.name()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => self.close(),
                    _ => return None,
                }
            }
        }
    }

    /// Reads a value; whether it is a container with something in it, whose first value comes next.
    fn value(&mut self) -> Option<bool> {
        self.blanks();
        let start = self.at;
        match self.take()? {
            b'{' => {
                self.open(Kind::Object)?;
                if self.skip(b'}') {
                    self.close();
                    return Some(false);
                }
                self.name()?;
                return Some(true);
            }
            b'[' => {
                self.open(Kind::Array)?;
                if self.skip(b']') {
                    self.close();
                    return Some(false);
                }
                return Some(true);
            }
            b'"' => self.string(Kind::String)?,
            b't' => self.word(b"rue", Kind::True)?,
            b'f' => self.word(b"alse", Kind::False)?,
            b'n' => self.word(b"ull", Kind::Null)?,
            b'-' | b'0'..=b'9' => {
                self.at = start;
                self.number()?;
            }
            _ => return None,
        }
        Some(false)
    }

    fn open(&mut self, kind: Kind) -> Option<()> {
        if self.open.len() >= DEEPEST {
            return None;
        }
        self.open.push(self.nodes.len());
        self.push(kind, 0, 0)
    }

    fn close(&mut self) {
        if let Some(container) = self.open.pop() {
            self.nodes[container].end = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        }
    }

    /// The name of a member, and the colon behind it.
    fn name(&mut self) -> Option<()> {
        if !self.skip(b'"') {
            return None;
        }
        self.string(Kind::Name)?;
        self.skip(b':').then_some(())
    }

    /// What follows a quote, up to the next that is not escaped.
    fn string(&mut self, kind: Kind) -> Option<()> {
        let start = self.at;
        loop {
            match self.take()? {
                b'"' => return self.push(kind, start, self.at - 1),
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hexadecimal()? {
                0 | 0xdc00..0xe000 => None,
                0xd800..0xdc00 => {
                    let low = self.take()? == b'\\' && self.take()? == b'u';
                    (low && (0xdc00..0xe000).contains(&self.hexadecimal()?)).then_some(())
                }
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        hexadecimal(digits)
    }

    /// `-`, then an integer without leading zeros, a fraction and an exponent.
    fn number(&mut self) -> Option<()> {
        let start = self.at;
        self.skip_byte(b"-");
        match self.take()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.skip_byte(b".") {
            self.some_digits()?;
        }
        if self.skip_byte(b"eE") {
            self.skip_byte(b"+-");
            self.some_digits()?;
        }
        self.push(Kind::Number, start, self.at)
    }

    fn some_digits(&mut self) -> Option<()> {
        self.take()?.is_ascii_digit().then(|| self.digits())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8], kind: Kind) -> Option<()> {
        let start = self.at;
        if !self.text[start..].starts_with(rest) {
            return None;
        }
        self.at += rest.len();
        self.push(kind, start, self.at)
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> Option<()> {
        let (start, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
        self.nodes.push(Node { kind, start, end });
        if self.nodes.len().is_multiple_of(STEPS) {
            (self.look_up)();
        }
        Some(())
    }

    fn take(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Passes over blanks, and then this byte if it is there.
    fn skip(&mut self, wanted: u8) -> bool {
        self.blanks();
        self.skip_byte(&[wanted])
    }

    fn skip_byte(&mut self, any_of: &[u8]) -> bool {
        let there = self.text.get(self.at).is_some_and(|byte| any_of.contains(byte));
        self.at += usize::from(there);
        there
    }

    fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let digit = |value: u32, byte: &u8| Some(value << 4 | char::from(*byte).to_digit(16)?);
    digits.iter().try_fold(0, digit)
}

/// A string without its escapes, which are right.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    let unit = |at: usize| text.get(at..at + 4).and_then(hexadecimal).unwrap_or(0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let escape = text.get(at).copied().unwrap_or(b'\\');
        at += 1;
        match escape {
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'n' => plain.push(b'\n'),
            b'r' => plain.push(b'\r'),
            b't' => plain.push(b'\t'),
            b'u' => {
                let mut code = unit(at);
                at += 4;
                if (0xd800..0xdc00).contains(&code) {
                    code = 0x10000
                        + ((code - 0xd800) << 10)
                        + (unit(at + 2).wrapping_sub(0xdc00) & 0x3ff);
                    at += 6;
                }
                let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Appends a string with its quotes, in ASCII: it is the same in a database of any encoding.
pub fn quote(text: &str, json: &mut String) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => json.extend(['\\', letter]),
            ' '..='~' => json.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    // A string takes everything that is written to it.
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
}

#[cfg(test)]
#[path = "../tests/json_text.rs"]
mod tests;

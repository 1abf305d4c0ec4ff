//! A connection that can ask without listening.
//!
//! A driver reads the answer before it lets go of a call. Two things we do need the opposite: to throw a connection
//! away while the answer to its COMMIT is still unread, and to have a call wait for a lock while the test goes on.
//! So this speaks the simple query protocol itself: `send` writes one query and returns at once, `receive` reads the
//! answer, and dropping the connection between the two loses the answer for good. Unix socket and `trust` only.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::connect::Server;

const PROTOCOL_3_0: i32 = 196_608;
const AUTHENTICATION_OK: i32 = 0;

pub struct Wire {
    stream: UnixStream,
    inbox: Vec<u8>,
    pid: i32,
}

/// An ERROR or FATAL as the server sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Everything up to the next `ReadyForQuery`.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The rows of all statements, one after the other, values as text.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tags: `SELECT 1`, `COMMIT`, ...
    pub tags: Vec<String>,
    pub refusal: Option<Refusal>,
    /// `I` idle, `T` in a transaction, `E` in a failed one; `X` when the server closed the connection.
    pub transaction: char,
}

impl Reply {
    /// The SQLSTATE, or "" when all went well.
    pub fn code(&self) -> &str {
        self.refusal.as_ref().map_or("", |refusal| &refusal.code)
    }

    /// The one row that the call was to give; panics with the server's words otherwise.
    #[track_caller]
    pub fn row(&self) -> &[Option<String>] {
        assert!(self.refusal.is_none(), "refused: {:?}", self.refusal);
        assert_eq!(self.rows.len(), 1, "one row expected, got {:?}", self.rows);
        &self.rows[0]
    }

    /// The one value of the one row; "" for NULL.
    #[track_caller]
    pub fn value(&self) -> &str {
        self.row()[0].as_deref().unwrap_or("")
    }
}

impl Wire {
    pub fn connect(server: &Server, name: &str, options: &str) -> io::Result<Self> {
        let mut wire =
            Self { stream: UnixStream::connect(server.socket())?, inbox: Vec::new(), pid: 0 };
        let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
        for (parameter, value) in [
            ("user", server.user.as_str()),
            ("database", server.database.as_str()),
            ("application_name", name),
            ("client_encoding", "UTF8"),
            ("options", options),
        ] {
            if !value.is_empty() {
                body.extend_from_slice(parameter.as_bytes());
                body.push(0);
                body.extend_from_slice(value.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        wire.write(None, &body)?;
        let reply = wire.receive()?;
        match reply.refusal {
            None => Ok(wire),
            Some(refusal) => {
                Err(io::Error::other(format!("{}: {}", refusal.code, refusal.message)))
            }
        }
    }

    /// The process that serves this connection.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks, and does not wait for the answer.
    pub fn send(&mut self, sql: &str) -> io::Result<()> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.write(Some(b'Q'), &body)
    }

    /// Reads one answer whole. A connection that the server closed is an answer too: `transaction` is `X`.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut reply = Reply { transaction: 'X', ..Reply::default() };
        while let Some((kind, body)) = self.message()? {
            match kind {
                b'R' if int32(&body, 0) != AUTHENTICATION_OK => {
                    return Err(io::Error::other(
                        "the server wants a password: this client knows `trust` alone",
                    ));
                }
                b'K' => self.pid = int32(&body, 0),
                b'D' => reply.rows.push(row(&body)),
                b'C' => reply.tags.push(text(&body[..body.len() - 1])),
                b'E' => reply.refusal = reply.refusal.take().or_else(|| Some(refusal(&body))),
                b'Z' => {
                    reply.transaction = char::from(body[0]);
                    break;
                }
                // Parameter, notice, row description, empty query: nothing to keep.
                _ => {}
            }
        }
        Ok(reply)
    }

    /// Asks and listens.
    #[track_caller]
    pub fn call(&mut self, sql: &str) -> Reply {
        self.send(sql)
            .and_then(|()| self.receive())
            .unwrap_or_else(|error| panic!("{error} in {sql}"))
    }

    /// `call` for a statement that must succeed.
    #[track_caller]
    pub fn run(&mut self, sql: &str) -> Reply {
        let reply = self.call(sql);
        assert!(reply.refusal.is_none(), "{:?} in {sql}", reply.refusal);
        reply
    }

    /// Gone, whatever lies unread.
    pub fn throw_away(self) {
        // The socket may be closed at the other end already: then there is nothing left to do.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn write(&mut self, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(body.len() + 5);
        message.extend(kind);
        let length = i32::try_from(body.len() + 4).map_err(io::Error::other)?;
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message)
    }

    /// The next message, or None when the server has closed the connection.
    fn message(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        if !self.fill(5)? {
            return Ok(None);
        }
        let length = usize::try_from(int32(&self.inbox, 1)).map_err(io::Error::other)?;
        if !self.fill(1 + length)? {
            return Ok(None);
        }
        let rest = self.inbox.split_off(1 + length);
        let message = std::mem::replace(&mut self.inbox, rest);
        Ok(Some((message[0], message[5..].to_vec())))
    }

    /// Reads until `wanted` bytes are there; false when the server closed the connection first.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let mut chunk = [0; 16_384];
        while self.inbox.len() < wanted {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(read) => self.inbox.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A text literal, safe under `standard_conforming_strings`.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn int32(body: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let columns = u16::from_be_bytes([body[0], body[1]]);
    let mut at = 2;
    let mut values = Vec::with_capacity(usize::from(columns));
    for _ in 0..columns {
        // A length of -1 is NULL.
        let length = usize::try_from(int32(body, at));
        at += 4;
        values.push(length.ok().map(|length| {
            at += length;
            text(&body[at - length..at])
        }));
    }
    values
}

fn refusal(body: &[u8]) -> Refusal {
    let mut refusal = Refusal::default();
    for field in body.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let value = text(&field[1..]);
        match field[0] {
            b'C' => refusal.code = value,
            b'M' => refusal.message = value,
            b'D' => refusal.detail = Some(value),
            b'H' => refusal.hint = Some(value),
            _ => {}
        }
    }
    refusal
}

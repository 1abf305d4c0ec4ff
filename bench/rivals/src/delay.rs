//! A network that takes its time: a proxy on unix sockets that hands on what it reads a fixed time later, in both directions.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::caller::Result;

/// The kernel wakes a thread up to 50 microseconds late, to wake several at once; a thread inherits this from the one that made it.
const SLACK: &str = "/proc/self/timerslack_ns";

/// What was read, and when it is due at the other end.
type Due = (Instant, Vec<u8>);

/// Opens each way, from the first socket to the second, and works until standard input ends: with the program that started it.
pub fn serve(delay: Duration, ways: &[(PathBuf, PathBuf)]) -> Result<()> {
    std::fs::write(SLACK, "1").map_err(|error| format!("{SLACK}: {error}"))?;
    for (listen, target) in ways {
        let listener = UnixListener::bind(listen)?;
        let target = target.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if let Err(error) = connect(client, &target, delay) {
                    eprintln!("rivals: {}: {error}", target.display());
                }
            }
        });
    }
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn connect(
    client: io::Result<UnixStream>,
    target: &Path,
    delay: Duration,
) -> std::result::Result<(), Box<dyn Error>> {
    let client = client?;
    let server = UnixStream::connect(target)?;
    direction(client.try_clone()?, server.try_clone()?, delay);
    direction(server, client, delay);
    Ok(())
}

fn direction(from: UnixStream, to: UnixStream, delay: Duration) {
    let (sender, receiver) = channel();
    thread::spawn(move || read(from, &sender, delay));
    thread::spawn(move || write(to, &receiver));
}

/// A thread of its own: what comes while something is under way does not wait for that.
fn read(mut from: UnixStream, on_its_way: &Sender<Due>, delay: Duration) {
    let mut chunk = [0; 8_192];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if on_its_way.send((Instant::now() + delay, chunk[..read].to_vec())).is_err() {
            break;
        }
    }
}

fn write(mut to: UnixStream, on_its_way: &Receiver<Due>) {
    for (due, bytes) in on_its_way {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // Closed at the other end already: just as well.
    let _ = to.shutdown(Shutdown::Both);
}

//! A proxy between clients and server, on a Unix socket, whose connections can be cut at any byte.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use client::connect::Server;

use crate::Result;

/// Where a connection breaks.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Now,
    /// After so many bytes of requests more: in the middle of one.
    Request(usize),
    /// After so many bytes of answers more: with 0 the server does what it is asked, and nobody hears of it.
    Answer(usize),
    /// Instead of the answer to the next statement that may commit work.
    AnswerToCommit,
}

const NEVER: usize = usize::MAX;

struct Link {
    client: UnixStream,
    server: UnixStream,
    requests: AtomicUsize,
    answers: AtomicUsize,
    waits_for_commit: AtomicBool,
}

impl Link {
    fn close(&self) {
        // Closed at the other end already: just as well.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

pub struct Proxy {
    socket: PathBuf,
    links: Arc<Mutex<Vec<Weak<Link>>>>,
    stopped: Arc<AtomicBool>,
    door: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Opens in `base`'s directory for it; the way through it is returned.
    pub fn open(base: &Path, server: &Server) -> Result<(Self, Server)> {
        let directory = base.join("proxy");
        if !directory.exists() {
            fs::create_dir(&directory)?;
            // Whoever cleans up must be able to.
            let owner = fs::metadata(base)?;
            chown(&directory, Some(owner.uid()), Some(owner.gid()))?;
        }
        let way = Server { directory, ..server.clone() };
        let socket = way.socket();
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let listener = UnixListener::bind(&socket)?;
        let links = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let door = {
            let (links, stopped, target) = (links.clone(), stopped.clone(), server.socket());
            thread::spawn(move || {
                for client in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    // A server that is down: the client sees its connection closed, as it would without us.
                    if let (Ok(client), Ok(server)) = (client, UnixStream::connect(&target)) {
                        connect(&links, client, server);
                    }
                }
            })
        };
        Ok((Self { socket, links, stopped, door: Some(door) }, way))
    }

    /// Cuts one of the connections that are open; `false` if there is none.
    pub fn cut(&self, choice: usize, how: Cut) -> bool {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = links.iter().filter_map(Weak::upgrade).collect();
        let Some(link) = open.get(choice % open.len().max(1)) else { return false };
        match how {
            Cut::Now => link.close(),
            Cut::Request(after) => link.requests.store(after, Ordering::Relaxed),
            Cut::Answer(after) => link.answers.store(after, Ordering::Relaxed),
            Cut::AnswerToCommit => link.waits_for_commit.store(true, Ordering::Relaxed),
        }
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // One last caller, so that the door notices.
        let _ = UnixStream::connect(&self.socket);
        if let Some(door) = self.door.take() {
            let _ = door.join();
        }
        for link in self.links.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(link) = link.upgrade() {
                link.close();
            }
        }
    }
}

fn connect(links: &Mutex<Vec<Weak<Link>>>, client: UnixStream, server: UnixStream) {
    let link = Arc::new(Link {
        client,
        server,
        requests: AtomicUsize::new(NEVER),
        answers: AtomicUsize::new(NEVER),
        waits_for_commit: AtomicBool::new(false),
    });
    {
        let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
    }
    let other = link.clone();
    thread::spawn(move || pump(&link, &link.client, &link.server, &link.requests));
    thread::spawn(move || pump(&other, &other.server, &other.client, &other.answers));
}

/// Hands on what comes, as long as it may; then both sides are closed.
fn pump(link: &Link, mut from: &UnixStream, mut to: &UnixStream, allowed: &AtomicUsize) {
    let mut chunk = [0; 8_192];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if link.waits_for_commit.load(Ordering::Relaxed) && may_commit_work(&chunk[..read]) {
            link.answers.store(0, Ordering::Relaxed);
        }
        let left = allowed.load(Ordering::Relaxed);
        let handed_on = read.min(left);
        if to.write_all(&chunk[..handed_on]).is_err() || handed_on < read {
            break;
        }
        if left != NEVER {
            allowed.fetch_sub(handed_on, Ordering::Relaxed);
        }
    }
    link.close();
}

/// Statements are sent one by one, each in one piece.
fn may_commit_work(request: &[u8]) -> bool {
    let contains = |words: &[u8]| request.windows(words.len()).any(|part| part == words);
    request.first() == Some(&b'Q') && (contains(b"COMMIT") || contains(b"idempotent_run"))
}

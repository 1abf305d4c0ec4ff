//! A door to the server on 127.0.0.1, that fails as networks do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::sleep,
};

use crate::server::variable;

const BEFORE: u8 = 1;
const AFTER: u8 = 2;

#[derive(Default)]
struct State {
    on_commit: AtomicU8,
    is_black: AtomicBool,
    broken: AtomicU32,
}

#[derive(Clone)]
pub struct Door {
    pub port: u16,
    state: Arc<State>,
}

impl Door {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let door =
            Self { port: listener.local_addr().expect("an address").port(), state: Arc::default() };
        let state = Arc::clone(&door.state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, Arc::clone(&state)));
            }
        });
        door
    }

    /// Once: the connection breaks in place of a COMMIT.
    pub fn break_before_commit(&self) {
        self.state.on_commit.store(BEFORE, SeqCst);
    }

    /// Once: the connection breaks when the server has carried a COMMIT out, and before the client hears of it.
    pub fn break_after_commit(&self) {
        self.state.on_commit.store(AFTER, SeqCst);
    }

    /// How many connections have been broken.
    pub fn broken(&self) -> u32 {
        self.state.broken.load(SeqCst)
    }

    /// Nothing gets through any more, and nobody is told.
    pub fn go_black(&self) {
        self.state.is_black.store(true, SeqCst);
    }
}

fn has(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|found| found.eq_ignore_ascii_case(word))
}

async fn join(mut client: TcpStream, state: Arc<State>) {
    let path = format!("{}/.s.PGSQL.{}", variable("PGHOST"), variable("PGPORT"));
    let Ok(mut server) = UnixStream::connect(path).await else { return };
    let (mut up, mut down) = ([0; 65536], [0; 65536]);
    let mut is_doomed = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = match read { Ok(0) | Err(_) => return, Ok(length) => &up[..length] };
                while state.is_black.load(SeqCst) {
                    sleep(Duration::from_secs(60)).await;
                }
                if has(bytes, b"commit\0") {
                    match state.on_commit.swap(0, SeqCst) {
                        BEFORE => {
                            state.broken.fetch_add(1, SeqCst);
                            return;
                        }
                        AFTER => is_doomed = true,
                        _ => {}
                    }
                }
                if server.write_all(bytes).await.is_err() { return; }
            }
            read = server.read(&mut down) => {
                let bytes = match read { Ok(0) | Err(_) => return, Ok(length) => &down[..length] };
                if is_doomed {
                    // CommandComplete has come: the server has committed.
                    if has(bytes, b"COMMIT\0") {
                        state.broken.fetch_add(1, SeqCst);
                        return;
                    }
                } else if client.write_all(bytes).await.is_err() { return; }
            }
        }
    }
}

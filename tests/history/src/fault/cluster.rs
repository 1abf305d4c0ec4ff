//! A Postgres of our own, to be killed at will. `PGBIN` names the directory of its programs; as root it is run by
//! `nobody`, because Postgres refuses to be run by root.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use client::connect::Server;

use crate::Result;

/// The sync to disk is of no use here: what a crash loses is what was not written, synced or not. A lazy WAL writer makes
/// that as much as possible, and a quick deadlock detector speaks before the waits are over.
const SETTINGS: &str = "
fsync = off
full_page_writes = off
wal_writer_delay = 10s
deadlock_timeout = 100ms
max_connections = 100
max_prepared_transactions = 60
listen_addresses = ''
log_line_prefix = '%m [%p] %q%a '
log_min_messages = warning
log_min_error_statement = panic
restart_after_crash = on
shared_preload_libraries = 'pg_idempotent'
idempotent.sweep_interval = 1s
";

/// Waits until we are gone, however that came about, and leaves nothing behind.
const GUARD: &str = r#"read -r _; "$1/pg_ctl" stop -w -m immediate -D "$2/data"; rm -rf "$2""#;

pub struct Cluster {
    programs: PathBuf,
    base: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    guard: Option<Child>,
}

impl Cluster {
    pub fn start() -> Result<Self> {
        let programs = std::env::var("PGBIN")
            .map_err(|_| "PGBIN must name the directory of Postgres' programs")?;
        let user = if rustix::process::geteuid().is_root() { Some(nobody()?) } else { None };
        let base = base();
        fs::DirBuilder::new().mode(0o700).create(&base)?;
        let mut cluster =
            Self { programs: programs.into(), base, port: free_port()?, user, guard: None };
        // Also the proxy's part of it: whoever cleans up must be able to.
        let proxy = cluster.base.join("proxy");
        fs::create_dir(&proxy)?;
        if let Some((uid, gid)) = user {
            chown(&cluster.base, Some(uid), Some(gid))?;
            chown(&proxy, Some(uid), Some(gid))?;
        }
        cluster.guard = Some(cluster.set_guard()?);
        let as_told =
            ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"];
        cluster.run("initdb", &[&["-D", "data"], as_told.as_slice()].concat())?;
        let port = cluster.port;
        let conf = cluster.base.join("data/postgresql.conf");
        let socket =
            format!("port = {port}\nunix_socket_directories = '{}'\n", cluster.base.display());
        fs::write(&conf, fs::read_to_string(&conf)? + SETTINGS + &socket)?;
        cluster.resume()?;
        Ok(cluster)
    }

    pub fn server(&self) -> Server {
        let name = "postgres".to_owned();
        Server { directory: self.base.clone(), port: self.port, user: name.clone(), database: name }
    }

    /// A directory for what belongs to this cluster and is gone with it.
    pub fn base(&self) -> &Path {
        &self.base
    }

    pub fn log(&self) -> PathBuf {
        self.base.join("server.log")
    }

    /// Starts it, and waits until it has recovered.
    pub fn resume(&self) -> Result<()> {
        self.run("pg_ctl", &["start", "-w", "-t", "90", "-D", "data", "-l", "server.log"])
    }

    /// As if the machine had lost power, but for what it had written.
    pub fn crash(&self) -> Result<()> {
        self.run("pg_ctl", &["stop", "-w", "-m", "immediate", "-D", "data"])
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(&self.programs.join(program));
        // Not a pipe: the postmaster inherits it, and we would wait for its end.
        let said = self.base.join(format!("{program}.out"));
        let out = fs::File::create(&said)?;
        command.args(arguments).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        if command.status()?.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(format!("{program} failed:\n{}{tail}", fs::read_to_string(&said)?).into())
    }

    fn set_guard(&self) -> Result<Child> {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", GUARD, "guard"]).args([&self.programs, &self.base]);
        // Out of reach of a ctrl-C; it ends when its standard input does.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    /// As the server's user, with nothing of the caller's settings for clients.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.base).env("LC_ALL", "C");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            // It is our child and ends by itself; there is nothing to do about one that cannot.
            let _ = guard.wait();
        }
    }
}

/// In the directory for temporary files, unless a socket's name, of about a hundred bytes, would become too long.
fn base() -> PathBuf {
    let name = format!("pgi-history-{}", std::process::id());
    let temporary = std::env::temp_dir().join(&name);
    let longest = "/proxy/.s.PGSQL.12345".len() + temporary.as_os_str().len();
    if longest < 100 { temporary } else { Path::new("/tmp").join(name) }
}

/// Free at this moment; in a socket directory of our own it is a name and no more.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn nobody() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users
        .lines()
        .find_map(|line| line.strip_prefix("nobody:"))
        .ok_or("there is no user nobody")?;
    let mut ids = line.split(':').skip(1).map(str::parse);
    match (ids.next(), ids.next()) {
        (Some(uid), Some(gid)) => Ok((uid?, gid?)),
        _ => Err("/etc/passwd says nothing of the ids of nobody".into()),
    }
}

//! Where a server of our own lives: a directory of the server's user, which is gone when we are, and the programs that
//! are run there.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cluster::Result;

/// Waits until we are gone, however that came about, and leaves nothing behind.
const GUARD: &str = r#"read -r _; "$1/pg_ctl" stop -w -m immediate -D "$2/data"
[ -z "$3" ] || cp "$2/server.log" "$2.log"; rm -rf "$2""#;

/// Says where the logs of our servers are kept, as the beginning of a path: whoever runs the suites looks through them.
const KEEP_LOGS: &str = "KEEP_LOGS";

/// The kernel allows 107 bytes for the name of a socket; room for a directory within ours.
const LONGEST_BASE: usize = 100 - "/proxy/.s.PGSQL.12345".len();

/// Made once and copied, which takes a fraction of the time of initdb.
static TEMPLATE: Mutex<Option<Home>> = Mutex::new(None);
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A directory of the server's user, watched over by a guard.
pub struct Home {
    programs: PathBuf,
    pub base: PathBuf,
    user: Option<(u32, u32)>,
    guard: Option<Child>,
    /// A disk of its own is mounted on its data directory.
    mounted: bool,
}

impl Home {
    pub fn new() -> Result<Self> {
        let programs =
            env::var("PGBIN").map_err(|_| "PGBIN must name the directory of Postgres' programs")?;
        let user = if is_root()? { Some(nobody()?) } else { None };
        let mut home =
            Self { programs: programs.into(), base: base(), user, guard: None, mounted: false };
        fs::DirBuilder::new().mode(0o700).create(&home.base)?;
        if let Some((uid, gid)) = user {
            chown(&home.base, Some(uid), Some(gid))?;
        }
        home.guard = Some(home.set_guard()?);
        Ok(home)
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub fn run(&self, program: &Path, arguments: &[&Path]) -> Result<()> {
        let mut command = self.command(program);
        // Not a pipe: the postmaster inherits it, and we would wait for its end.
        let said = self.base.join("said");
        let out = fs::File::create(&said)?;
        command.args(arguments).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        if command.status()?.success() {
            return Ok(());
        }
        Err(format!("{} failed:\n{}", program.display(), fs::read_to_string(&said)?).into())
    }

    /// Whether we may: as an ordinary user, and in most containers, we may not.
    pub fn mount(&mut self, mebibytes: usize) -> Result<bool> {
        let (Some((uid, gid)), data) = (self.user, self.base.join("data")) else {
            return Ok(false);
        };
        fs::create_dir(&data)?;
        let options = format!("size={mebibytes}m,mode=700,uid={uid},gid={gid}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "pg_idempotent"]).arg(&data);
        self.mounted = mount.stderr(Stdio::null()).status()?.success();
        Ok(self.mounted)
    }

    fn set_guard(&self) -> io::Result<Child> {
        let (programs, base) = (self.programs.as_os_str(), self.base.as_os_str());
        let kept = env::var_os(KEEP_LOGS).unwrap_or_default();
        self.spawn_shell(GUARD, &[programs, base, &kept])
    }

    /// A shell that ends when its standard input does, out of reach of a ctrl-C.
    pub fn spawn_shell(&self, script: &str, arguments: &[&OsStr]) -> io::Result<Child> {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", script, "guard"]).args(arguments);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn()
    }

    /// The guard has left it beside the directory, as the server's user, who may not write where it belongs.
    fn keep_log(&self) {
        let (Some(kept), Some(name)) = (env::var_os(KEEP_LOGS), self.base.file_name()) else {
            return;
        };
        let left = self.base.with_extension("log");
        let mut to = kept;
        to.push(name);
        to.push(".log");
        // A directory that no server was started in has left none.
        let _ = fs::copy(&left, to).and_then(|_| fs::remove_file(&left));
    }

    /// As the server's user, with nothing of the caller's settings for clients. A backtrace that leaks shows in the log.
    /// A standby's receiver needs the libpq of its own Postgres, and finds the system's otherwise.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.base).env("LC_ALL", "C").env("RUST_BACKTRACE", "1");
        command.env("LD_LIBRARY_PATH", self.programs.join("../lib"));
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            // It is our child and ends by itself; there is nothing to do about one that cannot.
            let _ = guard.wait();
            self.keep_log();
        }
        if self.mounted {
            // The guard could empty it and no more. Nor is there anything to do about a disk that stays.
            let _ = Command::new("umount").arg(self.base.join("data")).status();
            let _ = fs::remove_dir_all(&self.base);
        }
    }
}

/// The data directory that all others are copied from. Its guard outlives the process by a moment.
pub fn template() -> Result<PathBuf> {
    let mut template = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(home) = &*template {
        return Ok(home.base.join("data"));
    }
    let home = Home::new()?;
    let as_told = [
        "-D",
        "data",
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
    ];
    home.run(&home.program("initdb"), &as_told.map(Path::new))?;
    let data = home.base.join("data");
    *template = Some(home);
    Ok(data)
}

/// In the directory for temporary files, unless a socket's name would become too long there.
fn base() -> PathBuf {
    let name = format!("pgi-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary = env::temp_dir().join(&name);
    if temporary.as_os_str().len() <= LONGEST_BASE {
        temporary
    } else {
        Path::new("/tmp").join(name)
    }
}

fn is_root() -> io::Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
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

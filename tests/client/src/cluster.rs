//! A Postgres of our own, to be stopped, killed and copied at will. `PGBIN` names the directory of its programs; as root
//! it is run by `nobody`, because Postgres refuses to be run by root.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::connect::Server;
use crate::watch::wait_until;
use crate::wire::Wire;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Whoever starts a cluster adds to these, and what comes last counts. Syncing to disk is of no use here: what a crash
/// of Postgres loses is what was not written, synced or not. `%b` tells whose lines are whose.
const SETTINGS: &str = "
fsync = off
full_page_writes = off
listen_addresses = ''
log_line_prefix = '%m [%p] %b: '
";

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

/// Gone with the value, and with the process.
pub struct Cluster {
    home: Home,
    port: u16,
}

/// What becomes of a base backup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backup {
    /// A server of its own.
    Restored,
    /// A standby that follows the server it was taken from.
    Standby,
}

impl Cluster {
    /// An empty one, running. `settings` are lines of postgresql.conf.
    pub fn start(settings: &str) -> Result<Self> {
        let cluster = Self { home: Home::new()?, port: free_port()? };
        cluster.fill(settings)?;
        Ok(cluster)
    }

    /// The same, with a disk of so many mebibytes for its data; `None` if we may not mount one.
    pub fn start_on_a_disk_of(mebibytes: usize, settings: &str) -> Result<Option<Self>> {
        let mut cluster = Self { home: Home::new()?, port: free_port()? };
        if !cluster.home.mount(mebibytes)? {
            return Ok(None);
        }
        cluster.fill(settings)?;
        Ok(Some(cluster))
    }

    fn fill(&self, settings: &str) -> Result<()> {
        // What is in it, as the directory itself may be there already.
        let (template, data) = (template()?.join("."), self.data());
        self.home.run(Path::new("cp"), &[Path::new("-a"), &template, &data])?;
        self.configure(settings)?;
        self.resume()
    }

    /// Another one, from a base backup of this, running.
    pub fn backup(&self, purpose: Backup, settings: &str) -> Result<Self> {
        let cluster = Self { home: Home::new()?, port: free_port()? };
        let (host, port, data) = (self.base(), self.port.to_string(), cluster.data());
        let mut arguments: Vec<&Path> =
            vec![Path::new("-h"), host, Path::new("-p"), Path::new(&port), Path::new("-D"), &data];
        arguments.extend(["-U", "postgres", "-c", "fast", "--no-sync"].map(Path::new));
        if purpose == Backup::Standby {
            arguments.push(Path::new("-R"));
        }
        cluster.home.run(&cluster.home.program("pg_basebackup"), &arguments)?;
        cluster.configure(settings)?;
        cluster.resume()?;
        Ok(cluster)
    }

    /// Adds lines to postgresql.conf.
    pub fn configure(&self, settings: &str) -> Result<()> {
        let conf = self.data().join("postgresql.conf");
        let (port, directory) = (self.port, self.base().display());
        let place = format!("port = {port}\nunix_socket_directories = '{directory}'\n");
        let before = fs::read_to_string(&conf)?;
        Ok(fs::write(&conf, format!("{before}{SETTINGS}{place}{settings}\n"))?)
    }

    pub fn server(&self) -> Server {
        let name = "postgres".to_owned();
        let directory = self.base().to_owned();
        Server { directory, port: self.port, user: name.clone(), database: name }
    }

    /// A new database in it.
    pub fn database(&self, name: &str) -> Result<Server> {
        self.server().client()?.batch_execute(&format!("CREATE DATABASE {name}"))?;
        Ok(self.server().with_database(name))
    }

    /// The directory of what belongs to this cluster and is gone with it; its sockets are here.
    pub fn base(&self) -> &Path {
        &self.home.base
    }

    pub fn log(&self) -> PathBuf {
        self.base().join("server.log")
    }

    /// The lines of the log that hold all of these words.
    pub fn said(&self, words: &[&str]) -> Result<Vec<String>> {
        let log = fs::read(self.log())?;
        let log = String::from_utf8_lossy(&log);
        let holds = |line: &&str| words.iter().all(|word| line.contains(word));
        Ok(log.lines().filter(holds).map(str::to_owned).collect())
    }

    /// Starts it, and waits until it answers.
    pub fn resume(&self) -> Result<()> {
        self.pg_ctl(&["start", "-w", "-t", "90", "-l", "server.log"])
    }

    /// Stops it as an administrator does.
    pub fn stop(&self) -> Result<()> {
        self.pg_ctl(&["stop", "-w", "-t", "90", "-m", "fast"])
    }

    /// As if the machine had lost power, but for what it had written.
    pub fn crash(&self) -> Result<()> {
        self.pg_ctl(&["stop", "-w", "-m", "immediate"])
    }

    /// Kills a backend with a signal that it cannot catch, and waits until the server has recovered from that.
    pub fn kill_a_backend(&self) -> Result<()> {
        let victim = Wire::connect(&self.server(), "victim", "")?;
        let mut witness = self.server().client()?;
        let pid = victim.pid().to_string();
        self.home.run(Path::new("kill"), &[Path::new("-KILL"), Path::new(&pid)])?;
        wait_until("the server has gone down", || witness.simple_query("").is_err());
        wait_until("the server is back", || self.server().client().is_ok());
        Ok(())
    }

    /// Lets a session's process have so much more address space than it has, or as much as it wants.
    pub fn limit(&self, session: &Wire, more: Option<usize>) -> Result<()> {
        let status = fs::read_to_string(format!("/proc/{}/status", session.pid()))?;
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kilobytes = size
            .ok_or("the session's process is gone")?
            .trim()
            .trim_end_matches(" kB")
            .parse::<usize>()?;
        let most =
            more.map_or("unlimited".to_owned(), |more| (kilobytes * 1024 + more).to_string());
        self.set_limit(session, "as", &most)
    }

    /// Lets a session's process make no file longer than this, or as long as it wants.
    pub fn limit_files(&self, session: &Wire, most: Option<usize>) -> Result<()> {
        let most = most.map_or("unlimited".to_owned(), |most| most.to_string());
        self.set_limit(session, "fsize", &most)
    }

    /// Only the soft limit, which whoever runs the server may raise again.
    fn set_limit(&self, session: &Wire, resource: &str, most: &str) -> Result<()> {
        let (limit, pid) = (format!("--{resource}={most}:"), session.pid().to_string());
        self.home.run(Path::new("prlimit"), &[&limit, "--pid", &pid].map(Path::new))
    }

    /// As the kernel does when memory is short: the postmaster is gone in the middle of whatever it did. Its children
    /// notice by and by; waits until the last one has.
    pub fn kill(&self) -> Result<()> {
        let file = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = file.lines().next().ok_or("an empty postmaster.pid")?;
        self.home.run(Path::new("kill"), &[Path::new("-KILL"), Path::new(pid)])?;
        wait_until("the last backend has noticed", || !self.is_at_work());
        // Nobody may be there to bury the dead, and until then its process id passes for one in use.
        fs::remove_file(self.data().join("postmaster.pid"))?;
        Ok(fs::remove_file(self.base().join(format!(".s.PGSQL.{}.lock", self.port)))?)
    }

    /// Whether a process works in the data directory, as all of Postgres' do.
    fn is_at_work(&self) -> bool {
        let data = self.data();
        let works = |process: fs::DirEntry| {
            fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data)
        };
        fs::read_dir("/proc").is_ok_and(|all| all.flatten().any(works))
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) -> Result<()> {
        self.pg_ctl(&["promote", "-w", "-t", "90"])
    }

    /// After a crash, and when `to` was promoted in its place: takes back what `to` has not seen, and follows it from now
    /// on. `settings` are lines of postgresql.conf, which comes from there, too.
    pub fn rejoin(&self, to: &Self, settings: &str) -> Result<()> {
        let source =
            format!("host={} port={} user=postgres dbname=postgres", to.base().display(), to.port);
        let (source, data) = (Path::new(&source), self.data());
        let told = [
            Path::new("-R"),
            Path::new("--no-sync"),
            Path::new("--source-server"),
            source,
            Path::new("-D"),
            &data,
        ];
        self.home.run(&self.home.program("pg_rewind"), &told)?;
        self.configure(settings)?;
        self.resume()
    }

    /// A script of the shell's, as the server's user; it must end when its standard input does.
    pub(crate) fn spawn_shell(&self, script: &str, argument: &str) -> io::Result<Child> {
        self.home.spawn_shell(script, &[OsStr::new(argument)])
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        let mut arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        let data = self.data();
        arguments.extend([Path::new("-D"), &data]);
        self.home.run(&self.home.program("pg_ctl"), &arguments).map_err(|error| {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            format!("{error}{}", tail.join("\n")).into()
        })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.base().join("data")
    }
}

/// A directory of the server's user, watched over by a guard.
struct Home {
    programs: PathBuf,
    base: PathBuf,
    user: Option<(u32, u32)>,
    guard: Option<Child>,
    /// A disk of its own is mounted on its data directory.
    mounted: bool,
}

impl Home {
    fn new() -> Result<Self> {
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

    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn run(&self, program: &Path, arguments: &[&Path]) -> Result<()> {
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
    fn mount(&mut self, mebibytes: usize) -> Result<bool> {
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
    fn spawn_shell(&self, script: &str, arguments: &[&OsStr]) -> io::Result<Child> {
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
fn template() -> Result<PathBuf> {
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

/// Free at this moment; in a socket directory of our own it is a name and no more.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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

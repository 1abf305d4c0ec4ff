//! A Postgres of our own, to be stopped, killed and copied at will. `PGBIN` names the directory of its programs; as root
//! it is run by `nobody`, because Postgres refuses to be run by root.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::connect::Server;
use crate::home::{Home, template};
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

/// Free at this moment; in a socket directory of our own it is a name and no more.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

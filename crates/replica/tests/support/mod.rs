//! A PostgreSQL of its own for a test: made, started, killed, and ended by its number.

#![allow(dead_code, reason = "not every test uses all of it")]

pub mod proxy;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const LONG: Duration = Duration::from_secs(60);

/// Where its programs are, the latest version; `None`, said aloud, if it is not installed.
pub fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"))
        .collect();
    found.retain(|bin| bin.join("initdb").exists());
    found.sort();
    if found.is_empty() {
        eprintln!("SKIPPED: PostgreSQL is not installed (Debian: apt install postgresql)");
    }
    found.pop()
}

/// It does not run as root.
fn command(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    pub port: u16,
    server: Option<Child>,
    settings: Vec<String>,
}

impl Postgres {
    pub fn start(name: &str) -> Option<Postgres> {
        let bin = programs()?;
        let dir = std::env::temp_dir().join(format!("enjamb-postgresql-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        if geteuid().is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(&dir).status().unwrap().success());
        }
        let made = command(&bin.join("initdb"))
            .args(["-U", "enjamb", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(dir.join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Postgres { bin, dir, port: free_port(), server: None, settings: Vec::new() };
        postgres.up();
        Some(postgres)
    }

    /// Starts it, again.
    pub fn up(&mut self) {
        let started = Instant::now();
        while started.elapsed() < LONG {
            self.server = Some(self.spawn());
            // It ends at once while what is left of an earlier one is still there.
            while self.server.as_mut().is_some_and(|server| server.try_wait().unwrap().is_none()) {
                if self.try_sql("SELECT 1").is_some() {
                    return;
                }
                assert!(started.elapsed() < LONG, "it does not start: {}", self.log());
                sleep(Duration::from_millis(50));
            }
            sleep(Duration::from_millis(50));
        }
        panic!("it does not start: {}", self.log());
    }

    fn spawn(&self) -> Child {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        command(&self.bin.join("postgres"))
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-p", &self.port.to_string(), "-k"])
            .arg(&self.dir)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "max_connections=30",
            ])
            .args(self.settings.iter().flat_map(|s| ["-c", s.as_str()]))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Puts a file into its directory.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.join("data").join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(&path).status().unwrap().success());
        }
    }

    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    pub fn url_at(&self, port: u16) -> String {
        format!("postgresql://enjamb@127.0.0.1:{port}/postgres?connect_timeout=2")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.server.as_ref().unwrap().id() as i32)
    }

    /// As a failure of the machine would end it.
    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        kill(Pid::from_raw(server.id() as i32), Signal::SIGKILL).unwrap();
        server.wait().unwrap();
    }

    /// A client, of that name, that says that.
    pub fn psql(&self, application: &str, statement: &str) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "enjamb", "-d", "postgres"])
            .args(["-v", "ON_ERROR_STOP=1", "-qAtc", statement])
            .env("PGAPPNAME", application)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        psql
    }

    fn try_sql(&self, statement: &str) -> Option<String> {
        let said = self.psql("test", statement).stdout(Stdio::piped()).output().unwrap();
        said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    pub fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|| panic!("failed: {statement}"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill(Pid::from_raw(server.id() as i32), Signal::SIGINT);
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A directory for one test, removed when it is over.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let dir =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("replica-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for what is to be true in the end.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < LONG, "never: {what}");
        sleep(Duration::from_millis(10));
    }
}

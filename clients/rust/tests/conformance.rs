//! The scenarios of clients/conformance against the application in `conformance/`, in both modes.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Command,
    sync::oneshot,
};

use crate::server::{Fresh, Result};

static DATABASE: Fresh = Fresh::named("rust_conformance");

/// Cargo puts an example beside the directory of the test programs.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a program");
    test.ancestors().nth(2).expect("a directory").join("examples").join(name)
}

/// Runs the application, and again whenever it ends; tells when it first listens.
async fn keep_running(
    mode: &'static str,
    port: u16,
    through: Option<String>,
    is_wanted: Arc<AtomicBool>,
    mut stop: oneshot::Receiver<()>,
    ready: oneshot::Sender<()>,
) {
    let tries = std::env::temp_dir().join(format!("conformance-{mode}-{port}"));
    let mut ready = Some(ready);
    while is_wanted.load(SeqCst) {
        let mut command = Command::new(example("conformance"));
        command
            .env("MODE", mode)
            .env("PORT", port.to_string())
            .env("TRIES", &tries)
            .env("PGDATABASE", DATABASE.name);
        if let Some(port) = &through {
            command.env("PGHOST", "127.0.0.1").env("PGPORT", port);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example is built with the tests");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        said.lines().next_line().await.expect("it says where it listens");
        if let Some(ready) = ready.take() {
            ready.send(()).expect("waited for");
        }
        tokio::select! {
            _ = child.wait() => {}
            _ = &mut stop => break,
        }
    }
    let _ = std::fs::remove_file(tries);
}

async fn conforms(mode: &'static str, pooled: Option<&str>) -> Result {
    DATABASE.admin().await;
    // `make test` starts the PgBouncers.
    let through = match pooled.map(std::env::var) {
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => return Ok(()),
        None => None,
    };
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let (is_wanted, (stop, stopped), (ready, is_ready)) =
        (Arc::new(AtomicBool::new(true)), oneshot::channel(), oneshot::channel());
    let application =
        tokio::spawn(keep_running(mode, port, through, Arc::clone(&is_wanted), stopped, ready));
    is_ready.await?;
    let runner = concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/run.py");
    // hyper refuses a header with DEL itself.
    let run = Command::new("python3")
        .args([runner, &format!("http://127.0.0.1:{port}"), "--mode", mode, "--without", "delete"])
        .output()
        .await?;
    is_wanted.store(false, SeqCst);
    stop.send(()).expect("it runs");
    application.await?;
    let said = String::from_utf8_lossy(&run.stdout);
    let failed: Vec<&str> = said.lines().filter(|line| !line.starts_with("passed")).collect();
    println!("{mode}: {}", said.lines().last().unwrap_or_default());
    assert!(
        run.status.success() && said.contains(", 0 failed"),
        "{failed:#?}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(said.lines().filter(|line| line.starts_with("passed")).count() > 50);
    Ok(())
}

#[tokio::test]
async fn in_transaction_mode() -> Result {
    conforms("transaction", None).await
}

#[tokio::test]
async fn in_lease_mode() -> Result {
    conforms("lease", None).await
}

#[tokio::test]
async fn in_transaction_mode_through_pgbouncer() -> Result {
    conforms("transaction", Some("PGBOUNCER_0")).await?;
    conforms("transaction", Some("PGBOUNCER_100")).await
}

#[tokio::test]
async fn in_lease_mode_through_pgbouncer() -> Result {
    conforms("lease", Some("PGBOUNCER_0")).await?;
    conforms("lease", Some("PGBOUNCER_100")).await
}

//! The first lines of README are what a new user types.

use tokio::process::Command;

use crate::{
    conformance::example,
    server::{Fresh, Result, variable},
};

static DATABASE: Fresh = Fresh::named("rust_readme");

#[tokio::test]
async fn the_first_lines_work() -> Result {
    let (readme, first) = (include_str!("../README.md"), include_str!("../examples/first.rs"));
    assert_eq!(
        readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()),
        Some(first)
    );
    let admin = DATABASE.admin().await.get().await?;
    admin.batch_execute("CREATE TABLE payment (customer text, amount numeric)").await?;
    let url = format!(
        "host={} port={} user=postgres dbname={}",
        variable("PGHOST"),
        variable("PGPORT"),
        DATABASE.name
    );
    for replayed in ["false", "true"] {
        let said = Command::new(example("first")).env("DATABASE_URL", &url).output().await?;
        assert_eq!(
            String::from_utf8(said.stdout)?,
            format!("{{\"paid\":25}} {replayed}\n"),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
    assert_eq!(admin.query_one("SELECT count(*) FROM payment", &[]).await?.get::<_, i64>(0), 1);
    Ok(())
}

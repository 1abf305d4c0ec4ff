"""The programs that play calls.json, one for each driver: what they need is made or fetched here."""

from pathlib import Path

import jdbc
import node_client
import ruby
import rust_client
from common import ROOT, run
from in_venv import interpreter

HERE = ROOT / "tests" / "drivers"


def python(driver):
    """With the packages that the client for Python is tested with."""
    return lambda: ([interpreter("python"), HERE / "python" / f"run_{driver}.py"], {})


def node(driver):
    """With what clients/node pins."""
    def command():
        node_client.install()
        return [node_client.node(), HERE / "node" / f"{driver}.cjs"], {"NODE_PATH": str(node_client.CLIENT / "node_modules"), "NODE_OPTIONS": ""}
    return command


def rust(driver):
    """With what rust/Cargo.lock pins. What the client for Rust is made of as well is there already."""
    def command():
        env = rust_client.env()
        run(["cargo", "build", "--quiet", "--locked", "--manifest-path", HERE / "rust" / "Cargo.toml"], env=env)
        return [Path(env["CARGO_TARGET_DIR"]) / "debug" / driver], {}
    return command


def java():
    """With the driver that Debian has."""
    return [jdbc.java(), "-cp", jdbc.class_path(), HERE / "java" / "Pgjdbc.java"], {}


def ruby_pg():
    """With the driver that Debian has."""
    command, env = ruby.command()
    return [*command, HERE / "ruby" / "ruby_pg.rb"], env


DRIVERS = {
    "psycopg": python("psycopg"),
    "asyncpg": python("asyncpg"),
    "sqlalchemy": python("sqlalchemy"),
    "sqlalchemy_asyncpg": python("sqlalchemy_asyncpg"),
    "django": python("django"),
    "node_postgres": node("node_postgres"),
    "postgres_js": node("postgres_js"),
    "tokio_postgres": rust("tokio_postgres"),
    "sqlx": rust("sqlx"),
    "pgjdbc": java,
    "ruby_pg": ruby_pg,
}

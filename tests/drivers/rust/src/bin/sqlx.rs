//! calls.json by way of sqlx.

use chrono::{DateTime, Utc};
use drivers::{Answers, Parameter, Saved, calls, hexadecimal, sql, transactions};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Error, Row, TypeInfo};
use uuid::Uuid;

fn cell(row: &PgRow, at: usize) -> Result<Value, Error> {
    Ok(match row.column(at).type_info().name() {
        "VOID" => Value::Null,
        "BOOL" => json!(row.try_get::<Option<bool>, _>(at)?),
        "INT4" => json!(row.try_get::<Option<i32>, _>(at)?),
        "INT8" => json!(row.try_get::<Option<i64>, _>(at)?),
        "FLOAT8" => json!(row.try_get::<Option<f64>, _>(at)?),
        "JSONB" => json!(row.try_get::<Option<Value>, _>(at)?),
        "UUID" => json!(row.try_get::<Option<Uuid>, _>(at)?.map(|uuid| uuid.to_string())),
        "TIMESTAMPTZ" => {
            json!(row.try_get::<Option<DateTime<Utc>>, _>(at)?.map(|time| time.to_string()))
        }
        "BYTEA" => json!(row.try_get::<Option<&[u8]>, _>(at)?.map(hexadecimal)),
        "TEXT[]" => json!(row.try_get::<Option<Vec<String>>, _>(at)?),
        _ => json!(row.try_get::<Option<&str>, _>(at)?),
    })
}

async fn play(
    connection: &mut PgConnection,
    transaction: &Value,
    saved: &mut Saved,
    answers: &mut Answers,
) -> Result<(), Error> {
    for call in calls(transaction) {
        let mut query = sqlx::query(AssertSqlSafe(sql(call)));
        for parameter in saved.parameters(call) {
            query = match parameter {
                Parameter::Text(value) => query.bind(value),
                Parameter::Json(value) => query.bind(value),
                Parameter::Integer(value) => query.bind(value),
                Parameter::Bigint(value) => query.bind(value),
                Parameter::Seconds(value) => query.bind(value),
                Parameter::Boolean(value) => query.bind(value),
                Parameter::Uuid(value) => query.bind(value),
                Parameter::Timestamp(value) => query.bind(value),
                Parameter::Bytes(value) => query.bind(value),
                Parameter::Texts(value) => query.bind(value),
                Parameter::Bigints(value) => query.bind(value),
                Parameter::Uuids(value) => query.bind(value),
            };
        }
        let rows = query.fetch_all(&mut *connection).await?;
        let cells = rows
            .iter()
            .map(|row| (0..row.len()).map(|at| cell(row, at)).collect())
            .collect::<Result<Vec<_>, _>>()?;
        answers.told(saved, call, cells);
    }
    Ok(())
}

async fn within(
    connection: &mut PgConnection,
    transaction: &Value,
    saved: &mut Saved,
    answers: &mut Answers,
) -> Result<(), Error> {
    if transaction["alone"].is_string() {
        return play(connection, transaction, saved, answers).await;
    }
    let mut open = connection.begin().await?;
    play(&mut open, transaction, saved, answers).await?;
    open.commit().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // As the environment says.
    let mut connection = PgConnectOptions::new().connect().await.expect("the server answers");
    let mut saved = Saved::default();
    for transaction in transactions() {
        let mut answers = Answers::default();
        let done = within(&mut connection, &transaction, &mut saved, &mut answers).await;
        answers.say(done.err().map(|error| {
            let sqlstate = error
                .as_database_error()
                .and_then(|found| found.code())
                .map(|code| code.into_owned());
            (sqlstate, error.to_string())
        }));
    }
    connection.close().await.expect("the connection ends well");
}

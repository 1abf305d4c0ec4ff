//! calls.json by way of tokio-postgres.

use std::env::var;

use chrono::{DateTime, Utc};
use drivers::{Answers, Parameter, Saved, calls, hexadecimal, sql, transactions};
use serde_json::{Value, json};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error, GenericClient, NoTls, Row};
use uuid::Uuid;

fn passed(parameter: &Parameter) -> &(dyn ToSql + Sync) {
    match parameter {
        Parameter::Text(value) => value,
        Parameter::Json(value) => value,
        Parameter::Integer(value) => value,
        Parameter::Bigint(value) => value,
        Parameter::Seconds(value) => value,
        Parameter::Boolean(value) => value,
        Parameter::Uuid(value) => value,
        Parameter::Timestamp(value) => value,
        Parameter::Bytes(value) => value,
        Parameter::Texts(value) => value,
        Parameter::Bigints(value) => value,
        Parameter::Uuids(value) => value,
    }
}

fn cell(row: &Row, at: usize) -> Result<Value, Error> {
    Ok(match *row.columns()[at].type_() {
        Type::VOID => Value::Null,
        Type::BOOL => json!(row.try_get::<_, Option<bool>>(at)?),
        Type::INT4 => json!(row.try_get::<_, Option<i32>>(at)?),
        Type::INT8 => json!(row.try_get::<_, Option<i64>>(at)?),
        Type::FLOAT8 => json!(row.try_get::<_, Option<f64>>(at)?),
        Type::JSONB => json!(row.try_get::<_, Option<Value>>(at)?),
        Type::UUID => json!(row.try_get::<_, Option<Uuid>>(at)?.map(|uuid| uuid.to_string())),
        Type::TIMESTAMPTZ => {
            json!(row.try_get::<_, Option<DateTime<Utc>>>(at)?.map(|time| time.to_string()))
        }
        Type::BYTEA => json!(row.try_get::<_, Option<&[u8]>>(at)?.map(hexadecimal)),
        Type::TEXT_ARRAY => json!(row.try_get::<_, Option<Vec<String>>>(at)?),
        _ => json!(row.try_get::<_, Option<&str>>(at)?),
    })
}

async fn play(
    client: &impl GenericClient,
    transaction: &Value,
    saved: &mut Saved,
    answers: &mut Answers,
) -> Result<(), Error> {
    for call in calls(transaction) {
        let parameters = saved.parameters(call);
        let rows =
            client.query(sql(call), &parameters.iter().map(passed).collect::<Vec<_>>()).await?;
        let cells = rows
            .iter()
            .map(|row| (0..row.len()).map(|at| cell(row, at)).collect())
            .collect::<Result<Vec<_>, _>>()?;
        answers.told(saved, call, cells);
    }
    Ok(())
}

async fn within(
    client: &mut Client,
    transaction: &Value,
    saved: &mut Saved,
    answers: &mut Answers,
) -> Result<(), Error> {
    if transaction["alone"].is_string() {
        return play(client, transaction, saved, answers).await;
    }
    let open = client.transaction().await?;
    play(&open, transaction, saved, answers).await?;
    open.commit().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let told = |name| var(name).expect("the environment names the server");
    let mut config = Config::new();
    config
        .host(told("PGHOST"))
        .port(told("PGPORT").parse().expect("a port"))
        .user(told("PGUSER"))
        .dbname(told("PGDATABASE"));
    let (mut client, connection) = config.connect(NoTls).await.expect("the server answers");
    let talking = tokio::spawn(connection);
    let mut saved = Saved::default();
    for transaction in transactions() {
        let mut answers = Answers::default();
        let done = within(&mut client, &transaction, &mut saved, &mut answers).await;
        answers.say(
            done.err().map(|error| {
                (error.code().map(|code| code.code().to_owned()), format!("{error:?}"))
            }),
        );
    }
    drop(client);
    talking.await.expect("the connection does not panic").expect("the connection ends well");
}

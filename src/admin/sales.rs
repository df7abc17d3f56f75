//! Answers about sales, and their changes.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin::problem::{Code, Problem};
use crate::admin::routes::Change;
use crate::admin::{Answer, Parts};
use crate::domain::document::BufferDocument;
use crate::domain::{Invalid, Object, Phase, Sale, SaleDocument, SaleId};
use crate::sales::{Changed, Edit, Effect};
use crate::store::StoredSale;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StockDocument {
    pool: String,
    delta: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BufferChange {
    /// `null`: the buffer that the nodes are configured with.
    #[serde(deserialize_with = "Deserialize::deserialize")]
    buffer: Option<BufferDocument>,
}

pub(super) async fn list(parts: &Parts) -> Result<Answer, Problem> {
    let sales = parts.store.sales().await?;
    let sales: Vec<_> = sales.iter().map(|stored| summary(parts, stored)).collect();
    Ok(Answer::ok(json!({"sales": sales})))
}

/// The definition, as it can be sent again.
pub(super) async fn show(parts: &Parts, sale: &SaleId) -> Result<Answer, Problem> {
    let stored = stored(parts, sale).await?;
    Ok(Answer::ok(document(&stored.sale)))
}

/// Reads the body of a change, as far as it has one.
pub(super) fn edit(change: Change, body: &[u8]) -> Result<Edit, Problem> {
    Ok(match change {
        Change::Plain(edit) => edit,
        Change::Put => Edit::Put(Box::new(parsed(body)?)),
        Change::Stock => {
            let StockDocument { pool, delta } = parsed(body)?;
            Edit::AddStock { pool, delta }
        }
        Change::Buffer => Edit::SetBuffer(parsed::<BufferChange>(body)?.buffer),
    })
}

/// Changes a sale and tells what it was, what it is, and how far that has come.
pub(super) async fn change(
    parts: &Parts,
    sale: &SaleId,
    edit: &Edit,
    (who, dry_run): (&str, bool),
) -> Result<Answer, Problem> {
    let Changed { before, after, effect } = parts.definitions.change(sale, edit, who, dry_run).await?;
    let (name, status, why) = match &effect {
        Effect::Unchanged => ("unchanged", 200, None),
        Effect::Applied if before.is_none() && !dry_run => ("applied", 201, None),
        Effect::Applied => ("applied", 200, None),
        Effect::Stored { why } => ("stored", if dry_run { 200 } else { 202 }, Some(why)),
    };
    if !dry_run && effect != Effect::Unchanged {
        tracing::info!(who, what = edit.what(), %sale, version = after.version, effect = name, "changed by an operator");
    }
    let mut body = json!({
        "sale": sale.as_str(),
        "before": before.as_ref().map(document),
        "after": document(&after),
        "effect": name,
        "dry_run": dry_run,
    });
    if let Some(why) = why {
        body["why"] = why.as_str().into();
    }
    Ok(Answer::json(status, body))
}

pub(super) async fn stored(parts: &Parts, sale: &SaleId) -> Result<StoredSale, Problem> {
    let stored = parts.store.sale(sale).await?;
    stored.ok_or_else(|| Problem::new(Code::UnknownSale, "There is no such sale."))
}

pub(super) fn phase(parts: &Parts, sale: &Sale) -> &'static str {
    match sale.phase(parts.clock.now()) {
        Phase::NotOpen { .. } => "not_open",
        Phase::Open => "open",
        Phase::Paused => "paused",
        Phase::Closed => "closed",
    }
}

fn summary(parts: &Parts, stored: &StoredSale) -> Value {
    json!({
        "sale": stored.sale.id.as_str(),
        "phase": phase(parts, &stored.sale),
        "applied_version": stored.applied_version,
        "definition": document(&stored.sale),
    })
}

fn document(sale: &Sale) -> Value {
    serde_json::to_value(SaleDocument::from(sale)).unwrap_or_default()
}

/// What is no JSON is malformed; JSON that is not what it should be is invalid.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        Ok(Object(document)) => Ok(document),
        Err(error) if error.is_data() => Err(Problem::invalid(&[Invalid::new("", error)])),
        Err(error) => Err(Problem::new(Code::Malformed, format!("The body is no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_change_is_told_in_the_words_of_the_interface() {
        let told = |change, body: &str| {
            let document = edit(change, body.as_bytes()).expect_err(body).document();
            let detail = document["errors"][0]["detail"].as_str().or(document["detail"].as_str()).unwrap_or_default();
            (document["code"].as_str().unwrap_or_default().to_owned(), detail.to_owned())
        };
        for (change, body, code, words) in [
            (Change::Stock, "", "malformed", "The body is no JSON"),
            (Change::Stock, r#"["standard",1]"#, "invalid", "expected an object"),
            (Change::Stock, r#"{"pool":"standard"}"#, "invalid", "missing field `delta`"),
            (Change::Put, "[]", "invalid", "expected an object"),
            (Change::Put, r#"{"name":"x","pools":[["a",1,1,null]]}"#, "invalid", "expected an object"),
            (Change::Buffer, r#"{"buffer":-1}"#, "invalid", "a number of units such as 50"),
            (Change::Buffer, "{}", "invalid", "missing field `buffer`"),
        ] {
            let (is_code, detail) = told(change, body);
            assert_eq!(is_code, code, "{body}");
            assert!(detail.contains(words), "{body}: {detail}");
        }
    }
}

//! `rushgate sale`: makes sales, runs them, and shows how they stand.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::client::{Client, ClientError};
use crate::cli::remote::{Remote, each, table, told};
use crate::cli::{Exit, Failure};
use crate::config::Loaded;
use crate::domain::SaleId;

mod why;

/// Make sales, run them, and show how they stand; asks a running process by its admin API.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  rushgate sale create concert-1 concert.json
  rushgate sale open concert-1
  rushgate sale balance concert-1
  rushgate sale add-stock concert-1 standard +500 --dry-run")]
pub(super) struct Sale {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all sales.
    #[command(after_help = "Example:
  rushgate sale list --json")]
    List,
    /// Show a sale's definition, in the form in which it can be sent again.
    #[command(after_help = "Example:
  rushgate sale show concert-1 --json > concert.json")]
    Show(Named),
    /// Make a sale from a JSON file.
    #[command(after_help = "Example:
  rushgate sale create concert-1 concert.json --dry-run
  echo '{\"name\":\"Concert\",\"currency\":\"CNY\",\"pools\":[{\"id\":\"standard\",\"capacity\":10000,\"price\":55350}]}' |
      rushgate sale create concert-1 -")]
    Create(Create),
    /// Let buyers in now, whatever the window said.
    #[command(after_help = "Example:
  rushgate sale open concert-1")]
    Open(Change),
    /// Take no claims until it is resumed; holds can be paid all the same.
    #[command(after_help = "Example:
  rushgate sale pause concert-1")]
    Pause(Change),
    /// Go on with a paused sale.
    #[command(after_help = "Example:
  rushgate sale resume concert-1")]
    Resume(Change),
    /// Close a sale for good.
    #[command(after_help = "Example:
  rushgate sale close concert-1 --dry-run")]
    Close(Change),
    /// Add units to every leg of a pool, or take free ones away.
    #[command(after_help = "Example:
  rushgate sale add-stock concert-1 standard +500
  rushgate sale add-stock concert-1 standard -20 --dry-run")]
    AddStock(AddStock),
    /// Set how much each node may hold beyond its fair part.
    #[command(after_help = "Example:
  rushgate sale buffer concert-1 20%
  rushgate sale buffer concert-1 50
  rushgate sale buffer concert-1 default")]
    Buffer(SetBuffer),
    /// Show the one equation, capacity = free + held + sold, with what is on its way.
    #[command(after_help = "Example:
  rushgate sale balance concert-1")]
    Balance(Named),
    /// Say why a buyer's claim is refused, or what became of an order.
    #[command(after_help = "Example:
  rushgate sale why concert-1 buyer-17
  rushgate sale why --order 6f1c0b7d4a9e4c5f8d2b3a1e0c9f8d7e")]
    Why(why::Why),
}

#[derive(Debug, Args)]
struct Named {
    sale: SaleId,
}

#[derive(Debug, Args)]
struct Change {
    sale: SaleId,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Create {
    sale: SaleId,
    /// The sale's definition as JSON; - reads it from the standard input.
    file: PathBuf,
    /// Change the sale if there is one already. Pools cannot be removed, nor stops changed.
    #[arg(long)]
    replace: bool,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct AddStock {
    sale: SaleId,
    pool: String,
    /// Units to add, such as +500, or to take away, such as -20.
    #[arg(allow_negative_numbers = true)]
    delta: i64,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct SetBuffer {
    sale: SaleId,
    /// Units such as 50, a percentage of the fair part such as 20%, or default: what the nodes are configured with.
    buffer: String,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Sale {
    pub(super) async fn run(self, loaded: Loaded) -> Result<Exit, Failure> {
        let client = self.remote.client(&loaded.settings)?;
        let (answer, shown): (Value, fn(&Value) -> String) = match self.action {
            Action::List => (client.get("/admin/v1/sales").await?, shown_list),
            Action::Show(Named { sale }) => (client.get(&format!("/admin/v1/sales/{sale}")).await?, shown_sale),
            Action::Balance(Named { sale }) => {
                (client.get(&format!("/admin/v1/sales/{sale}/balance")).await?, shown_balance)
            }
            Action::Why(why) => (client.get(&why.path()).await?, why::shown),
            action => (change(&client, action).await?, shown_change),
        };
        self.remote.print(&answer, shown)
    }
}

async fn change(client: &Client, action: Action) -> Result<Value, Failure> {
    let path = |sale: &SaleId, action: &str, dry_run: bool| {
        format!("/admin/v1/sales/{sale}{action}{}", if dry_run { "?dry_run=true" } else { "" })
    };
    let plain = |change: &Change, action: &str| path(&change.sale, action, change.dry_run);
    Ok(match action {
        Action::Open(change) => client.post(&plain(&change, "/open"), None).await?,
        Action::Pause(change) => client.post(&plain(&change, "/pause"), None).await?,
        Action::Resume(change) => client.post(&plain(&change, "/resume"), None).await?,
        Action::Close(change) => client.post(&plain(&change, "/close"), None).await?,
        Action::AddStock(AddStock { sale, pool, delta, dry_run }) => {
            client.post(&path(&sale, "/stock", dry_run), Some(&json!({"pool": pool, "delta": delta}))).await?
        }
        Action::Buffer(SetBuffer { sale, buffer, dry_run }) => {
            client.patch(&path(&sale, "/buffer", dry_run), &json!({"buffer": buffer_value(&buffer)})).await?
        }
        Action::Create(create) => {
            let document = document(&create)?;
            client
                .put(&path(&create.sale, "", create.dry_run), &document)
                .await
                .map_err(|error| exists(error, &create))?
        }
        Action::List | Action::Show(_) | Action::Balance(_) | Action::Why(_) => Value::Null,
    })
}

/// A conflict with a sale that was not meant to be there says how to mean it.
fn exists(error: ClientError, create: &Create) -> Failure {
    match error {
        ClientError::Problem { code, .. } if code == "conflict" && !create.replace => {
            Failure::Failed(anyhow!("there is a sale {} already; --replace changes it", create.sale))
        }
        error => error.into(),
    }
}

fn buffer_value(text: &str) -> Value {
    match text.parse::<u32>() {
        _ if text == "default" => Value::Null,
        Ok(units) => units.into(),
        Err(_) => text.into(),
    }
}

/// Reads the file. One that makes a new sale says so, unless it says itself which version it is of.
fn document(create: &Create) -> Result<Value, Failure> {
    let is_stdin = create.file.as_os_str() == "-";
    let name = if is_stdin { "the standard input".to_owned() } else { create.file.display().to_string() };
    let mut text = String::new();
    if is_stdin {
        io::stdin().read_to_string(&mut text).with_context(|| format!("reading {name}"))?;
    } else {
        text = fs::read_to_string(&create.file).with_context(|| format!("reading {name}"))?;
    }
    let mut document: Value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
    if let Some(fields) = document.as_object_mut().filter(|_| !create.replace) {
        fields.insert("version".to_owned(), 0.into());
    }
    Ok(document)
}

fn shown_list(answer: &Value) -> String {
    let rows = each(&answer["sales"]).map(|sale| {
        let definition = &sale["definition"];
        let pools: Vec<_> = each(&definition["pools"])
            .map(|pool| format!("{} {}", told(&pool["id"]), told(&pool["capacity"])))
            .collect();
        let applied = if sale["applied_version"] == definition["version"] { "" } else { ", not applied yet" };
        [
            told(&sale["sale"]),
            told(&sale["phase"]),
            told(&definition["opens_at"]),
            pools.join(", "),
            format!("{}{applied}", told(&definition["version"])),
            told(&definition["name"]),
        ]
    });
    table(["SALE", "PHASE", "OPENS", "POOLS", "VERSION", "NAME"], rows)
}

fn shown_sale(sale: &Value) -> String {
    let fields = sale.as_object().into_iter().flatten().filter(|(field, _)| *field != "pools");
    let fields: Vec<_> = fields.map(|(field, value)| format!("{field:<20} {}", told(value))).collect();
    let rows = each(&sale["pools"]).map(|pool| {
        let price = if pool["price"].is_null() { &pool["fares"] } else { &pool["price"] };
        [told(&pool["id"]), told(&pool["capacity"]), told(price)]
    });
    format!("{}\n\n{}", fields.join("\n"), table(["POOL", "CAPACITY", "PRICE"], rows))
}

fn shown_change(answer: &Value) -> String {
    let (sale, version) = (told(&answer["sale"]), told(&answer["after"]["version"]));
    let dry_run = answer["dry_run"] == true;
    let mut lines = vec![match (answer["effect"].as_str(), dry_run) {
        (Some("unchanged"), _) => format!("{sale} is like this already (version {version})."),
        (Some("stored"), true) => format!("{sale} would be stored as version {version}, and applied later."),
        (Some("stored"), false) => format!("{sale} is stored as version {version}, and will be applied."),
        (_, true) => format!("{sale} would be version {version}; nothing was changed."),
        (_, false) => format!("{sale} is version {version} now."),
    }];
    lines.extend(answer["why"].as_str().map(|why| format!("  why later: {why}")));
    let (before, after) = (&answer["before"], &answer["after"]);
    let fields = |value| Value::as_object(value).into_iter().flatten().map(|(field, _)| field);
    let gone = fields(before).filter(|field| after[*field].is_null());
    for field in fields(after).chain(gone).filter(|field| *field != "version" && before[*field] != after[*field]) {
        if field == "pools" {
            lines.extend(changed_pools(&before["pools"], &after["pools"]));
        } else {
            lines.push(format!("  {field}: {} → {}", told(&before[field]), told(&after[field])));
        }
    }
    lines.join("\n") + "\n"
}

fn changed_pools(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for pool in each(after) {
        let old = each(before).find(|old| old["id"] == pool["id"]).unwrap_or(&Value::Null);
        let fields = pool.as_object().into_iter().flatten().filter(|(field, value)| old[*field] != **value);
        for (field, value) in fields.filter(|(field, _)| *field != "id") {
            lines.push(format!("  pool {} {field}: {} → {}", told(&pool["id"]), told(&old[field]), told(value)));
        }
    }
    lines
}

fn shown_balance(balance: &Value) -> String {
    let applied = if balance["applied_version"] == balance["version"] { "" } else { " (not applied yet)" };
    let (sale, phase, version) = (told(&balance["sale"]), told(&balance["phase"]), told(&balance["version"]));
    let nodes = each(&balance["nodes"]).map(|node| {
        let pools = node["shards"].as_object().into_iter().flatten();
        let pools: Vec<_> = pools.map(|(pool, left)| format!("{pool} {}", legs_left(left))).collect();
        [told(&node["node"]), told(&node["weight"]), pools.join(", ")]
    });
    format!(
        "{sale} is {phase}, version {version}{applied}.\n\n{}\n{}\n{}",
        shown_legs(balance),
        shown_motion(balance),
        table(["NODE", "WEIGHT", "MAY LET THROUGH"], nodes)
    )
}

fn shown_legs(balance: &Value) -> String {
    let rows = each(&balance["legs"]).map(|leg| {
        let way = match (leg["from"].as_str(), leg["to"].as_str()) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            _ => "-".to_owned(),
        };
        let [capacity, free, held, sold] = ["capacity", "free", "held", "sold"].map(|field| told(&leg[field]));
        let holds = if leg["balanced"] == true { "=" } else { "≠" };
        let store = format!("{} held, {} paid", told(&leg["store"]["held"]), told(&leg["store"]["paid"]));
        [told(&leg["pool"]), way, format!("{capacity} {holds}"), free, held, sold, store]
    });
    table(["POOL", "LEG", "CAPACITY", "FREE", "+ HELD", "+ SOLD", "STORE"], rows)
}

fn shown_motion(balance: &Value) -> String {
    let alive = each(&balance["lanes"]).filter(|lane| lane["lane"] != "dead");
    let messages: u64 = alive.filter_map(|lane| lane["messages"].as_u64()).sum();
    let messages = if balance["lanes"].is_null() { "?".to_owned() } else { messages.to_string() };
    let [outbox, moves] = ["outbox_entries", "stock_moves"].map(|field| told(&balance[field]));
    let drift = &balance["drift"];
    let when = if drift["in_motion"] == true { ", while orders are on their way" } else { "" };
    let mut lines = vec![
        format!("On their way: {outbox} outbox entries, {messages} messages, {moves} stock moves."),
        format!("Drift: {} units{when}.", told(&drift["units"])),
    ];
    lines.extend(each(&drift["orders"]).map(|order| format!("  {}", told(order))));
    let why = balance["why_no_lanes"].as_str();
    lines.extend(why.map(|why| format!("Messages and dead letters are not known: {why}.")));
    let count = |field: &str| balance[field].as_u64().unwrap_or(0);
    for (count, what) in [
        (count("refunds_due"), "refunds due"),
        (count("late_payments"), "late payments"),
        (count("stale"), "stale orders"),
        (count("stale_refused"), "stale orders that were refused"),
        (count("quarantined"), "quarantined orders"),
        (count("dead_letters"), "dead letters"),
    ] {
        if count > 0 {
            lines.push(format!("{count} {what}."));
        }
    }
    lines.join("\n") + "\n"
}

fn legs_left(left: &Value) -> String {
    each(left).map(told).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;

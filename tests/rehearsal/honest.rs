//! Where nothing is wrong, every crowd passes, and what is told is what the API tells.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::run::{FAILED, PASSED, Ran, all_closed, at, ran};
use crate::site::{Backends, Site};

#[tokio::test(flavor = "multi_thread")]
async fn every_crowd_passes_at_three_nodes_that_sell_exactly() {
    let site = Site::cluster(3, 1, "").await;
    let of = async |settings: &str| ran(&mut at(&site, &format!("--json {settings}"))).await;
    // All at once, each with a sale of its own: they share the audit, which one may have at a time.
    let (rush, late, real, soak, train) = tokio::join!(
        of("--duration 4s --rate 80 --stock 100"),
        of("--crowd too-late --duration 3s --rate 80 --stock 10"),
        of("--crowd real --duration 5s --rate 60 --stock 15 --hold 2s"),
        of("--crowd soak --duration 4s --rate 30 --stock 25 --hold 2s --repeat 50"),
        of("--crowd train --duration 4s --rate 40 --stock 30 --hold 2s"),
    );
    for one in [&rush, &late, &real, &soak, &train] {
        one.ended(PASSED, &[]);
        tells_what_is_there(&site, one).await;
    }
    all_closed(&site, 5).await;
    let [rush, late, soak, train] = [rush, late, soak, train].map(|one| one.report());
    assert_eq!((&rush["accepted"], &rush["endings"]["paid"]), (&json!(100), &json!(100)), "{rush}");
    assert_eq!((&late["accepted"], &late["answers"]["held"]), (&json!(10), &json!(10)), "{late}");
    assert!(late["answers"]["sold_out"].as_u64() > Some(100), "{late}");
    // Who clicks twice hears the same, and who tries anew that one is enough.
    assert!(soak["answers"]["replayed"].is_u64() && soak["answers"]["limit_reached"].is_u64(), "{soak}");
    assert_eq!(train["balance"]["legs"].as_array().unwrap().len(), 8, "{train}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_with_everything_in_it_passes_and_leaves_three_reports() {
    let site = Site::start(Backends::Embedded, "").await;
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("reports");
    let mut command = at(&site, "--duration 2s --rate 200 --stock 100");
    let ran = ran(command.arg("--out").arg(&folder)).await;
    ran.ended(PASSED, &["rushgate rush: PASSED\n  ✓ sold exactly", "wrote    "]);
    assert_eq!(ran.err, "", "a pipe stays quiet");
    let [text, json, page] = ["txt", "json", "html"]
        .map(|kind| std::fs::read_to_string(folder.join(format!("rehearsal-rush.{kind}"))).unwrap());
    assert!(ran.out.starts_with(&text), "{text}");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["verdict"], json!({"passed": true, "broken": [], "missed": []}));
    assert!(page.contains("<svg") && page.contains("passed"), "{page}");
    all_closed(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_and_provider_sign_where_the_deployment_wants_it_and_who_cannot_is_told_so_before_there_is_a_sale() {
    let secrets = "http.auth = \"jwt\"\nhttp.jwt_secret = \"a secret of buyers\"\nadmin.token = \"a secret of operators\"\n\
                   payment.provider = \"signed-callback\"\npayment.callback_secret = \"a secret of the provider\"";
    let site = Site::start(Backends::Embedded, secrets).await;
    let signed = async |buyers: &str, provider: &str| {
        let mut command = at(&site, "--duration 2s --rate 40 --stock 20 --json");
        command.env("RUSHGATE_ADMIN_TOKEN", "a secret of operators");
        ran(command.env("JWT_SECRET", buyers).env("CALLBACK_SECRET", provider)).await
    };
    for (buyers, provider, says) in [
        ("", "", "where http.auth is jwt, give --jwt-secret"),
        ("another", "", "it must be its http.jwt_secret"),
        ("a secret of buyers", "", "give --callback-secret"),
        ("a secret of buyers", "another", "--callback-secret is not its payment.callback_secret"),
    ] {
        signed(buyers, provider).await.ended(FAILED, &[says]);
    }
    let ran = signed("a secret of buyers", "a secret of the provider").await;
    ran.ended(PASSED, &[]);
    assert_eq!(ran.report()["endings"]["paid"], 20, "{}", ran.out);
    assert!(!ran.out.contains("a secret"), "a report tells secrets");
    // With a token, and of one rehearsal only: the others made none.
    let listed =
        site.admin().get("/admin/v1/sales", &[("authorization", "Bearer a secret of operators")]).await.unwrap();
    assert_eq!(listed.body["sales"].as_array().unwrap().len(), 1, "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_asks_in_the_same_order_and_a_dry_run_makes_no_sale() {
    let site = Site::start(Backends::Embedded, "").await;
    let first = async |seed: u64| {
        let ran = ran(&mut at(&site, &format!("--crowd train --seed {seed} --dry-run --json"))).await;
        ran.ended(PASSED, &[]);
        let plan = ran.report();
        assert!(plan["first"].as_array().is_some_and(|buyers| buyers.len() == 20), "{plan}");
        (plan["buyers"].clone(), plan["first"].clone())
    };
    assert_eq!(first(7).await, first(7).await);
    assert_ne!(first(7).await.1, first(8).await.1);
    all_closed(&site, 0).await;
}

/// The report's balance is the sale's own, and its claims are the gateways' orders.
async fn tells_what_is_there(site: &Site, ran: &Ran) {
    let report = ran.report();
    assert_eq!(report["verdict"], json!({"passed": true, "broken": [], "missed": []}), "{report}");
    let sale = report["sale"].as_str().unwrap_or_default();
    let now = site.admin().get(&format!("/admin/v1/sales/{sale}/balance"), &[]).await.unwrap();
    let capacities = |balance: &Value| -> Vec<_> {
        balance["legs"].as_array().unwrap().iter().map(|leg| (leg["pool"].clone(), leg["capacity"].clone())).collect()
    };
    assert_eq!(capacities(&report["balance"]), capacities(&now.body), "{report}");
    let orders: u64 = now.body["orders"].as_object().unwrap().values().filter_map(|of| of["orders"].as_u64()).sum();
    assert_eq!(report["accepted"], orders, "{report}: {}", now.body);
    let paid = now.body["orders"]["paid"]["orders"].as_u64().unwrap_or(0);
    assert_eq!(report["endings"]["paid"].as_u64().unwrap_or(0), paid, "{report}: {}", now.body);
}

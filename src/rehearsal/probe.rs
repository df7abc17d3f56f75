//! What a rehearsal needs, looked for before there is a sale: gateways that answer, and that know its buyers and its provider.

use anyhow::anyhow;

use crate::rehearsal::buyer::Visited;
use crate::rehearsal::doors::Reply;

/// Looks at every gateway, and changes nothing.
pub(super) async fn check(visited: &Visited) -> anyhow::Result<()> {
    let settings = &visited.api.settings;
    let (signs_buyers, signs_payments) = (!settings.jwt_secret.is_empty(), !settings.callback_secret.is_empty());
    for gateway in &settings.gateways {
        if let Some(why) = no_gateway(&visited.api.sale(gateway, &visited.sale).await) {
            return Err(anyhow!("{gateway}: {why}"));
        }
        let reply = visited.api.probe(gateway, &format!("{}-probe", visited.sale)).await?;
        if let Some(why) = refused(&reply, signs_buyers, signs_payments) {
            return Err(anyhow!("{gateway}: {why}"));
        }
        if signs_payments {
            let reply = visited.api.probe_callback(gateway).await;
            if reply.status == 401 {
                let why = "it does not believe the provider: --callback-secret is not its payment.callback_secret";
                return Err(anyhow!("{gateway}: {why} ({})", reply.text("detail")));
            }
        }
    }
    Ok(())
}

/// Why whoever answers this to a look at a sale that is not there is no gateway, if it is none.
fn no_gateway(reply: &Reply) -> Option<String> {
    match (reply.status, reply.text("code")) {
        (0, _) => Some(format!("nobody answers ({}); is it a public listener, and does it run?", reply.said)),
        // There is no such sale, or this is not the moment to tell.
        (404, "unknown_sale") | (503, "recovering" | "unavailable" | "busy") => None,
        _ => Some(format!("it is no public listener of a gateway; it answers {}", reply.told())),
    }
}

/// Why a gateway that answers this to a payment of no order cannot be rehearsed at, if it cannot.
fn refused(reply: &Reply, signs_buyers: bool, signs_payments: bool) -> Option<String> {
    let detail = reply.text("detail");
    match (reply.status, reply.text("code")) {
        (401, _) if signs_buyers => Some(format!(
            "it does not know buyers by --jwt-secret ({detail}): it must be its http.jwt_secret, and http.auth must be jwt"
        )),
        (401, _) => {
            Some(format!("it does not know buyers by X-Buyer-Id ({detail}): where http.auth is jwt, give --jwt-secret"))
        }
        (422, "invalid") if signs_payments => {
            Some("its provider is the sandbox: leave --callback-secret out (payment.provider)".to_owned())
        }
        (422, "invalid") => Some(
            "its provider signs what it tells (payment.provider): give --callback-secret, and the rehearsal plays it"
                .to_owned(),
        ),
        // There is no such order, or this is not the moment to tell.
        (404, "not_found") | (429 | 503, _) => None,
        _ => Some(format!("it does not answer as a gateway, but {}", reply.told())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(status: u16, code: &str) -> Reply {
        Reply { status, body: json!({"code": code}), ..Reply::default() }
    }

    #[test]
    fn a_gateway_knows_that_there_is_no_such_sale_or_cannot_tell_yet() {
        let why = |status, code| no_gateway(&reply(status, code)).unwrap_or_default();
        assert_eq!([why(404, "unknown_sale"), why(503, "recovering")], ["", ""]);
        assert!(why(0, "").contains("nobody answers"));
        for (status, code) in [(404, ""), (401, "unauthenticated"), (200, ""), (404, "not_found")] {
            assert!(why(status, code).contains("no public listener"), "{status} {code}");
        }
    }

    #[test]
    fn what_is_missing_is_named_by_its_flag() {
        let why = |status, code, buyers, payments| refused(&reply(status, code), buyers, payments).unwrap_or_default();
        assert_eq!([why(404, "not_found", false, false), why(503, "recovering", true, true)], ["", ""]);
        for (said, part) in [
            (why(401, "unauthenticated", false, false), "give --jwt-secret"),
            (why(401, "unauthenticated", true, false), "by --jwt-secret"),
            (why(422, "invalid", false, false), "give --callback-secret"),
            (why(422, "invalid", false, true), "leave --callback-secret out"),
            (why(500, "", false, false), "does not answer as a gateway"),
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

use super::*;
use crate::domain::TraceContext;
use crate::spans::{Kind, Value as Told};

const ONE: &str = r#"{"quantity":1}"#;
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl Gateway {
    /// A claim in this trace.
    async fn traced(&self, buyer: &str, parent: &str) -> Heard {
        let headers = [
            ("x-buyer-id", buyer),
            ("content-type", "application/json"),
            ("traceparent", parent),
            ("tracestate", "rojo=1"),
            ("x-request-id", "r"),
        ];
        self.call("POST", "/v1/sales/concert-1/orders", &headers, ONE).await
    }

    /// So many spans, in the order in which they were told.
    async fn spans<const N: usize>(&mut self) -> [Span; N] {
        let mut spans = Vec::new();
        while spans.len() < N {
            spans.push(timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap());
        }
        spans.try_into().unwrap()
    }
}

fn attribute<'s>(span: &'s Span, name: &str) -> Option<&'s Told> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[tokio::test]
async fn a_claim_in_a_trace_tells_what_was_done_for_it_and_nothing_of_its_buyer() {
    let mut gateway = Gateway::open().await;
    assert_eq!(gateway.traced("ann-the-buyer", PARENT).await.status, 201);
    let [call, message, served] = gateway.spans().await;
    let came = TraceContext::read(PARENT.as_bytes(), [&b"rojo=1"[..]]).unwrap();
    assert_eq!((served.context.trace, served.parent), (came.trace, Some(came.span)));
    assert_eq!((&*served.name, served.kind), ("POST /v1/sales/{sale}/orders", Kind::Server));
    for (name, value) in [
        ("http.request.method", Told::Text("POST".to_owned())),
        ("http.route", Told::Text("/v1/sales/{sale}/orders".to_owned())),
        ("url.path", Told::Text("/v1/sales/concert-1/orders".to_owned())),
        ("http.response.status_code", Told::Number(201)),
    ] {
        assert_eq!(attribute(&served, name), Some(&value), "{name}");
    }
    for (span, name, kind) in [(&call, "confirm claims", Kind::Client), (&message, "publish orders", Kind::Producer)] {
        assert_eq!((&*span.name, span.kind, &span.failed), (name, kind, &None));
        assert_eq!((span.context.trace, span.parent), (came.trace, Some(served.context.span)));
        assert_eq!(span.links, std::slice::from_ref(&served.context));
    }
    let carried = gateway.backends.traces.lock().unwrap().clone();
    let granted = gateway.backends.granted()[0].id;
    assert_eq!(carried.of(granted), Some(&served.context), "the order goes on below what was done for it here");
    assert_eq!(served.context.state(), Some("rojo=1"));
    assert!(!format!("{call:?}{message:?}{served:?}").contains("ann-the-buyer"));
    gateway.close().await;
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_or_cannot_be_read_changes_no_byte_of_an_answer() {
    let mut gateway = Gateway::with(Settings::default(), 1, PaymentProvider::Sandbox).await;
    gateway.buy("ann", "k").await;
    let same = [("x-buyer-id", "bob"), ("content-type", "application/json"), ("x-request-id", "r")];
    let without_date = |heard: Heard| {
        let head = heard.head.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
        (head, heard.body)
    };
    let plain = without_date(gateway.call("POST", "/v1/sales/concert-1/orders", &same, ONE).await);
    assert!(plain.0.contains(" 409 "), "{plain:?}");
    for parent in [&*PARENT.replace("-01", "-00"), "00-x", "", "ff-\u{e9}", &"0".repeat(9000), PARENT] {
        assert_eq!(without_date(gateway.traced("bob", parent).await), plain, "{parent}");
    }
    // Only the last of them was recorded.
    let [served] = gateway.spans().await;
    assert_eq!(attribute(&served, "http.response.status_code"), Some(&Told::Number(409)));
    assert!(gateway.told.try_recv().is_err());
    gateway.close().await;
}

#[tokio::test]
async fn what_a_client_makes_up_is_no_name_of_a_span() {
    let mut gateway = Gateway::open().await;
    let headers = [("traceparent", PARENT)];
    gateway.call("BREW", "/v1/orders/o", &headers, "").await;
    gateway.call("GET", "/nowhere", &headers, "").await;
    let [brewed, nowhere] = gateway.spans().await;
    assert_eq!(&*brewed.name, "HTTP /v1/orders/{order}");
    assert_eq!(attribute(&brewed, "http.request.method"), Some(&Told::Text("_OTHER".to_owned())));
    assert_eq!(&*nowhere.name, "GET");
    assert_eq!((attribute(&nowhere, "http.route"), attribute(&nowhere, "url.path")), (None, None));
    gateway.close().await;
}

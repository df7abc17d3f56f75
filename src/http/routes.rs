//! Every route of the public API.

use hyper::body::Incoming;
use hyper::{Method, header};

use crate::http::door::{Call, Door};
use crate::http::problem::{Code, Problem};
use crate::http::reply::Reply;
use crate::http::{claims, health, openapi, orders, payments, sales};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Live,
    Ready,
    OpenApi,
    Callback,
    Sale(&'a str),
    Claims(&'a str),
    Order(&'a str),
    Payment(&'a str),
}

impl<'a> Route<'a> {
    /// The routes as the OpenAPI document writes them.
    pub(super) const TEMPLATES: [&'static str; 8] = [
        "/livez",
        "/readyz",
        "/openapi.json",
        "/v1/payments/callback",
        "/v1/sales/{sale}",
        "/v1/sales/{sale}/orders",
        "/v1/orders/{order}",
        "/v1/orders/{order}/payment",
    ];

    pub(super) fn find(path: &'a str) -> Option<Self> {
        let Some(rest) = path.strip_prefix("/v1/") else {
            return match path {
                "/livez" => Some(Self::Live),
                "/readyz" => Some(Self::Ready),
                "/openapi.json" => Some(Self::OpenApi),
                _ => None,
            };
        };
        let (what, rest) = step(rest);
        let (id, rest) = step(rest?);
        match (what, id, rest) {
            ("payments", "callback", None) => Some(Self::Callback),
            ("sales", sale, None) => Some(Self::Sale(sale)),
            ("sales", sale, Some("orders")) => Some(Self::Claims(sale)),
            ("orders", order, None) => Some(Self::Order(order)),
            ("orders", order, Some("payment")) => Some(Self::Payment(order)),
            _ => None,
        }
    }

    /// This route as the OpenAPI document writes it.
    pub(super) fn template(self) -> &'static str {
        let [live, ready, openapi, callback, sale, claims, order, payment] = Self::TEMPLATES;
        match self {
            Self::Live => live,
            Self::Ready => ready,
            Self::OpenApi => openapi,
            Self::Callback => callback,
            Self::Sale(_) => sale,
            Self::Claims(_) => claims,
            Self::Order(_) => order,
            Self::Payment(_) => payment,
        }
    }

    /// What `Allow` says.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Live | Self::Ready | Self::OpenApi | Self::Sale(_) => "GET, HEAD",
            Self::Order(_) => "GET, HEAD, DELETE",
            Self::Callback | Self::Claims(_) | Self::Payment(_) => "POST",
        }
    }
}

/// The first step of a path, and what follows it. Steps are too short for a search that is fast in long texts.
fn step(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(end) => (&path[..end], Some(&path[end + 1..])),
        None => (path, None),
    }
}

/// Answers a request by its route and method.
pub(super) async fn answer(door: &Door, call: &Call<'_>, body: &mut Incoming) -> Result<Reply, Problem> {
    if call.length_twice {
        return Err(Problem::malformed("Content-Length and Transfer-Encoding: must not both come").close());
    }
    let head = call.head;
    let Some(route) = Route::find(head.uri.path()) else { return Err(Code::NotFound.into()) };
    // What is not the claim is on the heap: the future of every claim would be as large as the largest of them, and is moved about.
    match (route, &head.method) {
        (Route::Claims(sale), &Method::POST) => claims::claim(door, sale, call, body).await,
        (Route::Sale(sale), &Method::GET | &Method::HEAD) => sales::show(door, sale, call.headers.map),
        (Route::Order(order), &Method::GET | &Method::HEAD) => Box::pin(orders::show(door, order, call)).await,
        (Route::Order(order), &Method::DELETE) => Box::pin(orders::cancel(door, order, call)).await,
        (Route::Payment(order), &Method::POST) => Box::pin(payments::pay(door, order, call, body)).await,
        (Route::Callback, &Method::POST) => Box::pin(payments::callback(door, call, body)).await,
        (Route::Live, &Method::GET | &Method::HEAD) => Ok(health::live()),
        (Route::Ready, &Method::GET | &Method::HEAD) => Ok(health::ready(door, head.uri.query())),
        (Route::OpenApi, &Method::GET | &Method::HEAD) => Ok(openapi::document()),
        (route, _) => Err(Problem::from(Code::MethodNotAllowed).header(header::ALLOW, route.methods())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_found() {
        let found = Route::TEMPLATES.map(|template| Route::find(template).unwrap());
        let expected = [
            Route::Live,
            Route::Ready,
            Route::OpenApi,
            Route::Callback,
            Route::Sale("{sale}"),
            Route::Claims("{sale}"),
            Route::Order("{order}"),
            Route::Payment("{order}"),
        ];
        assert_eq!(found, expected);
        assert_eq!(found.map(Route::template), Route::TEMPLATES);
    }

    #[test]
    fn everything_else_is_not() {
        for path in [
            "",
            "/",
            "*",
            "/v1",
            "/v1/",
            "/v1/sales",
            "/v1/sales/s/",
            "/v1/sales/s/orders/",
            "/v1/orders/o/payments",
            "/v1/payments",
            "/v2/sales/s",
            "/livez/",
            "/metrics",
            "/admin/v1/sales/s",
            "//v1/sales/s",
        ] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }
}

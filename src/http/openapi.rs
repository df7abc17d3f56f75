//! `/openapi.json`: the API as OpenAPI 3.1.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::http::reply::{Reply, with_body};

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn document() -> Reply {
    let json = HeaderValue::from_static("application/json");
    let mut reply = with_body(StatusCode::OK, json, Bytes::from_static(DOCUMENT.as_bytes()));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    reply
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::http::problem::Code;
    use crate::http::routes::Route;

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn every_route_and_method_is_in_the_document_and_no_other() {
        let document = parsed();
        let paths = document["paths"].as_object().unwrap();
        let documented: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        assert_eq!(documented, Route::TEMPLATES.into_iter().collect());
        for (path, operations) in paths {
            let allowed = Route::find(path).unwrap().methods();
            let allowed: BTreeSet<String> =
                allowed.split(", ").filter(|method| *method != "HEAD").map(str::to_lowercase).collect();
            let documented: BTreeSet<String> =
                operations.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect();
            assert_eq!(documented, allowed, "{path}");
        }
    }

    #[test]
    fn every_problem_is_in_the_document_and_no_other() {
        let document = parsed();
        let codes = document["components"]["schemas"]["ProblemCode"]["enum"].as_array().unwrap().clone();
        let documented: BTreeSet<&str> = codes.iter().map(|code| code.as_str().unwrap()).collect();
        let known: BTreeSet<&str> = Code::ALL.into_iter().map(Code::as_str).collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    fields.values().for_each(|value| walk(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, document)),
                _ => {}
            }
        }
        let document = parsed();
        walk(&document, &document);
    }

    #[test]
    fn every_status_of_a_problem_is_documented_somewhere() {
        let document = parsed();
        let mut documented = BTreeSet::new();
        for operations in document["paths"].as_object().unwrap().values() {
            for operation in
                operations.as_object().unwrap().values().filter_map(|operation| operation["responses"].as_object())
            {
                documented.extend(operation.keys().cloned());
            }
        }
        for code in Code::ALL {
            assert!(documented.contains(code.status().as_str()), "{code:?}");
        }
    }
}

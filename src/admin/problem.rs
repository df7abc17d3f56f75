//! Every problem that the control plane can answer with (RFC 9457): one table from what went wrong to status and stable code.

use std::fmt;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::audit::Interrupted;
use crate::config;
use crate::domain::Invalid;
use crate::reload;
use crate::sales::Refused;
use crate::store;

/// A no, or a fault, as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub code: Code,
    pub detail: String,
    members: Map<String, Value>,
    /// The methods that there are, for one that there is not.
    pub allow: Option<&'static str>,
}

macro_rules! codes {
    ($($variant:ident = $code:literal $status:ident;)*) => {
        /// The stable codes. Scripts hold on to them: add freely, rename nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($variant,)*
        }

        impl Code {
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    Malformed = "malformed" BAD_REQUEST;
    Unauthenticated = "unauthenticated" UNAUTHORIZED;
    CrossOrigin = "cross_origin" FORBIDDEN;
    NotFound = "not_found" NOT_FOUND;
    UnknownSale = "unknown_sale" NOT_FOUND;
    UnknownOrder = "unknown_order" NOT_FOUND;
    UnknownDeadLetter = "unknown_dead_letter" NOT_FOUND;
    NoGateway = "no_gateway" NOT_FOUND;
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED;
    RequestTimeout = "request_timeout" REQUEST_TIMEOUT;
    Conflict = "conflict" CONFLICT;
    Closed = "closed" CONFLICT;
    InUse = "in_use" CONFLICT;
    NotPossible = "not_possible" CONFLICT;
    NotRecorded = "not_recorded" CONFLICT;
    AuditRunning = "audit_running" CONFLICT;
    ReloadRunning = "reload_running" CONFLICT;
    Stopping = "stopping" CONFLICT;
    TooLarge = "too_large" PAYLOAD_TOO_LARGE;
    UnsupportedMediaType = "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE;
    Invalid = "invalid" UNPROCESSABLE_ENTITY;
    BadConfig = "bad_config" UNPROCESSABLE_ENTITY;
    Busy = "busy" SERVICE_UNAVAILABLE;
    Unavailable = "unavailable" SERVICE_UNAVAILABLE;
    Unknown = "unknown" GATEWAY_TIMEOUT;
}

impl Problem {
    pub fn new(code: Code, detail: impl fmt::Display) -> Self {
        Self { code, detail: detail.to_string(), members: Map::new(), allow: None }
    }

    /// All that does not fit, each with its place as a JSON pointer.
    pub fn invalid(wrong: &[Invalid]) -> Self {
        let errors = wrong.iter().map(|wrong| json!({"pointer": wrong.at, "detail": wrong.why})).collect::<Vec<_>>();
        Self::new(Code::Invalid, "The request does not fit; see errors.").with("errors", errors)
    }

    /// Adds an extension member.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Names the methods that there are.
    pub fn allowing(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub fn document(self) -> Value {
        let (code, status) = (self.code.as_str(), self.code.status());
        let mut document = json!({
            "type": format!("urn:rushgate:problem:{code}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": code,
            "detail": self.detail,
        });
        if let Value::Object(document) = &mut document {
            document.extend(self.members);
        }
        document
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let said = refused.to_string();
        match refused {
            Refused::UnknownSale => Self::new(Code::UnknownSale, said),
            Refused::Invalid(wrong) => Self::invalid(&wrong),
            Refused::Conflict { version } => Self::new(Code::Conflict, said).with("version", version),
            Refused::Closed => Self::new(Code::Closed, said),
            Refused::InUse { pool, leg, live } => {
                Self::new(Code::InUse, said).with("pool", pool.as_str()).with("leg", leg).with("live", live)
            }
            Refused::Unavailable(_) => Self::new(Code::Unavailable, said),
            Refused::Unknown(_) => Self::new(Code::Unknown, said),
        }
    }
}

impl From<reload::Refused> for Problem {
    fn from(refused: reload::Refused) -> Self {
        match refused {
            reload::Refused::Wrong(problems) => {
                let error = |wrong: &config::Problem| json!({"pointer": wrong.place(), "detail": wrong.message});
                let errors: Vec<_> = problems.0.iter().map(error).collect();
                let detail = "The configuration is wrong, so nothing of it was taken; see errors.";
                Self::new(Code::BadConfig, detail).with("errors", errors)
            }
            reload::Refused::Busy => Self::new(Code::ReloadRunning, "Another reload is under way on this node."),
            reload::Refused::Stopping => Self::new(Code::Stopping, "The process stops, and takes nothing new."),
        }
    }
}

impl From<Interrupted> for Problem {
    fn from(interrupted: Interrupted) -> Self {
        let code = match interrupted {
            Interrupted::UnknownSale => Code::UnknownSale,
            Interrupted::Unavailable(_) | Interrupted::Stopped => Code::Unavailable,
        };
        Self::new(code, interrupted)
    }
}

impl From<store::Fault> for Problem {
    fn from(fault: store::Fault) -> Self {
        Self::new(Code::Unavailable, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_tells_code_status_and_what_is_particular() {
        let refused = Refused::InUse { pool: "p".parse().unwrap(), leg: 2, live: 7 };
        let document = Problem::from(refused).document();
        assert_eq!((&document["code"], &document["status"]), (&json!("in_use"), &json!(409)));
        assert_eq!((&document["pool"], &document["leg"], &document["live"]), (&json!("p"), &json!(2), &json!(7)));
        assert_eq!(document["detail"], "7 units of pool p are held or sold on leg 2");
    }

    #[test]
    fn what_does_not_fit_is_told_place_by_place() {
        let document = Problem::from(Refused::Invalid(vec![Invalid::new("/pools/0", "is odd")])).document();
        assert_eq!(document["errors"], json!([{"pointer": "/pools/0", "detail": "is odd"}]));
    }
}

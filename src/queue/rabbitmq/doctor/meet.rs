//! A connection, and what a broker has against whoever asks for one.

use std::sync::Arc;

use crate::config::settings;
use crate::finding::{Remedy, remedy};
use crate::queue::rabbitmq::parse;
use crate::queue::rabbitmq::session::{Session, Unconnected};

pub(super) fn vhost(settings: &settings::Queue) -> String {
    parse(settings).map(|uri| uri.vhost).unwrap_or_default()
}

pub(super) async fn connect(settings: &settings::Queue) -> Result<Arc<Session>, Unconnected> {
    let uri = parse(settings).map_err(Unconnected::Refused)?;
    Session::connect(uri, "rushgate doctor").await.map(Arc::new)
}

pub(super) fn told(why: &Unconnected) -> String {
    let (Unconnected::Silent(text) | Unconnected::Refused(text)) = why;
    text.replace(['\r', '\n'], " ")
}

/// What gives the user all rights to what is ours, and no other.
pub(super) fn set_permissions(settings: &settings::Queue) -> String {
    let (vhost, namespace) = (vhost(settings), settings.namespace.replace('.', r"\."));
    format!(
        r"rabbitmqctl set_permissions -p {vhost} USER '^{namespace}\.' '^({namespace}\.|amq\.default$)' '^{namespace}\.'"
    )
}

/// By the names of AMQP's answers, in which the client tells them.
pub(super) fn unconnected(why: &Unconnected, settings: &settings::Queue) -> (&'static str, Remedy) {
    let text = told(why).to_uppercase().replace('-', "_");
    let cost = "nothing is granted that cannot be published";
    let vhost = vhost(settings);
    if matches!(why, Unconnected::Silent(_)) {
        return ("connection", remedy(cost, "rabbitmq-diagnostics check_running; rabbitmq-diagnostics alarms"));
    }
    if text.contains("ACCESS_REFUSED") {
        let mend = "set the right user and password: RUSHGATE__QUEUE__URL=amqp://USER:PASSWORD@HOST:5672/%2f; \
                    rabbitmqctl authenticate_user USER PASSWORD (guest is for loopback only)";
        return ("authentication", remedy(cost, mend));
    }
    if text.contains("NOT_ALLOWED") && text.contains("NOT FOUND") {
        let mend =
            format!("rabbitmqctl add_vhost {vhost}; or name another behind the host in queue.url, where %2f is /");
        return ("virtual host", remedy(cost, mend));
    }
    if text.contains("LIMIT") {
        let mend = format!(
            "rabbitmqctl list_connections tells who keeps them; rabbitmqctl list_vhost_limits -p {vhost}, rabbitmqctl \
             list_user_limits --user USER and connection_max in rabbitmq.conf tell the limits"
        );
        return ("connections", remedy(cost, mend));
    }
    if text.contains("NOT_ALLOWED") && text.contains("DOWN") {
        let mend = format!("rabbitmqctl restart_vhost -p {vhost}; the broker's log tells why it went down");
        return ("virtual host", remedy(cost, mend));
    }
    if text.contains("NOT_ALLOWED") && text.contains("REFUSED") {
        return ("virtual host", remedy(cost, set_permissions(settings)));
    }
    if text.contains("NOT_ALLOWED") {
        return ("refused", remedy(cost, "it is RabbitMQ and says no, by these words of its own; its log tells more"));
    }
    ("connection", remedy(cost, "rabbitmqctl list_connections; the broker's log tells why"))
}

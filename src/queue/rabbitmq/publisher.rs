//! Publishing: finds the outlet of a message's scope, and keeps the time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::settings;
use crate::domain::Scope;
use crate::meters::{Histogram, Meters};
use crate::queue::envelope::Envelope;
use crate::queue::rabbitmq::link::Link;
use crate::queue::rabbitmq::outlet::{Outlet, Request};
use crate::queue::rabbitmq::parcel::Parcel;
use crate::queue::rabbitmq::topology::Names;
use crate::queue::{Publisher, Strain, Unconfirmed};
use crate::shutdown::Shutdown;

/// Messages that wait for an outlet. What does not fit waits too, but in its caller, and for no longer than its time.
const WAITING_MESSAGES: usize = 256;

/// [`Publisher`] at a broker.
#[derive(Debug)]
pub(super) struct BrokerPublisher {
    link: Arc<Link>,
    names: Names,
    shutdown: Shutdown,
    confirm_timeout: Duration,
    confirms: Histogram,
    /// An outlet whose receiver is closed has ended, and is replaced when it is needed again.
    outlets: Mutex<HashMap<Scope, Inlet>>,
}

/// The publisher's end of an outlet.
#[derive(Debug)]
struct Inlet {
    requests: mpsc::Sender<Request>,
    unconfirmed: watch::Receiver<Option<Instant>>,
}

impl BrokerPublisher {
    pub(super) fn new(
        link: Arc<Link>,
        names: Names,
        settings: &settings::Queue,
        (shutdown, meters): (&Shutdown, &Meters),
    ) -> Self {
        Self {
            link,
            names,
            shutdown: shutdown.clone(),
            confirm_timeout: settings.confirm_timeout,
            confirms: meters.histogram("rushgate_publish_confirm_duration_seconds", &[]),
            outlets: Mutex::default(),
        }
    }

    fn outlet(&self, scope: Scope) -> mpsc::Sender<Request> {
        let mut outlets = self.outlets();
        if let Some(inlet) = outlets.get(&scope).filter(|inlet| !inlet.requests.is_closed()) {
            return inlet.requests.clone();
        }
        // Also those of epochs that are over.
        outlets.retain(|_, inlet| !inlet.requests.is_closed());
        let (sender, requests) = mpsc::channel(WAITING_MESSAGES);
        let outlet = Outlet::new(Arc::clone(&self.link), &self.names, scope, self.confirm_timeout);
        outlets.insert(scope, Inlet { requests: sender.clone(), unconfirmed: outlet.unconfirmed() });
        self.shutdown.spawn(outlet.run(requests));
        sender
    }

    fn outlets(&self) -> MutexGuard<'_, HashMap<Scope, Inlet>> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a parcel to its outlet and waits for the verdict, however long that takes.
    async fn deliver(&self, scope: Scope, parcel: &Arc<Parcel>) -> Result<(), Unconfirmed> {
        loop {
            let (verdict, answer) = oneshot::channel();
            let request = Request { parcel: Arc::clone(parcel), verdict };
            if self.outlet(scope).send(request).await.is_ok() {
                match answer.await {
                    Ok(answer) => return answer,
                    Err(_) if parcel.is_begun() => {
                        return Err(Unconfirmed::Unknown("the connection ended before the confirm".to_owned()));
                    }
                    // The outlet ended between two messages; the next one gets it.
                    Err(_) => {}
                }
            }
            if self.link.is_closed() {
                return Err(Unconfirmed::NotSent(self.trouble()));
            }
            tokio::task::yield_now().await;
        }
    }

    fn trouble(&self) -> String {
        self.link.trouble().unwrap_or_else(|| "too many messages are waiting".to_owned())
    }
}

#[async_trait]
impl Publisher for BrokerPublisher {
    async fn publish(&self, envelope: Envelope) -> Result<(), Unconfirmed> {
        let _user = self.link.in_use();
        let began = Instant::now();
        let parcel = Arc::new(Parcel::new(envelope.encode(), envelope.traces.encode()));
        match timeout_at(began + self.confirm_timeout, self.deliver(envelope.scope, &parcel)).await {
            Ok(Ok(())) => {
                self.confirms.record(began.elapsed());
                Ok(())
            }
            Ok(unconfirmed) => unconfirmed,
            // Taken back from the outlet before it touched it.
            Err(_) if parcel.begin() => Err(Unconfirmed::NotSent(self.trouble())),
            Err(_) => Err(Unconfirmed::Unknown(format!("no confirm within {:?}", self.confirm_timeout))),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.link.outage().map_or(Ok(()), Err)
    }

    fn strain(&self) -> Strain {
        let since = self.outlets().values().filter_map(|inlet| *inlet.unconfirmed.borrow()).min();
        Strain { blocked: self.link.blocked(), oldest_unconfirmed: since.map(|since| since.elapsed()) }
    }
}

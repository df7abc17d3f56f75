//! What the user may do at the broker, tried by what changes nothing.

use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};

use super::{ACCESS_REFUSED, Look, NOT_FOUND, Trouble, asked, channel, set_permissions};
use crate::finding::remedy;

impl Look<'_> {
    pub(super) fn no_right(&mut self, right: &str, said: &str) {
        let why = "the user needs to configure, write and read all that is ours";
        let found = format!("no right to {right}: {said}");
        self.findings.wrong("permissions", found, remedy(why, set_permissions(self.settings)));
    }

    /// The rights, by what changes nothing: the broker looks at them before it looks whether the queue is there, and this one is not.
    pub(super) async fn rights(&mut self) {
        let nobody = ShortString::from(format!("{}.nobody has this queue", self.settings.namespace));
        let (mut missing, mut said) = (Vec::new(), String::new());
        let tried = [
            ("configure", self.delete(nobody.clone()).await),
            ("write", self.unbind(nobody.clone()).await),
            ("read", self.fetch(nobody).await),
        ];
        let reads = !tried[2].1.as_ref().is_err_and(|trouble| trouble.code == ACCESS_REFUSED);
        for (right, tried) in tried {
            match tried {
                Ok(()) => {}
                Err(trouble) if trouble.code == NOT_FOUND => {}
                // To unbind asks for the right to read as well.
                Err(trouble) if right == "write" && !reads && !trouble.text.contains("write access") => {}
                Err(trouble) if trouble.code == ACCESS_REFUSED => {
                    missing.push(right);
                    said = trouble.text;
                }
                Err(trouble) => return self.findings.unknown("permissions", trouble.text),
            }
        }
        if let Some(text) = self.no_configure.take().filter(|_| missing.first() != Some(&"configure")) {
            missing.insert(0, "configure");
            said = text;
        }
        if missing.is_empty() {
            return self.findings.ok("permissions", "configure, write and read");
        }
        self.lacks_rights = true;
        self.no_right(&missing.join(", "), &said);
    }

    async fn delete(&self, queue: ShortString) -> Result<(), Trouble> {
        let channel = channel(&self.session).await?;
        let options = QueueDeleteOptions { if_unused: true, if_empty: true, ..QueueDeleteOptions::default() };
        asked(channel.queue_delete(queue, options)).await.map(drop)
    }

    async fn unbind(&self, queue: ShortString) -> Result<(), Trouble> {
        let channel = channel(&self.session).await?;
        asked(channel.queue_unbind(queue.clone(), queue, "nobody binds by this".into(), FieldTable::default())).await
    }

    async fn fetch(&self, queue: ShortString) -> Result<(), Trouble> {
        let channel = channel(&self.session).await?;
        asked(channel.basic_get(queue, BasicGetOptions { no_ack: false })).await.map(drop)
    }
}

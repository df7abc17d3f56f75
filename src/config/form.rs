//! The forms that values have: how each is read, printed, and described to whoever wrote it wrongly.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::given::{Given, quoted};
use crate::config::private::{Secret, ServerUrl};
use crate::config::settings::Role;
use crate::domain::{Buffer, NodeId};

/// One form of values.
pub trait Form {
    type Value;

    fn read(&self, given: Given<'_>) -> Option<Self::Value>;

    /// As it stands in a file, without what must not be seen.
    fn print(&self, value: &Self::Value) -> String;

    /// What a value must be, to stand after "must be".
    fn describe(&self) -> String;

    /// May a wrong value be repeated in a message?
    fn is_private(&self) -> bool {
        false
    }
}

/// Reads a value, or says what it should have been.
pub fn read<F: Form>(form: &F, given: Given<'_>) -> Result<F::Value, String> {
    form.read(given).ok_or_else(|| {
        let found = if form.is_private() { given.kind().to_owned() } else { given.to_string() };
        format!("must be {}; it is {found}", form.describe())
    })
}

/// A whole number from the first to the second.
#[derive(Debug)]
pub struct Number<T>(pub T, pub T);

impl<T: Copy + PartialOrd + Display + TryFrom<i128>> Form for Number<T> {
    type Value = T;

    fn read(&self, given: Given<'_>) -> Option<T> {
        T::try_from(given.integer()?).ok().filter(|number| (self.0..=self.1).contains(number))
    }

    fn print(&self, value: &T) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }
}

/// A relative weight: above 0, at most 1000.
#[derive(Debug)]
pub struct Weight;

impl Form for Weight {
    type Value = f64;

    fn read(&self, given: Given<'_>) -> Option<f64> {
        given.number().filter(|weight| *weight > 0.0 && *weight <= 1000.0)
    }

    fn print(&self, value: &f64) -> String {
        format!("{value:?}")
    }

    fn describe(&self) -> String {
        "a number above 0, at most 1000".to_owned()
    }
}

/// A part of a whole: from 0 to 1.
#[derive(Debug)]
pub struct Ratio;

impl Form for Ratio {
    type Value = f64;

    fn read(&self, given: Given<'_>) -> Option<f64> {
        given.number().filter(|ratio| (0.0..=1.0).contains(ratio))
    }

    fn print(&self, value: &f64) -> String {
        format!("{value:?}")
    }

    fn describe(&self) -> String {
        "a number from 0 to 1".to_owned()
    }
}

/// A duration from the first to the second.
#[derive(Debug)]
pub struct Time(pub Duration, pub Duration);

impl Form for Time {
    type Value = Duration;

    fn read(&self, given: Given<'_>) -> Option<Duration> {
        let time = humantime::parse_duration(given.text()?.trim()).ok()?;
        (self.0..=self.1).contains(&time).then_some(time)
    }

    fn print(&self, value: &Duration) -> String {
        quoted(&duration(*value))
    }

    fn describe(&self) -> String {
        format!("a duration such as \"300s\" or \"100ms\", from {} to {}", duration(self.0), duration(self.1))
    }
}

fn duration(time: Duration) -> String {
    match (time.subsec_nanos(), time.subsec_nanos() % 1_000_000) {
        (0, _) => format!("{}s", time.as_secs()),
        (_, 0) => format!("{}ms", time.as_millis()),
        _ => humantime::format_duration(time).to_string(),
    }
}

/// A size in bytes from the first to the second.
#[derive(Debug)]
pub struct Size(pub usize, pub usize);

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Form for Size {
    type Value = usize;

    fn read(&self, given: Given<'_>) -> Option<usize> {
        let bytes = if let Some(bytes) = given.integer() {
            usize::try_from(bytes).ok()?
        } else {
            let text = given.text()?.trim();
            let (unit, bytes) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
            text.strip_suffix(unit)?.trim_end().parse::<usize>().ok()?.checked_mul(*bytes)?
        };
        (self.0..=self.1).contains(&bytes).then_some(bytes)
    }

    fn print(&self, value: &usize) -> String {
        quoted(&size(*value))
    }

    fn describe(&self) -> String {
        format!("a size such as \"16KiB\", from {} to {}", size(self.0), size(self.1))
    }
}

fn size(bytes: usize) -> String {
    let (unit, one) = UNITS.iter().find(|(_, one)| bytes.is_multiple_of(*one)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / one)
}

/// One of a few words.
#[derive(Debug)]
pub struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Form for OneOf<T> {
    type Value = T;

    fn read(&self, given: Given<'_>) -> Option<T> {
        let text = given.text()?;
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    fn print(&self, value: &T) -> String {
        self.0.iter().find(|(_, known)| known == value).map(|(word, _)| quoted(word)).unwrap_or_default()
    }

    fn describe(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| quoted(word)).collect();
        words.join(" or ")
    }
}

/// The roles of a process: one or both.
#[derive(Debug)]
pub struct Roles;

const ROLES: OneOf<Role> = OneOf(&[("gateway", Role::Gateway), ("writer", Role::Writer)]);

impl Form for Roles {
    type Value = Vec<Role>;

    fn read(&self, given: Given<'_>) -> Option<Vec<Role>> {
        let roles: Vec<_> =
            given.list()?.into_iter().map(|word| ROLES.read(Given::Text(word))).collect::<Option<_>>()?;
        let twice = roles.iter().enumerate().any(|(at, role)| roles[..at].contains(role));
        (!roles.is_empty() && !twice).then_some(roles)
    }

    fn print(&self, value: &Vec<Role>) -> String {
        format!("[{}]", value.iter().map(|role| ROLES.print(role)).collect::<Vec<_>>().join(", "))
    }

    fn describe(&self) -> String {
        "a list of one or both of \"gateway\" and \"writer\"".to_owned()
    }
}

/// A text that passes a check, and how it is described.
#[derive(Debug)]
pub struct Text(pub fn(&str) -> bool, pub &'static str);

pub const NODE_ID: Text = Text(
    |text| text.is_empty() || text.parse::<NodeId>().is_ok(),
    "empty, or at most 128 letters, digits, '-', '_' and '.'",
);
pub const NAMESPACE: Text = Text(
    |text| text.len() <= 32 && text.parse::<NodeId>().is_ok(),
    "a name of 1 to 32 letters, digits, '-', '_' and '.'",
);
pub const LISTEN: Text = Text(
    |text| text.parse::<SocketAddr>().is_ok(),
    "an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"",
);
pub const FILTER: Text = Text(is_filter, "a filter such as \"info\" or \"info,rushgate::writer=debug\"");

/// A word alone would also be taken for a module, so that a misspelt level silenced everything; here it must be a level.
fn is_filter(text: &str) -> bool {
    let alone = |part: &&str| !part.contains(['=', '[', ':']);
    // The empty word would be the level `error`.
    let level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    text.split(',').map(str::trim).filter(alone).all(level) && EnvFilter::try_new(text).is_ok()
}

impl Form for Text {
    type Value = String;

    fn read(&self, given: Given<'_>) -> Option<String> {
        given.text().filter(|text| self.0(text)).map(str::to_owned)
    }

    fn print(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> String {
        self.1.to_owned()
    }
}

/// A list of networks.
#[derive(Debug)]
pub struct Networks;

impl Form for Networks {
    type Value = Vec<String>;

    fn read(&self, given: Given<'_>) -> Option<Vec<String>> {
        let networks = given.list()?;
        let known = networks.iter().all(|network| network.parse::<IpNet>().is_ok());
        known.then(|| networks.into_iter().map(str::to_owned).collect())
    }

    fn print(&self, value: &Vec<String>) -> String {
        format!("[{}]", value.iter().map(|network| quoted(network)).collect::<Vec<_>>().join(", "))
    }

    fn describe(&self) -> String {
        "a list of networks such as [\"10.0.0.0/8\", \"fd00::/8\"]".to_owned()
    }
}

/// A shard's buffer.
#[derive(Debug)]
pub struct Extra;

impl Form for Extra {
    type Value = Buffer;

    fn read(&self, given: Given<'_>) -> Option<Buffer> {
        match given.integer() {
            Some(units) => u32::try_from(units).ok().map(Buffer::Units),
            None => given.text()?.parse().ok(),
        }
    }

    fn print(&self, value: &Buffer) -> String {
        match value {
            Buffer::Units(units) => units.to_string(),
            Buffer::Fraction(_) => quoted(&value.to_string()),
        }
    }

    fn describe(&self) -> String {
        "a number of units such as 50, or a percentage such as \"10%\" up to \"1000%\"".to_owned()
    }
}

/// A text that is not printed.
#[derive(Debug)]
pub struct Hidden;

impl Form for Hidden {
    type Value = Secret;

    fn read(&self, given: Given<'_>) -> Option<Secret> {
        given.text().map(|text| Secret(text.to_owned()))
    }

    fn print(&self, value: &Secret) -> String {
        format!("{value:?}")
    }

    fn describe(&self) -> String {
        "a text".to_owned()
    }

    fn is_private(&self) -> bool {
        true
    }
}

/// A server's URL with one of these schemes.
#[derive(Debug)]
pub struct Server(pub &'static [&'static str]);

impl Form for Server {
    type Value = ServerUrl;

    fn read(&self, given: Given<'_>) -> Option<ServerUrl> {
        let url = ServerUrl::from(given.text()?);
        let scheme = url.scheme().filter(|scheme| self.0.contains(scheme))?;
        // A file has a path where a server has an address.
        let complete =
            if scheme == "sqlite" { url.as_str().len() > "sqlite://".len() } else { url.address().is_some() };
        complete.then_some(url)
    }

    fn print(&self, value: &ServerUrl) -> String {
        quoted(&value.redacted())
    }

    fn describe(&self) -> String {
        let schemes: Vec<_> = self.0.iter().map(|scheme| format!("{scheme}://")).collect();
        format!("a whole URL that begins with {}", schemes.join(" or "))
    }

    fn is_private(&self) -> bool {
        true
    }
}

/// A form whose value may also be the empty text.
#[derive(Debug)]
pub struct OrEmpty<F>(pub F);

impl<F: Form<Value: Default>> Form for OrEmpty<F> {
    type Value = F::Value;

    fn read(&self, given: Given<'_>) -> Option<F::Value> {
        if given.text() == Some("") { Some(F::Value::default()) } else { self.0.read(given) }
    }

    fn print(&self, value: &F::Value) -> String {
        self.0.print(value)
    }

    fn describe(&self) -> String {
        format!("empty, or {}", self.0.describe())
    }

    fn is_private(&self) -> bool {
        self.0.is_private()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<F: Form>(form: &F, text: &str) -> Option<String> {
        form.read(Given::Text(text)).map(|value| form.print(&value))
    }

    #[test]
    fn durations_and_sizes_read_back_what_they_print() {
        let time = Time(Duration::ZERO, Duration::from_secs(3600));
        for (given, printed) in
            [("300s", "300s"), ("5m", "300s"), ("100ms", "100ms"), ("1500ms", "1500ms"), ("0s", "0s")]
        {
            assert_eq!(text(&time, given), Some(format!("\"{printed}\"")));
        }
        let size = Size(1, 1 << 30);
        for (given, printed) in [("16KiB", "16KiB"), ("16384", "16KiB"), ("1 MiB", "1MiB"), ("1000B", "1000B")] {
            assert_eq!(text(&size, given), Some(format!("\"{printed}\"")));
        }
    }

    #[test]
    fn what_has_no_unit_or_is_out_of_range_is_refused() {
        let time = Time(Duration::from_millis(10), Duration::from_secs(60));
        for odd in ["5", "", "soon", "1ms", "61s", "-1s"] {
            assert_eq!(text(&time, odd), None, "{odd}");
        }
        for odd in ["16kib", "KiB", "0", "-1", "99999999999999999999GiB", "1.5MiB"] {
            assert_eq!(text(&Size(1, usize::MAX), odd), None, "{odd}");
        }
        for odd in ["0", "1025", "-1", "1.0", "one", "99999999999999999999999999999999999999999"] {
            assert_eq!(text(&Number(1_u16, 1024), odd), None, "{odd}");
        }
        for odd in ["0", "-1", "NaN", "inf", "1001"] {
            assert_eq!(text(&Weight, odd), None, "{odd}");
        }
        for odd in ["-0.1", "NaN", "1.01", "1%"] {
            assert_eq!(text(&Ratio, odd), None, "{odd}");
        }
    }

    #[test]
    fn lists_are_read_from_texts() {
        assert_eq!(text(&Roles, "writer, gateway").unwrap(), "[\"writer\", \"gateway\"]");
        assert_eq!(text(&Networks, "").unwrap(), "[]");
        assert_eq!(text(&Networks, "10.0.0.0/8,::1/128").unwrap(), "[\"10.0.0.0/8\", \"::1/128\"]");
        for odd in ["", "gateway,gateway", "seller"] {
            assert_eq!(text(&Roles, odd), None, "{odd}");
        }
        assert_eq!(text(&Networks, "10.0.0.0/33"), None);
    }

    #[test]
    fn a_filter_names_levels_and_modules() {
        for (filter, known) in [
            ("info", true),
            ("off", true),
            ("warn,rushgate::writer=debug", true),
            ("rushgate::http", true),
            ("inof", false),
            ("", false),
            ("info,rushgate=lowd", false),
        ] {
            assert_eq!(text(&FILTER, filter).is_some(), known, "{filter}");
        }
    }

    #[test]
    fn a_url_needs_its_scheme_and_a_host() {
        let server = Server(&["redis", "rediss"]);
        assert_eq!(text(&server, "redis://a:b@host").unwrap(), "\"redis://…@host\"");
        for odd in ["", "host:6379", "http://host", "redis://", "redis://:6379", "redis://host:0x1"] {
            assert_eq!(text(&server, odd), None, "{odd}");
        }
        assert!(text(&OrEmpty(server), "").is_some());
        assert_eq!(text(&Server(&["sqlite"]), "sqlite://"), None);
    }

    #[test]
    fn a_wrong_private_value_is_not_repeated() {
        let wrong = read(&Server(&["redis"]), Given::Text("canary")).unwrap_err();
        assert_eq!(wrong, "must be a whole URL that begins with redis://; it is another text");
    }
}

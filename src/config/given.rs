//! A value as it was given: typed in a file, a bare text in the environment or in a flag.

use std::borrow::Cow;
use std::fmt;

use toml::de::{DeInteger, DeValue};

/// A value that is not read yet.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// From a file, where a number is not a text.
    Toml(&'a DeValue<'a>),
    /// From the environment or a flag; lists are separated by commas.
    Text(&'a str),
}

impl<'a> Given<'a> {
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Toml(value) => value.as_str(),
            Self::Text(text) => Some(text),
        }
    }

    pub fn integer(self) -> Option<i128> {
        match self {
            Self::Toml(DeValue::Integer(digits)) => integer(digits),
            Self::Toml(_) => None,
            Self::Text(text) => text.trim().parse().ok(),
        }
    }

    pub fn number(self) -> Option<f64> {
        match self {
            Self::Toml(DeValue::Float(digits)) => digits.as_str().parse().ok(),
            Self::Toml(DeValue::Integer(digits)) => digits.as_str().parse().ok().filter(|_| digits.radix() == 10),
            Self::Toml(_) => None,
            Self::Text(text) => text.trim().parse().ok(),
        }
    }

    pub fn list(self) -> Option<Vec<&'a str>> {
        match self {
            Self::Toml(value) => value.as_array()?.iter().map(|item| item.get_ref().as_str()).collect(),
            Self::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            Self::Text(text) => Some(text.split(',').map(str::trim).collect()),
        }
    }

    /// What kind of value it is; for a value that must not be printed.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Toml(DeValue::Integer(_) | DeValue::Float(_)) => "a number",
            Self::Toml(DeValue::Boolean(_)) => "a boolean",
            Self::Toml(DeValue::Datetime(_)) => "a date",
            Self::Toml(DeValue::Array(_)) => "a list",
            Self::Toml(DeValue::Table(_)) => "a section",
            Self::Toml(DeValue::String(_)) | Self::Text(_) => "another text",
        }
    }
}

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Cow<'_, str> = match self {
            Self::Text(text) => format!("`{text}`").into(),
            Self::Toml(DeValue::String(text)) => format!("the text {}", quoted(text)).into(),
            Self::Toml(DeValue::Integer(digits)) => digits.to_string().into(),
            Self::Toml(DeValue::Float(digits)) => digits.to_string().into(),
            Self::Toml(DeValue::Boolean(value)) => value.to_string().into(),
            Self::Toml(DeValue::Array(items)) => {
                let items: Vec<_> = items.iter().map(|item| Given::Toml(item.get_ref()).to_string()).collect();
                format!("the list [{}]", items.join(", ")).into()
            }
            Self::Toml(_) => self.kind().into(),
        };
        f.write_str(&shown)
    }
}

/// A text as TOML writes it.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn integer(digits: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(digits.as_str(), digits.radix()).ok()
}

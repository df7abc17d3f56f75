//! Settings: file, then environment, then flags; checked once, all errors at once.

pub mod settings;

pub use settings::Settings;

//! Settings: a TOML file, then the environment, then flags; checked once, all errors at once.
//!
//! - [`settings`]: the values, and their defaults
//! - [`keys`]: the table of all keys; it alone drives parsing, printing, explaining and the template
//! - [`form`]: the forms that values have, read from what was [`given`]
//! - [`rules`]: what must hold between values
//! - [`mod@load`]: reads the [`Sources`] one over the other, as often as wanted
//! - [`live`]: those that may change while a process runs; [`diff`]: what a newer configuration changes
//! - [`origin`]: where each value comes from, and what is wrong with it
//! - [`show`]: the configuration as people read it
//! - [`private`]: values that are never printed whole

pub mod diff;
pub mod form;
pub mod given;
pub mod keys;
pub mod live;
pub mod load;
mod nearest;
pub mod origin;
pub mod private;
pub mod rules;
pub mod settings;
pub mod show;

pub use keys::Key;
pub use load::{Flag, Loaded, Need, Sources, load, load_from, load_needed};
pub use origin::{Covered, Origin, Problem, Problems};
pub use settings::Settings;

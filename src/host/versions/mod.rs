//! The versions of kedge on this machine: one directory per version below `/var/lib/kedge/versions`, links that say which
//! one runs, a state file for the one that is being tried, and the history. `plan` decides, `disk` carries out,
//! `candidate` looks at a new binary. Upgrades and the launcher use it; it starts no daemon and ends none.

mod candidate;
mod disk;
mod plan;

pub use candidate::{
    Told, TrustedKey, accepts, ask_version, copy, digest, format_digest, launches, trusted_keys, verify,
};
pub use disk::{BINARY, BINARY_LIMIT, DIR, SlotNote, Staging, Versions};
pub use plan::{
    Action, Deed, Disk, Entry, Event, Link, Links, Outcome, Phase, State, Step, Trial, Wants, decide,
};

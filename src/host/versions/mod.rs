//! The versions of kedge on this machine: one directory per version below `/var/lib/kedge/versions`, links that say which
//! one runs, a state file for the one that is being tried, and the history. `plan` decides, `disk` carries out,
//! `candidate` looks at a new binary. Upgrades and the launcher use it; it starts no daemon and ends none.

mod candidate;
mod disk;
mod plan;

/// The layout of the database that a version reads which does not tell.
const FIRST_LAYOUT: u32 = 1;

fn first_layout() -> u32 {
    FIRST_LAYOUT
}

pub use candidate::{
    Told, TrustedKey, accepts, ask_version, copy, digest, format_digest, launches, trusted_keys, verify,
};
pub use disk::{BINARY, BINARY_LIMIT, DIR, Hands, SlotNote, Staging, Versions};
pub use plan::{
    Action, Books, Deed, Disk, Entry, Event, Exchange, Link, Links, Outcome, Phase, State, Step, Trial,
    Wants, decide,
};

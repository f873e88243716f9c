//! Who has his turn: how many letters are taken in a row, and that limits of steps wait until the reports that came before
//! have been read. Pure; `mod` asks here.

/// Letters of one kind that are taken before the others are looked at.
const IN_A_ROW: usize = 16;

/// Reports come first, then changes of the API; neither keeps the others waiting for long.
#[derive(Default)]
pub(super) struct Turns {
    reports: usize,
    changes: usize,
}

impl Turns {
    /// Whether a report may be taken.
    pub(super) fn hears(&self) -> bool {
        self.reports < IN_A_ROW
    }

    /// Whether a change may be taken.
    pub(super) fn sees(&self) -> bool {
        self.changes < IN_A_ROW
    }

    pub(super) fn heard(&mut self) {
        self.reports += 1;
    }

    pub(super) fn seen(&mut self) {
        self.changes += 1;
    }

    /// Everybody has had a turn.
    pub(super) fn begin(&mut self) {
        *self = Turns::default();
    }
}

/// Reports that are read before anybody is given up. After the API was away they say that many a step has ended.
#[derive(Default)]
pub(super) struct Backlog(Option<usize>);

impl Backlog {
    /// A report was read.
    pub(super) fn read(&mut self) {
        self.0 = self.0.map(|left| left.saturating_sub(1));
    }

    /// Whether those that waited at an earlier look are all read; `waiting` are there now. Later ones hold nothing up, so
    /// that a node which never ends speaking cannot either.
    pub(super) fn is_read(&mut self, waiting: usize) -> bool {
        let left = *self.0.get_or_insert(waiting);
        if left > 0 && waiting > 0 {
            return false;
        }
        self.0 = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_letters_of_a_kind_the_others_have_their_turn() {
        let mut turns = Turns::default();
        while turns.hears() {
            turns.heard();
        }
        assert!(turns.sees());
        while turns.sees() {
            turns.seen();
        }
        assert_eq!((turns.reports, turns.changes, turns.hears()), (16, 16, false));
        turns.begin();
        assert!(turns.hears() && turns.sees());
    }

    #[test]
    fn nobody_is_given_up_before_what_was_said_is_read() {
        let mut backlog = Backlog::default();
        backlog.read();
        assert!(backlog.is_read(0));
        assert!(!backlog.is_read(2));
        backlog.read();
        assert!(!backlog.is_read(5));
        backlog.read();
        assert!(backlog.is_read(7), "later ones hold nothing up");
        assert!(!backlog.is_read(1));
        assert!(backlog.is_read(0), "nothing waits any more");
    }
}

//! What waits for what: limits of steps wait until the reports that came before have been read. Pure; `mod` asks here.

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

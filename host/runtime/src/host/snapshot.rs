//! State on its way from one version of a plugin to the next, as one instance has to do with it: what it inherits, and what
//! it leaves. (Who gives what to whom is in [`crate::plugin`].)

use crate::bindings::lifecycle::SnapshotError;

/// What former instances have left to one instance.
pub(crate) type Inheritance = Vec<Vec<u8>>;

/// The snapshots of one instance.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// There to be read in `configure`, and empty from then on.
    inherited: Inheritance,
    was_read: bool,
    /// The longest one that it may leave, while it may leave one.
    limit: Option<usize>,
    left: Left,
}

/// What an instance has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    #[default]
    Nothing,
    /// This.
    Snapshot(Vec<u8>),
    /// Nothing, since it had only such as were too large. Bytes of the last one.
    TooLarge(usize),
}

impl Snapshots {
    pub(crate) fn inheriting(inherited: Inheritance) -> Self {
        Self { inherited, ..Self::default() }
    }

    /// `configure` is over. Tells whether it has read what there was.
    pub(crate) fn configured(&mut self) -> bool {
        self.inherited = Inheritance::new();
        self.was_read
    }

    /// From here on the instance may leave a snapshot of at most `limit` bytes.
    pub(crate) fn welcome(&mut self, limit: usize) {
        self.limit = Some(limit);
    }

    /// What has been left.
    pub(crate) fn take(&mut self) -> Left {
        std::mem::take(&mut self.left)
    }

    pub(super) fn read(&mut self) -> Inheritance {
        self.was_read |= !self.inherited.is_empty();
        self.inherited.clone()
    }

    pub(super) fn leave(&mut self, bytes: Vec<u8>) -> Result<(), SnapshotError> {
        let limit = self.limit.ok_or(SnapshotError::NoSuccessor)?;
        if bytes.len() <= limit {
            self.left = Left::Snapshot(bytes);
            return Ok(());
        }
        if !matches!(self.left, Left::Snapshot(_)) {
            self.left = Left::TooLarge(bytes.len());
        }
        Err(SnapshotError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_left_before_somebody_takes_over() {
        let mut snapshots = Snapshots::default();
        assert_eq!(snapshots.leave(vec![1]), Err(SnapshotError::NoSuccessor));
        assert_eq!(snapshots.take(), Left::Nothing);
    }

    #[test]
    fn the_last_one_that_fits_is_left() {
        let mut snapshots = Snapshots::default();
        snapshots.welcome(2);
        assert_eq!(snapshots.leave(vec![0; 3]), Err(SnapshotError::TooLarge));
        assert_eq!(snapshots.leave(vec![1]), Ok(()));
        assert_eq!(snapshots.leave(vec![2; 2]), Ok(()));
        assert_eq!(snapshots.leave(vec![0; 3]), Err(SnapshotError::TooLarge));
        assert_eq!(snapshots.take(), Left::Snapshot(vec![2; 2]));
    }

    #[test]
    fn one_that_never_fitted_is_known() {
        let mut snapshots = Snapshots::default();
        snapshots.welcome(2);
        assert!(snapshots.leave(vec![0; 9]).is_err());
        assert_eq!(snapshots.take(), Left::TooLarge(9));
    }

    #[test]
    fn what_is_inherited_can_be_read_until_configure_is_over() {
        let mut snapshots = Snapshots::inheriting(vec![vec![1], vec![2]]);
        assert_eq!(snapshots.read(), snapshots.read());
        assert!(snapshots.configured());
        assert!(snapshots.read().is_empty());
        assert!(!Snapshots::inheriting(vec![vec![1]]).configured(), "it was not read");
    }
}

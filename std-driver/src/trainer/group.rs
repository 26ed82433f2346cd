//! Processes that share the shards of a batch: this one alone, or the ranks of an MPI run.
//!
//! Every rank reads the data and has all weights. A rank works on shards of its own; outputs and gradients
//! of all shards then go to all ranks, which take the same loss and sum the gradients in the order of
//! the shards. So the bits are those of one process with as many shards.

use std::ops::Range;

/// The processes of a run.
///
/// ```
/// use fused_lstm_driver::trainer::Group;
///
/// let group = Group::alone();
/// assert!(group.is_first());
/// assert_eq!(group.own(4), 0..4);
/// ```
#[derive(Debug, Default)]
pub struct Group {
    #[cfg(feature = "mpi")]
    world: Option<ranks::World>,
}

impl Group {
    /// This process alone.
    pub fn alone() -> Self {
        Self::default()
    }

    /// The ranks that `mpirun` started, or this process alone. To be called once.
    #[cfg(feature = "mpi")]
    pub fn of_ranks() -> Self {
        Self {
            world: ranks::World::join(),
        }
    }

    fn rank_of(&self) -> (usize, usize) {
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.world {
            return world.rank_of();
        }
        (0, 1)
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.rank_of().1
    }

    /// Whether this is the one that writes files and lines.
    pub fn is_first(&self) -> bool {
        self.rank_of().0 == 0
    }

    /// The shards that this process works on, of so many; none if there are more processes.
    pub fn own(&self, shards: usize) -> Range<usize> {
        let (rank, size) = self.rank_of();
        part(rank, size, shards)
    }

    /// Whether any process says yes.
    pub fn any(&self, yes: bool) -> bool {
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.world {
            return world.any(yes);
        }
        yes
    }

    /// Hands the own shards' part of `all`, in which the shards have these lengths, to all processes.
    pub(super) fn share(&self, lens: &[usize], all: &mut [f32]) {
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.world {
            world.share(lens, all);
        }
        let _ = (lens, all);
    }
}

/// As equal parts as can be, the larger ones first.
fn part(rank: usize, size: usize, shards: usize) -> Range<usize> {
    let (least, larger) = (shards / size, shards % size);
    let start = |rank: usize| rank * least + rank.min(larger);
    start(rank)..start(rank + 1)
}

#[cfg(feature = "mpi")]
mod ranks {
    //! The calls of MPI.

    use super::part;
    use mpi::collective::SystemOperation;
    use mpi::datatype::PartitionMut;
    use mpi::environment::Universe;
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::{Communicator, CommunicatorCollectives};
    use std::fmt;

    pub(super) struct World {
        world: SimpleCommunicator,
        /// MPI ends with it.
        _universe: Universe,
    }

    impl fmt::Debug for World {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (rank, size) = self.rank_of();
            write!(f, "rank {rank} of {size}")
        }
    }

    impl World {
        pub(super) fn join() -> Option<Self> {
            let universe = mpi::initialize()?;
            Some(Self {
                world: universe.world(),
                _universe: universe,
            })
        }

        pub(super) fn rank_of(&self) -> (usize, usize) {
            (self.world.rank() as usize, self.world.size() as usize)
        }

        pub(super) fn any(&self, yes: bool) -> bool {
            let mut all = 0u8;
            let own = u8::from(yes);
            self.world
                .all_reduce_into(&own, &mut all, SystemOperation::max());
            all != 0
        }

        pub(super) fn share(&self, lens: &[usize], all: &mut [f32]) {
            let (rank, size) = self.rank_of();
            let start = |shard: usize| lens[..shard].iter().sum::<usize>();
            let bounds = (0..size).map(|rank| part(rank, size, lens.len()));
            let bounds: Vec<_> = bounds.map(|own| start(own.start)..start(own.end)).collect();
            let counts: Vec<i32> = bounds.iter().map(|own| own.len() as i32).collect();
            let places: Vec<i32> = bounds.iter().map(|own| own.start as i32).collect();
            let own = all[bounds[rank].clone()].to_vec();
            let mut parts = PartitionMut::new(all, counts, &places[..]);
            self.world.all_gather_varcount_into(&own[..], &mut parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_are_in_order_and_equal() {
        assert_eq!([0, 1, 2].map(|rank| part(rank, 3, 8)), [0..3, 3..6, 6..8]);
        assert_eq!([0, 1, 2].map(|rank| part(rank, 3, 2)), [0..1, 1..2, 2..2]);
        assert_eq!(part(0, 1, 4), 0..4);
    }
}

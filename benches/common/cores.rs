//! Which processor does what: servers take the first that this process may use, the load generator the second.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::common::Result;

/// The processors of this process, as they were when it started.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    all: CpuSet,
    pair: Option<(usize, usize)>,
}

impl Cores {
    /// Must be asked before any thread is pinned.
    pub(crate) fn of_this_process() -> Result<Self> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let mut free = (0..CpuSet::count()).filter(|&core| all.is_set(core).unwrap_or(false));
        let pair = free.next().zip(free.next());
        if pair.is_none() {
            eprintln!("only one processor: servers and load generator share it, and figures will be noisy");
        }
        Ok(Self { all, pair })
    }

    pub(crate) fn all(&self) -> CpuSet {
        self.all
    }

    pub(crate) fn for_server(&self) -> Result<CpuSet> {
        self.only(self.pair.map(|(server, _)| server))
    }

    /// Moves the calling thread to the generator's processor.
    pub(crate) fn pin_generator(&self) -> Result<()> {
        sched_setaffinity(Pid::from_raw(0), &self.only(self.pair.map(|(_, generator)| generator))?)?;
        Ok(())
    }

    /// Lets the calling thread run anywhere again.
    pub(crate) fn unpin(&self) -> Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.all)?)
    }

    fn only(&self, core: Option<usize>) -> Result<CpuSet> {
        let Some(core) = core else { return Ok(self.all) };
        let mut set = CpuSet::new();
        set.set(core)?;
        Ok(set)
    }
}

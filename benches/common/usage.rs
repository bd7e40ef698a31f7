//! What a server used, from the kernel's account of it.

use std::fs;

use crate::common::Result;

/// Processor time of all threads of a process that are alive.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// On a processor, in user space or in the kernel (`schedstat`).
    pub(crate) nanoseconds: u64,
    user_ticks: u64,
    kernel_ticks: u64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let (user_ticks, kernel_ticks) = ticks(pid)?;
        Ok(Self { nanoseconds: scheduled_nanoseconds(pid)?, user_ticks, kernel_ticks })
    }

    pub(crate) fn since(&self, earlier: &Cpu) -> Cpu {
        Cpu {
            nanoseconds: self.nanoseconds.saturating_sub(earlier.nanoseconds),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            kernel_ticks: self.kernel_ticks.saturating_sub(earlier.kernel_ticks),
        }
    }

    /// The share spent in user space; coarse, for the kernel tells it in hundredths of a second.
    pub(crate) fn user_share(&self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.kernel_ticks).max(1) as f64
    }
}

/// Resident memory now, in bytes; `smaps_rollup` walks the page tables, so it is exact.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    kilobytes_at(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

/// The most that was ever resident, in bytes.
pub(crate) fn resident_bytes_peak(pid: u32) -> Result<u64> {
    kilobytes_at(&format!("/proc/{pid}/status"), "VmHWM:")
}

fn scheduled_nanoseconds(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let account = fs::read_to_string(thread?.path().join("schedstat"))?;
        let on_processor = account.split(' ').next().unwrap_or_default();
        sum += on_processor.parse::<u64>()?;
    }
    Ok(sum)
}

fn ticks(pid: u32) -> Result<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').ok_or("no program name in /proc/<pid>/stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next().ok_or("/proc/<pid>/stat is short");
    Ok((next()?.parse()?, next()?.parse()?))
}

fn kilobytes_at(path: &str, label: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .ok_or_else(|| format!("no {label} in {path}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

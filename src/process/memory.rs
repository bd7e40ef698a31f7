//! How much memory this process may use: that of the machine, or less if its control groups limit it.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// How much of a file below `/proc` or `/sys` is read, in bytes. `/proc/meminfo` has 2 KB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where control groups may be mounted, the file that has a group's limit, and the controller that is named with its
/// path in `/proc/self/cgroup`: none in version 2, which lies below `unified` where version 1 is there, too.
const HIERARCHIES: [(&str, &str, &str); 3] = [
    ("sys/fs/cgroup", "memory.max", ""),
    ("sys/fs/cgroup/unified", "memory.max", ""),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory"),
];

/// A limit on memory, and what it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    bytes: u64,
    who: String,
}

/// The warning when `-m`, in bytes, is more than there is: the kernel would end the process before such a cache is
/// full.
pub fn too_little_memory(memory_bytes: u64) -> Option<String> {
    warning(memory_bytes, smallest(Path::new("/"))?)
}

fn warning(memory_bytes: u64, bound: Bound) -> Option<String> {
    (memory_bytes > bound.bytes).then(|| {
        format!(
            "-m (--memory-limit) is {} MB and {} {} MB: when more is in use than that, the kernel ends this server; \
             lower -m, and leave some for connections",
            memory_bytes >> 20,
            bound.who,
            bound.bytes >> 20
        )
    })
}

/// The smallest limit in the files below `root`.
fn smallest(root: &Path) -> Option<Bound> {
    let machine = machine_bytes(root).map(|bytes| Bound { bytes, who: "the machine has".to_owned() });
    machine.into_iter().chain(group_bounds(root)).min_by_key(|bound| bound.bytes)
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = text_of(&root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// The limits of this process's control group, and of each above it.
fn group_bounds(root: &Path) -> Vec<Bound> {
    let groups = text_of(&root.join("proc/self/cgroup")).unwrap_or_default();
    let mut bounds = Vec::new();
    for (mount, file, controller) in HIERARCHIES {
        let Some(path) = groups.lines().find_map(|line| path_of(line, controller)) else { continue };
        let mount = root.join(mount);
        // A container may see its own group as the topmost one, under a name that only its host knows: what is not
        // there is passed over on the way up.
        for group in path.ancestors() {
            let Some(text) = text_of(&mount.join(group).join(file)) else { continue };
            // "max" is none; the older kind has a number larger than any memory for it.
            if let Ok(bytes) = text.trim().parse() {
                let who = format!("the control group /{} allows ({file})", group.display());
                bounds.push(Bound { bytes, who });
            }
        }
    }
    bounds
}

/// The path in a line of `/proc/self/cgroup`, as `4:cpu,memory:/path`, if it is for this controller; without the slash
/// in front.
fn path_of(line: &str, controller: &str) -> Option<PathBuf> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    controllers.split(',').find(|name| *name == controller)?;
    // From inside a namespace a group above it is shown with "..", and cannot be seen.
    let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
    Some(Path::new(path).components().filter(is_name).collect())
}

fn text_of(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A root directory with these files, gone at the end of the test.
    struct Root(PathBuf);

    impl Root {
        fn with(name: &str, files: &[(&str, &str)]) -> Root {
            let root = std::env::temp_dir().join(format!("ferrocached-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // What is left behind in the temporary directory harms nobody.
        }
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:        4194304 kB\nMemFree:          123456 kB\nSwapTotal: 0 kB\n");

    fn check(name: &str, files: &[(&str, &str)], expected_mb: u64, who: &str) {
        let root = Root::with(name, &[&[MEMINFO], files].concat());
        let bound = smallest(&root.0).unwrap();
        assert_eq!((bound.bytes >> 20, bound.who.contains(who)), (expected_mb, true), "{name}: {bound:?}");
    }

    #[test]
    fn without_control_groups_it_is_the_machine_that_bounds() {
        check("machine", &[], 4096, "the machine has");
        check("nowhere", &[("proc/self/cgroup", "0::/\n")], 4096, "the machine has");
        check("garbage", &[("proc/self/cgroup", "\n:\n0\n0:\n:::::\nmemory\n")], 4096, "the machine has");
        let none = Root::with("none", &[("proc/meminfo", "MemFree: 1 kB\n")]);
        assert_eq!(smallest(&none.0), None);
        let huge = Root::with("huge", &[("proc/meminfo", "MemTotal: 18446744073709551615 kB\n")]);
        assert_eq!(smallest(&huge.0), None);
    }

    #[test]
    fn the_smallest_bound_of_all_groups_above_counts() {
        const OWN: &str = "sys/fs/cgroup/a.slice/b.service/memory.max";
        const ABOVE: &str = "sys/fs/cgroup/a.slice/memory.max";
        let groups = ("proc/self/cgroup", "0::/a.slice/b.service\n");
        check(
            "own",
            &[groups, (OWN, "536870912\n"), (ABOVE, "max\n")],
            512,
            "group /a.slice/b.service allows",
        );
        check("above", &[groups, (OWN, "max\n"), (ABOVE, "1073741824\n")], 1024, "group /a.slice allows");
        check("both", &[groups, (OWN, "536870912\n"), (ABOVE, "268435456\n")], 256, "group /a.slice allows");
        check("more", &[groups, (OWN, "max\n"), (ABOVE, "1099511627776\n")], 4096, "the machine has");
        // A container's own group is the topmost that it sees.
        let top = ("sys/fs/cgroup/memory.max", "104857600\n");
        check("container", &[("proc/self/cgroup", "0::/\n"), top], 100, "group / allows (memory.max)");
        check("outside", &[("proc/self/cgroup", "0::/../../x\n"), top], 100, "group / allows");
        check("hidden", &[("proc/self/cgroup", "0::/kubepods/pod7/x\n"), top], 100, "group / allows");
    }

    #[test]
    fn version_1_has_files_of_its_own() {
        let groups = ("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/docker/abc\n2:pids:/y\n0::/z\n");
        const LIMIT: &str = "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes";
        check("v1", &[groups, (LIMIT, "209715200\n")], 200, "/docker/abc allows (memory.limit_in_bytes)");
        check("v1-none", &[groups, (LIMIT, "9223372036854771712\n")], 4096, "the machine has");
        let top = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "52428800\n");
        check("v1-bound", &[groups, top], 50, "group / allows");
        let unified = ("sys/fs/cgroup/unified/z/memory.max", "41943040\n");
        check("hybrid", &[groups, top, unified], 40, "group /z allows");
    }

    #[test]
    fn more_than_there_is_is_told_with_both_numbers() {
        let bound = || Bound { bytes: 512 << 20, who: "the machine has".to_owned() };
        assert_eq!(warning(512 << 20, bound()), None);
        let words = warning((512 << 20) + 1, bound()).unwrap();
        assert!(words.contains("is 512 MB and the machine has 512 MB"), "{words}");
        let words = warning(8 << 30, bound()).unwrap();
        assert!(words.starts_with("-m (--memory-limit) is 8192 MB and the machine has 512 MB"), "{words}");
    }
}

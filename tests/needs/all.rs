//! All that some test needs and some machine has not.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use super::{Need, on_path};

pub(crate) static ROOT: Need =
    Need { what: "root", brings: "run it as root", is_there: || geteuid().is_root() };

/// Found out by whoever asks for one.
pub(crate) static NAMESPACES: Need = Need {
    what: "networks and mount tables of its own",
    brings: "run it where root may unshare(1) networks and mount tables",
    is_there: || true,
};

pub(crate) static IPV6: Need = Need {
    what: "IPv6",
    brings: "give the loopback interface the address ::1",
    is_there: || TcpListener::bind("[::1]:0").is_ok(),
};

pub(crate) static UTIL_LINUX: Need = Need {
    what: "util-linux",
    brings: "apt-get install mount util-linux",
    is_there: || have(&["mount", "prlimit", "setpriv", "unshare"]),
};

pub(crate) static IP: Need =
    Need { what: "ip", brings: "apt-get install iproute2", is_there: || have(&["ip"]) };

pub(crate) static SYSTEMD: Need = Need {
    what: "systemd's tools",
    brings: "apt-get install systemd",
    is_there: || have(&["systemd-analyze", "systemd-socket-activate"]),
};

pub(crate) static MEMCACHED: Need =
    Need { what: "memcached", brings: "apt-get install memcached", is_there: || have(&["memcached"]) };

/// The one whose differences are listed: other versions have others.
pub(crate) static MEMCACHED_1_6_18: Need = Need {
    what: "memcached 1.6.18",
    brings: "install memcached 1.6.18, as Debian 12 has it",
    is_there: || {
        let version = on_path("memcached").and_then(|program| Command::new(program).arg("-V").output().ok());
        version.is_some_and(|version| version.stdout.trim_ascii() == b"memcached 1.6.18")
    },
};

/// What Debian has beside the server: its unit, and scripts in Perl.
pub(crate) static DEBIANS_MEMCACHED: Need = Need {
    what: "Debian's scripts for memcached",
    brings: "apt-get install memcached",
    is_there: || {
        let scripts = Path::new("/usr/share/memcached/scripts");
        let is_there = |script| scripts.join(script).is_file();
        ["memcached-tool", "systemd-memcached-wrapper"].into_iter().all(is_there)
            && Path::new("/lib/systemd/system/memcached.service").is_file()
            && have(&["perl"])
    },
};

pub(crate) static OPENSSL: Need =
    Need { what: "openssl", brings: "apt-get install openssl", is_there: || have(&["openssl"]) };

pub(crate) static GROFF: Need =
    Need { what: "groff", brings: "apt-get install groff-base", is_there: || have(&["groff"]) };

pub(crate) static PROMETHEUS: Need = Need {
    what: "Prometheus",
    brings: "apt-get install prometheus",
    is_there: || have(&["prometheus", "promtool"]),
};

pub(crate) static TELNET: Need =
    Need { what: "telnet", brings: "apt-get install telnet", is_there: || have(&["telnet"]) };

pub(crate) static LIBMEMCACHED: Need = Need {
    what: "libmemcached's tools",
    brings: "apt-get install libmemcached-tools",
    is_there: || have(&["memccapable", "memcstat"]),
};

/// What libmemcached logs in with.
pub(crate) static SASL_MODULES: Need = Need {
    what: "SASL's mechanisms",
    brings: "apt-get install libsasl2-modules",
    is_there: || {
        let mut libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        libraries.any(|entry| entry.path().join("sasl2/libplain.so").is_file())
    },
};

pub(crate) static TWEMPROXY: Need =
    Need { what: "nutcracker", brings: "apt-get install nutcracker", is_there: || have(&["nutcracker"]) };

pub(crate) static PYTHON: Need = Need {
    what: "python3 with venv",
    brings: "apt-get install python3 python3-venv",
    is_there: || runs("python3", &["-c", "import ensurepip, venv"]),
};

/// Found out by whoever fetches them.
pub(crate) static PYPI: Need =
    Need { what: "clients from PyPI", brings: "let pip reach PyPI", is_there: || true };

/// Found out by whoever fetches it. From PyPI it comes ready for Python 3.11 and older ones.
pub(crate) static PYLIBMC: Need = Need {
    what: "pylibmc",
    brings: "apt-get install gcc libmemcached-dev python3-dev zlib1g-dev",
    is_there: || true,
};

pub(crate) static NODE: Need = Need {
    what: "node",
    brings: "apt-get install nodejs npm",
    is_there: || runs("node", &["--version"]) && runs("npm", &["--version"]),
};

/// Found out by whoever fetches it.
pub(crate) static NPM_REGISTRY: Need =
    Need { what: "clients from npm's registry", brings: "let npm reach its registry", is_there: || true };

/// Found out by whoever fetches it.
pub(crate) static CRATES_IO: Need =
    Need { what: "a client from crates.io", brings: "let cargo reach crates.io", is_there: || true };

pub(crate) static PHP: Need = Need {
    what: "PHP with its class Memcached",
    brings: "apt-get install php-cli php-memcached",
    is_there: || runs("php", &["-r", "exit(class_exists('Memcached') ? 0 : 1);"]),
};

pub(crate) static SPYMEMCACHED: Need = Need {
    what: "Java with spymemcached",
    brings: "apt-get install default-jdk-headless libspymemcached-java",
    is_there: || {
        Path::new("/usr/share/java/spymemcached.jar").is_file()
            && runs("javac", &["-version"])
            && runs("java", &["-version"])
    },
};

fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| on_path(program).is_some())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

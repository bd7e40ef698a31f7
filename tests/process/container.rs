//! The manual's image, as far as it can be tried without a registry: the steps of its last stage, in an empty root directory.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::in_own_network;
use crate::server::{BINARY, Directory, Server, wait_for};

/// What Docker has commands looked for in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the base image has that the steps call, beside what they bring themselves.
const TOOLS: [&str; 3] = ["sh", "ln", "chmod"];

/// The instructions of the manual's recipe in order, each with its arguments.
fn recipe() -> Vec<(String, String)> {
    let text = ferrocached::manual::topic("container").unwrap().text;
    let (_, rest) = text.split_once("<!-- image -->\n```dockerfile\n").unwrap();
    let (text, _) = rest.split_once("```\n<!-- /image -->").unwrap();
    let lines = text.replace("\\\n", " ");
    let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

/// The words of `["one", "two"]`.
fn words(list: &str) -> Vec<String> {
    let list = list.trim().strip_prefix('[').unwrap().strip_suffix(']').unwrap();
    list.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
}

/// A root directory in which the steps were taken, and what they say about running it.
struct Image {
    root: Directory,
    environment: Vec<(String, String)>,
    user: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

impl Image {
    fn build() -> Image {
        let root = Directory::new();
        ["bin", "etc", "usr/bin", "usr/local/bin"].iter().for_each(|path| make_directory(&root.file(path)));
        for tool in TOOLS {
            bring_program(&root, &which(tool), &format!("/bin/{tool}"));
        }
        let mut image = Image {
            root,
            environment: Vec::new(),
            user: String::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
        };
        let recipe = recipe();
        let stages: Vec<_> = (0..recipe.len()).filter(|&at| recipe[at].0 == "FROM").collect();
        let [build, last] = stages[..] else { panic!("two stages: {recipe:?}") };
        assert!(
            recipe[build..last].iter().any(|(_, rest)| rest.starts_with("cargo build --release --locked"))
        );
        for (name, rest) in &recipe[last + 1..] {
            image.take_step(name, rest);
        }
        image
    }

    fn take_step(&mut self, name: &str, rest: &str) {
        match name {
            "COPY" => {
                let (source, target) = rest.strip_prefix("--from=build ").unwrap().split_once(' ').unwrap();
                assert_eq!(Path::new(source).file_name(), Path::new(BINARY).file_name());
                bring_program(&self.root, BINARY, target);
            }
            "RUN" => {
                let output = self.chroot(&["sh", "-c", rest]).output().unwrap();
                assert!(output.status.success(), "{rest}: {}", String::from_utf8_lossy(&output.stderr));
            }
            "ENV" => {
                let (name, value) = rest.split_once('=').unwrap();
                self.environment.push((name.to_owned(), value.to_owned()));
            }
            "USER" => rest.clone_into(&mut self.user),
            "EXPOSE" => assert_eq!(rest, "11211"),
            "ENTRYPOINT" => self.entrypoint = words(rest),
            "CMD" => self.command = words(rest),
            _ => panic!("no such step is known here: {name} {rest}"),
        }
    }

    /// Arguments in the root directory, as the user of the steps so far.
    fn chroot(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(which("chroot"));
        if !self.user.is_empty() {
            command.arg(format!("--userspec={}", self.user)).arg("--groups=");
        }
        command.arg(&self.root.0).args(arguments);
        command.env_clear().env("PATH", PATH).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// What `docker run` does: arguments take the place of the recipe's command.
    fn run(&self, arguments: &[&str]) -> Command {
        let command: Vec<&str> = match arguments {
            [] => self.command.iter().map(String::as_str).collect(),
            _ => arguments.to_vec(),
        };
        let entrypoint: Vec<&str> = self.entrypoint.iter().map(String::as_str).collect();
        self.chroot(&[entrypoint, command].concat())
    }

    fn output_of(&self, arguments: &[&str]) -> Output {
        self.run(arguments).output().unwrap()
    }
}

fn make_directory(path: &Path) {
    fs::create_dir_all(path).unwrap();
}

/// The path of a program of this machine.
fn which(name: &str) -> String {
    let found =
        PATH.split(':').map(|directory| format!("{directory}/{name}")).find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("{name} is in none of {PATH}"))
}

/// Copies a program to `target` in `root`, and the libraries that it needs to where they are here.
fn bring_program(root: &Directory, program: &str, target: &str) {
    let bring = |from: &str, to: &str| {
        let to = root.file(to.trim_start_matches('/'));
        make_directory(to.parent().unwrap());
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{from}: {error}"));
    };
    bring(program, target);
    // "libc.so.6 => /lib/libc.so.6 (0x…)", "/lib64/ld-linux.so.2 (0x…)", and one that is no file. Nothing for a static one.
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    for line in String::from_utf8(libraries.stdout).unwrap().lines() {
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            bring(path, path);
        }
    }
}

/// A server of the image, on memcached's port in the network of this thread.
fn started(image: &Image, arguments: &[&str]) -> Server {
    let directory = Directory::new();
    let log = fs::File::create(directory.file("log")).unwrap();
    let child: Child = image.run(arguments).stderr(log).spawn().unwrap();
    let mut server = Server { child, directory, port: 11211 };
    wait_for("the port", || {
        assert!(server.child.try_wait().unwrap().is_none(), "it ended at once: {}", server.log());
        TcpStream::connect(("127.0.0.1", server.port)).is_ok()
    });
    server
}

#[test]
fn the_image_in_the_manual_serves_whoever_reaches_its_port() {
    in_own_network(|| {
        let image = Image::build();
        for (arguments, limit) in
            [(&["-m", "64"][..], 64), (&["memcached", "-m", "100", "-u", "memcache"], 100), (&[], 64)]
        {
            let mut server = started(&image, arguments);
            for (from, to) in
                [("127.0.0.1", "127.0.0.1"), ("198.51.100.7", "198.51.100.8"), ("2001:db8::7", "2001:db8::8")]
            {
                let mut client = server.connect_from(from, to);
                assert_eq!(client.ask("set k 0 0 5\r\nhello\r\n"), "STORED", "{arguments:?} from {from}");
                assert_eq!(client.ask("get k\r\n"), "VALUE k 0 5", "{arguments:?} from {from}");
                assert_eq!([client.line(), client.line()], ["hello", "END"]);
                let bytes = (limit << 20).to_string();
                assert_eq!(client.stat("stats\r\n", "limit_maxbytes"), Some(bytes), "{arguments:?}");
            }
            let process =
                |file: &str| fs::read_to_string(format!("/proc/{}/{file}", server.child.id())).unwrap();
            assert_eq!(process("comm"), "memcached\n", "as pgrep and ps show it");
            let ids = |name: &str| {
                let status = process("status");
                status
                    .lines()
                    .find(|line| line.starts_with(name))
                    .unwrap()
                    .split_whitespace()
                    .skip(1)
                    .all(|id| id == "11211")
            };
            assert!(ids("Uid:") && ids("Gid:"), "{}", process("status"));
            // As `docker stop` does.
            kill(Pid::from_raw(server.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
            assert_eq!(server.exit_code(), Some(0));
        }
    });
}

#[test]
fn the_image_in_the_manual_runs_other_commands_too() {
    in_own_network(|| {
        let image = Image::build();
        for (arguments, said) in [
            (&["-V"][..], "memcached 1.6."),
            (&["sh", "-c", "echo $0 -x"], "sh -x"),
            (&["ferrocached", "-V"], "memcached 1.6."),
        ] {
            let output = image.output_of(arguments);
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && told.starts_with(said), "{arguments:?}: {output:?}");
        }
    });
}

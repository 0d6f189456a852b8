//! `stage/install/cargo.sh` with a cargo that only writes down what it was asked: when it asks, when it waits, what it says.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAMS: &str = "powerpole powerpole-agent powerpole-shim powerpole-control powerpole-stage";

/// A clone with the script, and a place for the builds that several clones share.
struct Clone {
    dir: tempfile::TempDir,
}

impl Clone {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
        let clone = Self { dir };
        for folder in ["clone/stage/install", "clone/src", "programs", "home"] {
            std::fs::create_dir_all(clone.at(folder)).unwrap();
        }
        for name in ["cargo.sh", "lib.sh"] {
            let to = clone.at("clone/stage/install").join(name);
            std::fs::copy(own.join(name), to).unwrap();
        }
        clone.write("clone/src/main.rs", "one");
        let cargo = format!(
            "#!/bin/sh\n\
             case $1 in --version) echo cargo 1; exit;; clean) exit;; esac\n\
             echo \"$@\" >>{asked}\n\
             mkdir -p \"$CARGO_TARGET_DIR/debug\"\n\
             for p in {PROGRAMS}; do cat {source} >\"$CARGO_TARGET_DIR/debug/$p\"; done\n\
             if [ -e {edit} ]; then rm {edit}; echo edited >>{source}; fi\n",
            asked = clone.at("asked").display(),
            source = clone.at("clone/src/main.rs").display(),
            edit = clone.at("edit").display(),
        );
        clone.program("cargo", &cargo);
        clone.program("rustc", "#!/bin/sh\necho rustc 1\n");
        clone
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.at(path), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.at("programs").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn script(&self) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("bash");
        command
            .arg(self.at("clone/stage/install/cargo.sh"))
            .arg("--bin")
            .arg(self.at("clone/.stage/bin"))
            .args(["build", "--workspace"])
            .env_clear()
            .env("PATH", format!("{}:{path}", self.at("programs").display()))
            .env("HOME", self.at("home"))
            .env("CARGO_TARGET_DIR", self.at("target"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it; how often cargo has built by then.
    fn builds(&self) -> usize {
        let output: Output = self.script().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let asked = std::fs::read_to_string(self.at("asked")).unwrap();
        asked.lines().count()
    }

    /// What the clone's program was built from.
    fn built(&self) -> String {
        std::fs::read_to_string(self.at("clone/.stage/bin/powerpole")).unwrap()
    }

    /// Another clone's build, until its standard input is closed.
    fn another_build(&self) -> std::process::Child {
        std::fs::create_dir_all(self.at("target")).unwrap();
        let mut other = Command::new("flock")
            .arg(self.at("target/.powerpole-lock"))
            .args(["sh", "-c", "echo held; cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = String::new();
        let said = other.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut held).unwrap();
        other
    }
}

#[test]
fn programs_of_these_sources_are_not_built_again_and_anything_that_changes_is() {
    let clone = Clone::new();
    assert_eq!(clone.builds(), 1);
    assert_eq!(clone.builds(), 1, "nothing has changed");

    clone.write("clone/src/main.rs", "two");
    assert_eq!((clone.builds(), clone.built().as_str()), (2, "two"));
    assert_eq!(clone.builds(), 2);

    // As long as before, and with the time of before.
    let before = std::fs::metadata(clone.at("clone/src/main.rs")).unwrap();
    clone.write("clone/src/main.rs", "owt");
    let file = std::fs::File::options()
        .append(true)
        .open(clone.at("clone/src/main.rs"))
        .unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!((clone.builds(), clone.built().as_str()), (3, "owt"));

    clone.write("clone/new.rs", "");
    assert_eq!(clone.builds(), 4, "a file that git does not know");
    clone.write("clone/.stage/bin/powerpole", "damaged");
    assert_eq!((clone.builds(), clone.built().as_str()), (5, "owt"));
    std::fs::remove_file(clone.at("clone/.stage/bin/powerpole-agent")).unwrap();
    assert_eq!(clone.builds(), 6);
    clone.program("rustc", "#!/bin/sh\necho rustc 2\n");
    assert_eq!(clone.builds(), 7, "another toolchain");

    // A stage's links of the programs change nothing.
    let bin = clone.at("clone/.stage/bin");
    std::fs::hard_link(bin.join("powerpole"), clone.at("link")).unwrap();
    assert_eq!(clone.builds(), 7);
}

#[test]
fn what_changes_while_cargo_runs_is_built_the_next_time() {
    let clone = Clone::new();
    clone.write("edit", "");
    assert_eq!((clone.builds(), clone.built().as_str()), (1, "one"));
    assert_eq!(clone.builds(), 2);
    assert_eq!(clone.built(), "oneedited\n");
}

#[test]
fn another_clones_build_is_waited_for_only_if_there_is_something_to_build_and_told() {
    let clone = Clone::new();
    assert_eq!(clone.builds(), 1);
    let mut other = clone.another_build();
    assert_eq!(clone.builds(), 1, "it did not wait");

    clone.write("clone/src/main.rs", "two");
    let mut waiting = clone.script().stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut errors = BufReader::new(waiting.stderr.take().unwrap());
    errors.read_line(&mut said).unwrap();
    let whose = format!(
        "{}, since ",
        clone.at("clone").canonicalize().unwrap().display()
    );
    assert!(said.contains("waiting for another build in"), "{said}");
    assert!(
        said.contains(&whose) && said.contains("cargo build --workspace"),
        "{said}"
    );
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(clone.built(), "two");
}

//! The Rust tests: compiled by cargo in one go, their programs run here, two at a time, so that each test's time is its own and a
//! model that a program holds is loaded once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use crate::process;
use crate::test_times::Outcome;

/// Programs that run side by side.
const SIDE_BY_SIDE: usize = 2;

/// A compiled program of tests.
#[derive(Clone, Debug)]
pub struct TestProgram {
    /// `engine` for the tests in the sources, `engine it` for the others.
    name: String,
    /// The package's folder, from the repository's root on.
    package: String,
    integration: bool,
    executable: PathBuf,
}

#[derive(Deserialize)]
struct Artefact {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Compiles the workspace's tests, and with them the programs that some of these run.
pub fn compile(root: &Path) -> Result<Vec<TestProgram>> {
    let mut cargo = process::cargo(root);
    cargo
        .args(["test", "--release", "--workspace", "--lib", "--bins"])
        .args(["--tests", "--no-run"])
        .arg("--message-format=json-render-diagnostics");
    let programs: Vec<_> = String::from_utf8(process::output(&mut cargo)?)?
        .lines()
        .filter_map(|line| program(root, line).transpose())
        .collect::<Result<_>>()?;
    ensure!(
        !programs.is_empty(),
        "`{}` made no program of tests",
        process::line(&cargo)
    );
    Ok(programs)
}

/// The program that a message of cargo's is about.
fn program(root: &Path, message: &str) -> Result<Option<TestProgram>> {
    let artefact: Artefact = serde_json::from_str(message)?;
    let test = artefact.profile.is_some_and(|profile| profile.test);
    let (Some(executable), Some(manifest), Some(target)) =
        (artefact.executable, artefact.manifest_path, artefact.target)
    else {
        return Ok(None);
    };
    if artefact.reason != "compiler-artifact" || !test {
        return Ok(None);
    }
    let folder = manifest.parent().context("a manifest has no folder")?;
    let package = folder.strip_prefix(root).unwrap_or(folder);
    let package = package.to_string_lossy().replace('\\', "/");
    let crate_name = package.rsplit('/').next().unwrap_or(&package).to_owned();
    let integration = target.kind.iter().any(|kind| kind == "test");
    let name = match (integration, target.kind.iter().any(|kind| kind == "bin")) {
        (true, _) => format!("{crate_name} it"),
        (_, true) => format!("{crate_name} program"),
        _ => crate_name,
    };
    Ok(Some(TestProgram {
        name,
        package,
        integration,
        executable,
    }))
}

/// Runs all programs to their ends, also after a failure, of which the error tells. `full`: with the tests that take long.
pub fn run(root: &Path, programs: &[TestProgram], full: bool) -> (Outcome, Result<()>) {
    // Those that hold models take longest, so that they begin.
    let mut ordered = programs.to_vec();
    ordered.sort_by_key(|program| {
        let long = ["engine it", "persona it", "engine", "cli it"];
        long.iter()
            .position(|name| *name == program.name)
            .unwrap_or(long.len())
    });
    let outcome = Mutex::new((Outcome::default(), Vec::new()));
    on_lanes(ordered.into_iter(), |program| {
        let ended = run_one(root, &program, full);
        let (all, wrong) = &mut *locked(&outcome);
        match ended {
            Ok((one, good)) => {
                all.append(one);
                if !good {
                    wrong.push(program.name);
                }
            }
            Err(error) => wrong.push(format!("{} ({error:#})", program.name)),
        }
    });
    let (outcome, wrong) = outcome
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let ended = if wrong.is_empty() {
        Ok(())
    } else {
        let failed = outcome.failed;
        Err(anyhow!(
            "{failed} Rust tests failed, in {}",
            wrong.join(", ")
        ))
    };
    (outcome, ended)
}

/// Takes one item after the other on each of [`SIDE_BY_SIDE`] threads.
fn on_lanes<T: Send>(items: impl Iterator<Item = T> + Send, run: impl Fn(T) + Sync) {
    let items = Mutex::new(items);
    // Written into the `while let`, the lock would be held for as long as the item runs.
    let next = || locked(&items).next();
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(item) = next() {
                    run(item);
                }
            });
        }
    });
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether the program ended well, and what it said, which is shown in one piece.
fn run_one(root: &Path, program: &TestProgram, full: bool) -> Result<(Outcome, bool)> {
    let mut command = process::command(&program.executable, &root.join(&program.package));
    // Times are not stable in the test harness; everything else is what `cargo test` does.
    command
        .args(["--test-threads=1", "-Zunstable-options", "--report-time"])
        .env("RUSTC_BOOTSTRAP", "1");
    if full {
        command.arg("--include-ignored").env("TRIMTAB_FULL", "1");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} could not be started", program.executable.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let outcome = read_lines(program, &said);
    println!("\n{}:\n{}", program.name, said.trim());
    let errors = String::from_utf8_lossy(&output.stderr);
    // A driver of the graphics device complains of a missing desktop once for each device.
    if !output.status.success() {
        println!("{}", errors.trim());
    }
    Ok((outcome, output.status.success()))
}

/// The harness's lines `test PATH ... ok <1.234s>`.
fn read_lines(program: &TestProgram, said: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in said.lines() {
        let Some((path, result)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        let words: Vec<&str> = result.split_whitespace().collect();
        match words.first().copied() {
            Some("ok") => outcome.passed += 1,
            Some("FAILED") => {
                outcome.failed += 1;
                outcome.failures.push(format!("{}: {path}", program.name));
            }
            Some("ignored" | "ignored,") => outcome.ignored += 1,
            _ => continue,
        }
        let seconds = words.last().and_then(|word| {
            let word = word.strip_prefix('<')?.strip_suffix("s>")?;
            word.parse().ok()
        });
        if let Some(seconds) = seconds {
            outcome.times.add(&program.file_of(path), seconds);
        }
    }
    outcome
}

impl TestProgram {
    /// Where the test of that path is written.
    fn file_of(&self, path: &str) -> String {
        let package = &self.package;
        let modules: Vec<&str> = path.split("::").collect();
        if self.integration {
            return format!("{package}/tests/it/{}.rs", modules[0]);
        }
        let end = modules.iter().position(|module| *module == "tests");
        let end = end.unwrap_or(modules.len().saturating_sub(1));
        match &modules[..end] {
            [] => format!("{package}/src"),
            modules => format!("{package}/src/{}.rs", modules.join("/")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::time::Duration;

    fn engine(integration: bool) -> TestProgram {
        TestProgram {
            name: "engine".into(),
            package: "crates/engine".into(),
            integration,
            executable: PathBuf::new(),
        }
    }

    #[test]
    fn tests_are_counted_and_belong_to_files() {
        let said = "running 3 tests\ntest golden_cpu::exact::steering ... ok <1.500s>\n\
                    test golden_cpu::fast::steering ... FAILED <0.250s>\n\
                    test golden_gpu::exact::long ... ignored, minutes on a software adapter\n\
                    test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured";
        let outcome = read_lines(&engine(true), said);
        assert_eq!((outcome.passed, outcome.failed, outcome.ignored), (1, 1, 1));
        let file = engine(true).file_of("golden_cpu::fast::steering");
        assert_eq!(file, "crates/engine/tests/it/golden_cpu.rs");
        let file = engine(false).file_of("gpu::self_check::tests::passes");
        assert_eq!(file, "crates/engine/src/gpu/self_check.rs");
    }

    #[test]
    fn as_many_as_there_are_lanes_run_at_once() {
        let (running, changed) = (Mutex::new(0), Condvar::new());
        on_lanes(0..SIDE_BY_SIDE, |_| {
            let mut running = locked(&running);
            *running += 1;
            changed.notify_all();
            let limit = Duration::from_secs(30);
            let met = changed.wait_timeout_while(running, limit, |running| *running < SIDE_BY_SIDE);
            assert!(!met.unwrap().1.timed_out(), "one waits for the other");
        });
    }

    #[test]
    fn programs_of_tests_are_told_from_other_artefacts() {
        let root = Path::new("/r");
        let message = |test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/crates/cli/Cargo.toml","target":{{"kind":["test"]}},"profile":{{"test":{test}}},"executable":"/r/target/it"}}"#
            )
        };
        let found = program(root, &message(true)).unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.package.as_str()),
            ("cli it", "crates/cli")
        );
        assert!(program(root, &message(false)).unwrap().is_none());
        let end = r#"{"reason":"build-finished","success":true}"#;
        assert!(program(root, end).unwrap().is_none());
    }
}

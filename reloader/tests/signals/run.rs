//! Runs signal actions, and processes to signal.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::nginx::Nginx;
use e2e::wait_for;
use reloader::testing::Process;
use reloader::testing::Stop;
use reloader::testing::{Action, Content, Failure};
use reloader::testing::{LastMaster, SendSignal, Target, Verify};

/// Some content: signals do not depend on it.
pub fn content() -> Content {
    Content { digest: "0".repeat(64), directories: Vec::new(), files: None }
}

/// HUP to a target.
pub fn hup(target: Target) -> SendSignal {
    let signal = "HUP".parse().expect("a signal");
    SendSignal {
        signal,
        target,
        verify: Verify::Automatic,
        timeout: Duration::from_secs(60),
        master: LastMaster::default(),
    }
}

/// HUP to a server, by the title of its master.
pub fn reload(nginx: &Nginx) -> SendSignal {
    hup(Target::Process(nginx.title()))
}

/// Runs an action.
pub fn run_action(action: &SendSignal) -> Result<String, Failure> {
    action.run(&content(), &Stop::default())
}

/// The error of an action that fails, and whether it is without effect.
pub fn failure(action: &SendSignal) -> (String, bool) {
    let failure = run_action(action).expect_err("a failure");
    (format!("{:#}", failure.error), failure.is_without_effect)
}

/// The proof of an action that succeeds, if need be in another attempt: on a busy machine the
/// moment that proves a reload may be missed, never the other way round.
pub fn proof(action: &SendSignal) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match run_action(action) {
            Ok(proof) => return proof,
            Err(failure) => {
                let error = format!("{:#}", failure.error);
                assert!(error.contains("may only have crashed"), "{error}");
                assert!(Instant::now() < deadline, "{error}");
            }
        }
    }
}

/// A process that is killed when dropped.
pub struct Running(Child);

impl Running {
    /// Starts a command, whose stdin stays open.
    pub fn start(command: &mut Command) -> Self {
        e2e::signals::reset_for_children();
        Self(command.stdin(Stdio::piped()).spawn().expect("started"))
    }

    /// Starts `cat`, which handles no signal.
    pub fn cat() -> Self {
        Self::start(&mut Command::new("cat")).once_called("cat")
    }

    /// Starts a shell script and waits until it has printed that it is ready, by `echo`.
    pub fn script(script: &str) -> Self {
        use std::io::Read;
        let mut shell = Command::new("sh");
        let mut running = Self::start(shell.args(["-c", script]).stdout(Stdio::piped()));
        let mut stdout = running.0.stdout.take().expect("a pipe");
        stdout.read_exact(&mut [0]).expect("it is ready");
        // It may go on writing.
        running.0.stdout = Some(stdout);
        running
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().expect("its state").is_none()
    }

    /// Waits until it is no longer the program that has started it.
    pub fn once_called(self, name: &str) -> Self {
        wait_for(name, || {
            let process = Process::read(self.id()).expect("read");
            process.is_some_and(|process| process.name == name.as_bytes())
        });
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

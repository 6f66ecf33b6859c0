//! Processes of the lab: started inside a namespace, ended by their id.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Namespace, wait::eventually};

/// A child process whose output goes to a log file. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    namespace: String,
    child: Mutex<Child>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in the namespace, standard output and error appended to `log`.
    pub(crate) fn start(
        name: &str,
        namespace: &Namespace,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        // A group of its own: an interrupt from the keyboard is for the lab, which ends its processes in order.
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0);
        let child = namespace
            .enter(|| command.spawn())?
            .with_context(|| format!("start {command:?}"))?;
        let namespace = namespace.name().to_owned();
        Ok(Self {
            name: name.to_owned(),
            namespace,
            pid: child.id(),
            child: Mutex::new(child),
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of the namespace it was started in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The exit status if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        // Killing what has ended already is what was wanted.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Asks it to end (SIGTERM) and waits; kills it when it has not ended in time, and says so in the error.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let result = eventually(&format!("the end of {}", self.name), within, || {
            self.ended().ok_or("still running".into())
        });
        if result.is_err() {
            self.kill();
        }
        result
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            let pid = Pid::from_raw(self.pid as i32).context("a child has a process id")?;
            kill_process(pid, signal).with_context(|| format!("signal {}", self.name))?;
        }
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

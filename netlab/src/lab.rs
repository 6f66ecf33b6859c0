//! The owner of everything a scenario makes.
//!
//! What the lab makes it first tells its guardian, a small process that holds the list and the reading end of a pipe.
//! When the pipe closes, because the lab was dropped or because its process was killed in whatever way, the guardian
//! kills the processes in the namespaces, then removes namespaces and directories. There is no other way of cleaning up,
//! so the one there is runs in every test.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, ensure};

use crate::{Namespace, Process, netns};

/// Namespaces, processes and directories of one scenario. Dropping it removes all of them; when that happens in a panic,
/// or after [`Lab::failed`], the state of everything is first written to a directory whose path is printed.
#[derive(Debug)]
pub struct Lab {
    name: String,
    id: String,
    dir: PathBuf,
    guardian: Mutex<Child>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    namespaces: Vec<Arc<Namespace>>,
    processes: Vec<Arc<Process>>,
    exhibits: Vec<Exhibit>,
    failed: bool,
}

/// A command whose output helps to understand a failure.
#[derive(Debug)]
struct Exhibit {
    namespace: Arc<Namespace>,
    file: String,
    command: Vec<String>,
}

impl Lab {
    /// Opens an empty lab; `name` shows in the report of a failure.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab needs root: it makes network namespaces"
        );
        let id = format!(
            "lab{}x{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // It must outlive an interrupt from the keyboard.
            .process_group(0)
            .spawn()
            .context("start the guardian")?;
        let dir = std::env::temp_dir().join(&id);
        let lab = Self {
            name: name.to_owned(),
            id,
            dir,
            guardian: Mutex::new(guardian),
            inside: Mutex::default(),
        };
        lab.guard("dir", &lab.dir.to_string_lossy())?;
        fs::create_dir_all(&lab.dir)?;
        // Routing daemons drop their privileges and still must reach their own directory.
        fs::set_permissions(
            &lab.dir,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        Ok(lab)
    }

    /// A name no other lab on this machine has.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A directory of the lab's own, made when asked for first.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A path outside the lab's directory that is removed with the lab: a directory for pins on bpffs.
    pub fn remove_later(&self, path: &Path) -> Result<()> {
        self.guard("dir", &path.to_string_lossy())
    }

    /// Makes a network namespace.
    pub fn namespace(&self, label: &str) -> Result<Arc<Namespace>> {
        let name = format!("{}-{label}", self.id);
        self.guard("netns", &name)?;
        let namespace = Arc::new(Namespace::make(label, &name)?);
        self.inside().namespaces.push(Arc::clone(&namespace));
        for (file, command) in [
            ("addresses", "ip -d address"),
            ("routes", "ip -d route show table all"),
            ("routes6", "ip -d -6 route show table all"),
            ("neighbours", "ip neigh"),
            ("sockets", "ss -tunap"),
        ] {
            self.exhibit(&namespace, file, &command.split(' ').collect::<Vec<_>>());
        }
        Ok(namespace)
    }

    /// All namespaces, in the order of their making.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.inside().namespaces.clone()
    }

    /// Starts a process in a namespace; its output goes to `logs/NAME` in the lab's directory.
    pub fn spawn(
        &self,
        name: &str,
        namespace: &Namespace,
        command: &mut Command,
    ) -> Result<Arc<Process>> {
        let log = self.dir("logs")?.join(name);
        let process = Arc::new(Process::start(name, namespace, command, &log)?);
        self.inside().processes.push(Arc::clone(&process));
        Ok(process)
    }

    /// Cuts the power of a namespace: its processes are killed, then all its links go down.
    pub fn power_off(&self, namespace: &Namespace) -> Result<()> {
        let running: Vec<Arc<Process>> = self.inside().processes.clone();
        for process in running
            .iter()
            .filter(|process| process.namespace() == namespace.name())
        {
            process.kill();
        }
        let links = namespace.run("ip", &["-o", "link", "show", "up"])?;
        for line in links.lines() {
            let name = line
                .split(": ")
                .nth(1)
                .and_then(|name| name.split('@').next());
            if let Some(name) = name.filter(|name| *name != "lo") {
                namespace.ip(&format!("link set {name} down"))?;
            }
        }
        Ok(())
    }

    /// Adds a command whose output is written down when the scenario fails.
    pub fn exhibit(&self, namespace: &Arc<Namespace>, file: &str, command: &[&str]) {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        self.inside().exhibits.push(Exhibit {
            namespace: Arc::clone(namespace),
            file: file.to_owned(),
            command,
        });
    }

    /// Says that the scenario failed without a panic, so that its state is written down.
    pub fn failed(&self) {
        self.inside().failed = true;
    }

    /// Writes the state of all namespaces, the exhibits and the logs to a directory and answers its path.
    pub fn write_down(&self) -> Result<PathBuf> {
        let out = std::env::temp_dir().join(format!("netlab-{}-{}", self.name, self.id));
        fs::create_dir_all(&out)?;
        let logs = self.dir.join("logs");
        if logs.exists() {
            netns::run(Command::new("cp").arg("-r").arg(&logs).arg(&out))?;
        }
        let inside = self.inside();
        thread::scope(|scope| {
            for exhibit in &inside.exhibits {
                let dir = out.join(exhibit.namespace.label());
                scope.spawn(move || exhibit.write_to(&dir));
            }
        });
        Ok(out)
    }

    fn guard(&self, what: &str, name: &str) -> Result<()> {
        let mut guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = guardian
            .stdin
            .as_mut()
            .context("the guardian's pipe is open while the lab lives")?;
        writeln!(stdin, "{what} {name}").context("tell the guardian")
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() || self.inside().failed {
            match self.write_down() {
                Ok(path) => eprintln!(
                    "netlab: {} failed; its state is in {}",
                    self.name,
                    path.display()
                ),
                Err(error) => eprintln!(
                    "netlab: {} failed, and its state could not be written: {error:#}",
                    self.name
                ),
            }
        }
        for process in &self.inside().processes {
            process.kill();
        }
        let mut guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guardian.stdin.take());
        // It ends by itself; its status tells nothing that could be acted on here.
        let _ = guardian.wait();
    }
}

impl Exhibit {
    fn write_to(&self, dir: &Path) {
        let [program, args @ ..] = self.command.as_slice() else {
            return;
        };
        let mut text = format!("$ {}\n", self.command.join(" "));
        // `timeout` because the daemon asked may be the one that hangs.
        let output = self.namespace.enter(|| {
            Command::new("timeout")
                .arg("10")
                .arg(program)
                .args(args)
                .output()
        });
        let _ = match output {
            Ok(Ok(output)) => {
                write!(
                    text,
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                )
            }
            Ok(Err(error)) => write!(text, "{error}"),
            Err(error) => write!(text, "{error:#}"),
        };
        // A report that cannot be written must not hide the failure it is about.
        let _ = fs::create_dir_all(dir).and_then(|()| fs::write(dir.join(&self.file), text));
    }
}

/// Reads what to remove until the pipe closes, then removes it, the newest first.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
list=
while read -r what name; do list="$what $name
$list"; done
exec 2>/dev/null
printf '%s' "$list" | while read -r what name; do
  if [ "$what" = netns ]; then
    for pid in $(ip netns pids "$name"); do kill -9 "$pid"; done
    ip netns del "$name"
  fi
done
printf '%s' "$list" | while read -r what name; do
  if [ "$what" = dir ]; then rm -rf "$name"; fi
done
"#;

//! Compiles `bpf/programs` and leaves the object in `OUT_DIR` as `cleat-tc`, if the `host` feature is on.
//!
//! The programs need `core` built from source, so a compiler with its library sources beside it, and bpf-linker. The first
//! compiler that is complete is taken: `CLEAT_BPF_RUSTC` with `CLEAT_BPF_CARGO`; `/usr/bin/rustc` (Debian's rustc-web and
//! rust-web-src); rustup's `nightly` with rust-src; the compiler of this build, if it has rust-src. bpf-linker comes from
//! `.tools/bin`, then from `PATH`. `scripts/setup` installs both. `CLEAT_BPF_OBJECT_DIR` names a directory with a ready
//! `cleat-tc` and skips all that.
//!
//! Every failure is one line of error, so that it is the last thing a reader sees.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const OBJECT: &str = "cleat-tc";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_HOST").is_none() {
        return;
    }
    if let Err(problem) = build() {
        // The error alone fails the build; a failing exit would have cargo print all that was said here as well.
        println!("cargo::error={problem}");
    }
}

fn build() -> Result<(), String> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(variable("OUT_DIR")?).join(OBJECT);
    let programs = root.join("bpf/programs");
    for watched in [
        "bpf/programs/src",
        "bpf/programs/Cargo.toml",
        "bpf/programs/Cargo.lock",
        "bpf/src",
        "bpf/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!(
        "cargo::rerun-if-changed={}",
        root.join(".tools/bin/bpf-linker").display()
    );
    for name in ["CLEAT_BPF_RUSTC", "CLEAT_BPF_CARGO", "CLEAT_BPF_OBJECT_DIR"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Some(dir) = env::var_os("CLEAT_BPF_OBJECT_DIR") {
        return copy(&Path::new(&dir).join(OBJECT), &out);
    }

    let toolchain = Toolchain::find()
        .ok_or("no Rust compiler with library sources for the eBPF programs; run scripts/setup")?;
    let linker = find_linker(&root).ok_or("bpf-linker is missing; run scripts/setup")?;
    let little = variable("CARGO_CFG_TARGET_ENDIAN")? == "little";
    let target = if little {
        "bpfel-unknown-none"
    } else {
        "bpfeb-unknown-none"
    };
    // One build serves all profiles.
    let target_dir = programs.join("target");
    let output = Command::new(&toolchain.cargo)
        .current_dir(&programs)
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=core",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &toolchain.rustc)
        // Building core is a matter of unstable flags, which Debian's stable compiler hides otherwise.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&linker)?.join("\x1f"))
        .env_remove("CARGO")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", toolchain.cargo.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let first = text
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("no reason given");
        for line in text.lines() {
            println!("cargo::warning={line}");
        }
        return Err(format!(
            "the eBPF programs do not compile: {first}; if the toolchain is at fault, run scripts/setup"
        ));
    }
    copy(&target_dir.join(target).join("release").join(OBJECT), &out)
}

fn flags(linker: &Path) -> Result<[String; 6], String> {
    let linker = linker
        .to_str()
        .ok_or("the path of bpf-linker is not UTF-8")?;
    Ok([
        format!(
            "--cfg=bpf_target_arch=\"{}\"",
            variable("CARGO_CFG_TARGET_ARCH")?
        ),
        // BTF is made from debug information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={linker}"),
        // 32-bit arithmetic and jumps: every kernel from 5.1 on has them.
        "-Ctarget-cpu=v3".to_owned(),
        // The linker's default makes a call of a byte loop out of every memset and memcpy: 20 ns a packet.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
    ])
}

struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
}

impl Toolchain {
    fn find() -> Option<Self> {
        let named = || {
            Self::complete(
                env::var_os("CLEAT_BPF_RUSTC")?,
                env::var_os("CLEAT_BPF_CARGO")?,
            )
        };
        let debian = || Self::complete("/usr/bin/rustc".into(), "/usr/bin/cargo".into());
        let nightly = || Self::complete(rustup("rustc")?.into(), rustup("cargo")?.into());
        let present = || Self::complete(env::var_os("RUSTC")?, env::var_os("CARGO")?);
        named().or_else(debian).or_else(nightly).or_else(present)
    }

    /// A compiler counts only with its library sources.
    fn complete(rustc: OsString, cargo: OsString) -> Option<Self> {
        let sysroot = answer(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        let found = Self {
            rustc: rustc.into(),
            cargo: cargo.into(),
        };
        (core.exists() && found.cargo.exists()).then_some(found)
    }
}

fn rustup(tool: &str) -> Option<String> {
    answer(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]))
}

fn answer(command: &mut Command) -> Option<String> {
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn find_linker(root: &Path) -> Option<PathBuf> {
    let own = fs::canonicalize(root.join(".tools/bin/bpf-linker")).ok();
    own.or_else(|| {
        let path = env::var_os("PATH")?;
        env::split_paths(&path)
            .map(|dir| dir.join("bpf-linker"))
            .find(|file| file.exists())
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed={}", from.display());
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("{}: {error}", from.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

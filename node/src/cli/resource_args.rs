//! Arguments and help of the commands that work on resources.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::patch::Style;

/// Where resources are read from.
#[derive(Debug, ClapArgs)]
pub struct Sources {
    /// A YAML or JSON file, a directory of them, or `-` for standard input; may be given again.
    #[arg(
        long = "filename",
        short = 'f',
        required = true,
        value_name = "FILE|-|DIR"
    )]
    pub paths: Vec<PathBuf>,
    /// Go into directories below a directory.
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Files and directories without resources are no error.
    #[arg(long)]
    pub skip_empty: bool,
    /// The namespace of resources that name none; one that names another is refused.
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What `create` creates.
#[derive(Debug, ClapArgs)]
pub struct Create {
    /// The files.
    #[command(flatten)]
    pub sources: Sources,
    /// What is there already is left as it is, and counts as created.
    #[arg(long)]
    pub skip_exists: bool,
}

/// Kinds and names, or the files that name them.
#[derive(Debug, ClapArgs)]
pub struct Selection {
    /// A kind and names, or KIND/NAME pairs.
    #[arg(
        value_name = "KIND [NAME...] | KIND/NAME...",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    pub what: Vec<String>,
    /// What these files name.
    #[arg(long = "filename", short = 'f', value_name = "FILE|-|DIR")]
    pub files: Vec<PathBuf>,
    /// Go into directories below a directory.
    #[arg(long, short = 'R', requires = "files")]
    pub recursive: bool,
    /// Files and directories without resources are no error.
    #[arg(long, requires = "files")]
    pub skip_empty: bool,
    /// The namespace; `default` if not given.
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What `get` shows.
#[derive(Debug, ClapArgs)]
pub struct Get {
    /// Which.
    #[command(flatten)]
    pub selection: Selection,
    /// All namespaces.
    #[arg(
        long,
        short = 'A',
        visible_short_alias = 'a',
        conflicts_with = "namespace"
    )]
    pub all_namespaces: bool,
    /// Without what belongs to this store alone: uid, times, version, namespace. Only for resources that are named.
    #[arg(long)]
    pub export: bool,
    /// Go on and show every change, until interrupted.
    #[arg(long, short = 'w', conflicts_with = "files")]
    pub watch: bool,
}

/// What `delete` deletes.
#[derive(Debug, ClapArgs)]
pub struct Delete {
    /// Which.
    #[command(flatten)]
    pub selection: Selection,
    /// What is not there counts as deleted.
    #[arg(long, short = 's', visible_alias = "ignore-not-found")]
    pub skip_not_exists: bool,
}

/// What `patch` changes.
#[derive(Debug, ClapArgs)]
pub struct Patch {
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The patch, as JSON.
    #[arg(long = "patch", short = 'p', value_name = "JSON")]
    pub text: String,
    /// What the patch is written in.
    #[arg(
        long = "type",
        short = 't',
        value_enum,
        value_name = "TYPE",
        default_value = "strategic"
    )]
    pub style: PatchStyle,
    /// The namespace; `default` if not given.
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What a patch is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PatchStyle {
    /// Strategic merge: a part of the resource; lists of its spec are replaced whole.
    Strategic,
    /// JSON patch, RFC 6902: a list of operations.
    Json,
    /// JSON merge, RFC 7386.
    Merge,
}

impl From<PatchStyle> for Style {
    fn from(style: PatchStyle) -> Self {
        match style {
            PatchStyle::Strategic => Style::Strategic,
            PatchStyle::Json => Style::Json,
            PatchStyle::Merge => Style::Merge,
        }
    }
}

/// What `label` changes.
#[derive(Debug, ClapArgs)]
pub struct Label {
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// A label as KEY=VALUE; with `--remove`, its key.
    #[arg(value_name = "KEY=VALUE | KEY", required = true)]
    pub labels: Vec<String>,
    /// A label that has another value gets this one.
    #[arg(long, conflicts_with = "remove")]
    pub overwrite: bool,
    /// Take the label away.
    #[arg(long)]
    pub remove: bool,
    /// The namespace; `default` if not given.
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What `import` reads, and into what.
#[derive(Debug, ClapArgs)]
pub struct Import {
    /// The file that `cleat export` or `calicoctl datastore migrate export` has written, or `-` for standard input.
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Make the store what the file says: what differs is overwritten, what the file lacks is deleted.
    #[arg(long)]
    pub overwrite: bool,
    /// Add what is missing and leave what is there.
    #[arg(long, conflicts_with = "overwrite")]
    pub merge: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

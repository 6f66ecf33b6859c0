//! The last good state of a store in a file, from which a host goes on while the store is away.
//!
//! ```text
//! "CLEATSNP"  layout: u32                                      what it is
//! source: text  guid: text  revision: u64                      whose state, and how far it goes
//! written: u64 (seconds since 1970)  count: u32
//! count × { path: text  revision: u64  value: u32 length, JSON as it is stored }
//! SHA-256 of everything before it
//! ```
//!
//! Numbers are little-endian, texts are preceded by their length in a `u16`. A file is written beside the old one,
//! made durable, and renamed over it: a reader finds the old state or the new one, whole. What is not whole is
//! refused with its reason, and so is the layout of a later version. The state before the last one is not kept: to
//! go on from it because of a damaged byte could open what has been closed since.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

use crate::{
    Key, Resource,
    resource::MAX_VALUE_LEN,
    store::{Entry, entry},
};

/// A state as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Whose state it is.
    pub origin: Origin,
    /// When it was written, to the second.
    pub written: SystemTime,
    /// The objects, by key.
    pub entries: Vec<Entry>,
    /// How many objects the file holds that this version knows no key for; they are left out.
    pub unknown: usize,
}

/// Which store a state comes from, and how far it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The kind of store.
    pub source: String,
    /// The identity that `ClusterInformation` gives the cluster; empty if it gives none.
    pub guid: String,
    /// The revision that the state goes up to.
    pub revision: u64,
}

/// Why a file is not used. The host goes on without it, as on its first start.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It does not begin as such a file does.
    #[error("is no snapshot")]
    NoSnapshot,
    /// A later version wrote it.
    #[error("has layout {found}, of a later version; this one knows {LAYOUT}")]
    Newer {
        /// The layout's number.
        found: u32,
    },
    /// It is the state of another kind of store.
    #[error("is the state of a store of kind {found:?}, not {expected:?}")]
    Foreign {
        /// The kind of store in the file.
        found: String,
        /// The kind of store that is used.
        expected: String,
    },
    /// It is larger than any such file.
    #[error("has {0} bytes, more than {MAX_LEN}")]
    TooLarge(u64),
    /// It is torn, cut off or altered.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
}

/// Reads the state in a file; `None` if there is no file. `source` is the kind of store that is used.
pub fn read(path: &Path, source: &str) -> Result<Option<Snapshot>, Refused> {
    let file = match OpenOptions::new()
        .read(true)
        // A pipe in the file's place must not be waited for.
        .custom_flags(NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Refused::NoSnapshot);
    }
    read_from(file, metadata.len(), source).map(Some)
}

/// Writes a state in place of the one in the file. Whatever happens, the file holds the old state or the new one.
/// Returns the number of bytes.
pub fn write<'a>(
    path: &Path,
    origin: &Origin,
    written: SystemTime,
    entries: impl ExactSizeIterator<Item = (&'a Key, u64, &'a Resource)>,
) -> io::Result<u64> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let beside = beside(path);
    let done = (|| {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        let file = write_to(file, origin, written, entries)?;
        file.sync_all()?;
        let len = file.metadata()?.len();
        if len > MAX_LEN {
            return Err(io::Error::other("the state is too large to be kept"));
        }
        fs::rename(&beside, path)?;
        // The rename itself lasts when the directory is written.
        File::open(directory)?.sync_all()?;
        Ok(len)
    })();
    if done.is_err() {
        // Half a file is of no use, and may be what filled the disk.
        let _ = fs::remove_file(&beside);
    }
    done
}

/// Notes that the state in the file still holds: its time of change becomes now.
pub fn confirm(path: &Path, now: SystemTime) -> io::Result<()> {
    File::options().append(true).open(path)?.set_modified(now)
}

/// When the state in the file was last known to hold.
pub fn confirmed(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(crate) fn write_to<'a, W: Write>(
    output: W,
    origin: &Origin,
    written: SystemTime,
    entries: impl ExactSizeIterator<Item = (&'a Key, u64, &'a Resource)>,
) -> io::Result<W> {
    let mut output = Hashing {
        inner: BufWriter::with_capacity(BUFFER, output),
        hash: Sha256::new(),
    };
    output.write_all(MAGIC)?;
    output.write_all(&LAYOUT.to_le_bytes())?;
    text(&mut output, &origin.source)?;
    text(&mut output, &origin.guid)?;
    output.write_all(&origin.revision.to_le_bytes())?;
    let seconds = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    output.write_all(&seconds.as_secs().to_le_bytes())?;
    let count = u32::try_from(entries.len()).map_err(io::Error::other)?;
    output.write_all(&count.to_le_bytes())?;
    for (key, revision, resource) in entries {
        text(&mut output, &key.path())?;
        output.write_all(&revision.to_le_bytes())?;
        let value = resource.encode();
        let len = u32::try_from(value.len()).map_err(io::Error::other)?;
        output.write_all(&len.to_le_bytes())?;
        output.write_all(&value)?;
    }
    let digest = output.hash.finalize();
    output.inner.write_all(&digest)?;
    output
        .inner
        .into_inner()
        .map_err(io::IntoInnerError::into_error)
}

fn text(output: &mut impl Write, text: &str) -> io::Result<()> {
    let len = u16::try_from(text.len()).map_err(io::Error::other)?;
    output.write_all(&len.to_le_bytes())?;
    output.write_all(text.as_bytes())
}

/// Reads twice: what is not known to be whole is not taken apart.
pub(crate) fn read_from<R: Read + Seek>(
    mut input: R,
    len: u64,
    source: &str,
) -> Result<Snapshot, Refused> {
    if len > MAX_LEN {
        return Err(Refused::TooLarge(len));
    }
    let mut head = [0; MAGIC.len() + size_of::<u32>()];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Refused::NoSnapshot);
        }
        done => done?,
    }
    let Some(layout) = head.strip_prefix(MAGIC.as_slice()) else {
        return Err(Refused::NoSnapshot);
    };
    match u32::from_le_bytes(layout.try_into().unwrap_or_default()) {
        LAYOUT => {}
        found if found > LAYOUT => return Err(Refused::Newer { found }),
        _ => return Err(Refused::Damaged("there has never been such a layout")),
    }
    let covered = len
        .checked_sub(DIGEST_LEN)
        .filter(|covered| *covered >= head.len() as u64)
        .ok_or(Refused::Damaged("it is cut off"))?;
    input.rewind()?;
    let mut input = BufReader::with_capacity(BUFFER, input);
    let mut hash = Hashing {
        inner: io::sink(),
        hash: Sha256::new(),
    };
    let hashed = io::copy(&mut input.by_ref().take(covered), &mut hash)?;
    let mut digest = [0; DIGEST_LEN as usize];
    if hashed != covered || input.read_exact(&mut digest).is_err() {
        return Err(Refused::Damaged("it is cut off"));
    }
    if hash.hash.finalize().as_slice() != digest {
        return Err(Refused::Damaged("its checksum is not that of its content"));
    }
    input.seek(SeekFrom::Start(head.len() as u64))?;
    let mut body = Body(input.take(covered - head.len() as u64));
    let snapshot = body.snapshot(source)?;
    if body.0.limit() > 0 {
        return Err(Refused::Damaged("something follows its objects"));
    }
    Ok(snapshot)
}

/// Reads what follows the layout's number, as if it were whole.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_content(content: &[u8]) -> Result<Snapshot, Refused> {
    let source_len = content
        .first_chunk()
        .map_or(0, |len| u16::from_le_bytes(*len));
    let source = content.get(2..2 + usize::from(source_len));
    let source = source.and_then(|source| std::str::from_utf8(source).ok());
    Body(content.take(content.len() as u64)).snapshot(source.unwrap_or_default())
}

/// What follows the layout's number. Every length is checked before it is believed: the checksum tells accidents, not
/// a file that was made to harm.
struct Body<R>(io::Take<R>);

impl<R: Read> Body<R> {
    fn snapshot(&mut self, source: &str) -> Result<Snapshot, Refused> {
        let origin = Origin {
            source: self.text()?,
            guid: self.text()?,
            revision: self.u64()?,
        };
        if origin.source != source {
            return Err(Refused::Foreign {
                found: origin.source,
                expected: source.to_owned(),
            });
        }
        let written = UNIX_EPOCH
            .checked_add(Duration::from_secs(self.u64()?))
            .ok_or(Refused::Damaged("it is of no time"))?;
        let count = self.u32()? as usize;
        if count > MAX_COUNT {
            return Err(Refused::Damaged("it holds too many objects"));
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut unknown = 0;
        for _ in 0..count {
            let path = self.text()?;
            let revision = self.u64()?;
            let value = self.value()?;
            match Key::parse(&path) {
                Some(key) => entries.push(entry(key, &value, revision)),
                None => unknown += 1,
            }
        }
        Ok(Snapshot {
            origin,
            written,
            entries,
            unknown,
        })
    }

    fn value(&mut self) -> Result<Vec<u8>, Refused> {
        let len = self.u32()? as usize;
        if len > MAX_VALUE_LEN {
            return Err(Refused::Damaged("an object in it is too large"));
        }
        self.bytes(len)
    }

    fn text(&mut self) -> Result<String, Refused> {
        let len = u16::from_le_bytes(self.array()?);
        String::from_utf8(self.bytes(len.into())?)
            .map_err(|_| Refused::Damaged("a text in it is none"))
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, Refused> {
        if len as u64 > self.0.limit() {
            return Err(SHORT);
        }
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).map_err(|_| SHORT)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Refused> {
        let mut array = [0; LEN];
        self.0.read_exact(&mut array).map_err(|_| SHORT)?;
        Ok(array)
    }
}

/// Passes bytes on and adds them up.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const MAGIC: &[u8; 8] = b"CLEATSNP";
const LAYOUT: u32 = 1;
const DIGEST_LEN: u64 = 32;
/// Ten times what a million endpoints take would not be a host's business any more.
const MAX_LEN: u64 = 4 << 30;
const MAX_COUNT: usize = 4_000_000;
const BUFFER: usize = 256 << 10;
const SHORT: Refused = Refused::Damaged("it ends within an object");
/// `O_NONBLOCK`, the same number on every architecture that is built for.
const NONBLOCK: i32 = 0o4000;

#[cfg(test)]
mod tests;

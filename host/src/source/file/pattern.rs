//! Which files a path of the configuration names.
//!
//! Owns globs and what may be read through them. It must not know what has been read already. Invariant: a pattern
//! leads to regular files below the folder in front of its first wildcard and nowhere else; a plain path leads where
//! the user points it, links included, as long as a regular file stands there.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, bail};

/// When a file was made, and when it was last written.
pub(super) type Born = (SystemTime, SystemTime);

/// How often a folder is listed again because it changed meanwhile.
const RENAMES: usize = 8;

/// A file as a look at its folder shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) dev: u64,
    pub(super) inode: u64,
    /// Orders the generations of a rotated file.
    pub(super) born: Born,
}

impl Seen {
    pub(super) fn new(path: PathBuf, about: &Metadata) -> Self {
        let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let made = about.created().unwrap_or(modified);
        Self { path, dev: about.dev(), inode: about.ino(), born: (made, modified) }
    }

    pub(super) fn id(&self) -> (u64, u64) {
        (self.dev, self.inode)
    }
}

/// The regular files in the folder of `path`, links left out, the oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn siblings(path: &Path) -> io::Result<Vec<Seen>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut all = Vec::new();
    // A file that is renamed meanwhile would be missed: once more then.
    for _ in 0..RENAMES {
        all.clear();
        let mut whole = true;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(about) if about.is_file() => all.push(Seen::new(entry.path(), &about)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => whole = false,
                Err(error) => return Err(error),
            }
        }
        if whole {
            break;
        }
    }
    all.sort_by(|a, b| (a.born, &a.path).cmp(&(b.born, &b.path)));
    Ok(all)
}

/// A path or a glob.
#[derive(Debug)]
pub(super) struct Pattern {
    written: String,
    /// The folder that links may not lead out of.
    root: PathBuf,
    what: What,
    warned: HashSet<PathBuf>,
}

#[derive(Debug)]
enum What {
    Path(PathBuf),
    Glob(String),
}

impl Pattern {
    /// Reads `path` as the user wrote it, relative to `base`.
    ///
    /// # Errors
    /// When it is no glob.
    pub(super) fn parse(base: &Path, path: &str) -> anyhow::Result<Self> {
        let literal = base.join(path);
        let wild = path.find(['*', '?', '[']).filter(|_| !literal.exists());
        let Some(wild) = wild else {
            let root = literal.parent().map_or_else(|| base.to_owned(), Path::to_owned);
            return Ok(Self { written: path.to_owned(), root, what: What::Path(literal), warned: HashSet::new() });
        };
        glob::Pattern::new(path).with_context(|| format!("`{path}` is no pattern"))?;
        let front = path[..wild].rsplit_once('/').map_or("", |(front, _)| if front.is_empty() { "/" } else { front });
        let glob = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{}/{path}", glob::Pattern::escape(&base.to_string_lossy())),
        };
        let warned = HashSet::new();
        Ok(Self { written: path.to_owned(), root: base.join(front), what: What::Glob(glob), warned })
    }

    /// The pattern as the user wrote it.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// The folder that is looked in.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// All files it names now, by path.
    ///
    /// # Errors
    /// When a plain path leads to something other than a regular file, or a folder cannot be read.
    pub(super) fn list(&mut self) -> anyhow::Result<Vec<Seen>> {
        let pattern = match &self.what {
            What::Path(path) => {
                return match fs::metadata(path) {
                    Ok(about) if about.is_file() => Ok(vec![Seen::new(path.clone(), &about)]),
                    Ok(_) => bail!("`{}` is no regular file", path.display()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                    Err(error) => Err(error).with_context(|| format!("look at `{}`", path.display())),
                };
            }
            What::Glob(pattern) => pattern,
        };
        let mut all = Vec::new();
        for path in glob::glob(pattern).with_context(|| format!("`{}` is no pattern", self.written))? {
            let path = match path {
                Ok(path) => path,
                Err(error) if error.error().kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context("look for files"),
            };
            match fs::metadata(&path) {
                Ok(about) if about.is_file() => all.push(Seen::new(path, &about)),
                Ok(about) if about.is_dir() => {}
                Ok(_) => warn_once(&mut self.warned, path, "is no regular file"),
                // Gone since, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("look at `{}`", path.display())),
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Whether the file at `path`, which the pattern names, may be read: a link that leads out of the folder may not.
    pub(super) fn allows(&mut self, path: &Path) -> bool {
        if matches!(self.what, What::Path(_)) {
            return true;
        }
        let inside = fs::canonicalize(path)
            .is_ok_and(|real| fs::canonicalize(&self.root).is_ok_and(|root| real.starts_with(root)));
        if !inside {
            warn_once(&mut self.warned, path.to_owned(), "leads out of the folder");
        }
        inside
    }
}

fn warn_once(warned: &mut HashSet<PathBuf>, path: PathBuf, why: &str) {
    if !warned.contains(&path) {
        tracing::warn!(path = %path.display(), "left out a file, which {why}");
        warned.insert(path);
    }
}

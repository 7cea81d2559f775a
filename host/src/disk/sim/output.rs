//! Files that are appended to, on a simulated disk.
//!
//! Owns no state of its own. Invariant: each step that a real disk may fail at is an operation of its own.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    super::{
        About, Below, Disk, How, Output, Outputs,
        output::{above, shelved},
    },
    Need, Sim, SimFile, State,
};

impl Output for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes, |content| content.seen.len())
    }

    fn about(&self) -> io::Result<About> {
        let bytes = super::File::len(self)?;
        Ok(About { id: (0, self.file as u64), bytes, is_regular: true, made: SystemTime::UNIX_EPOCH })
    }
}

impl Outputs for Sim {
    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(self.file(path, How::Either)?))
    }

    fn about(&self, path: &Path) -> io::Result<Option<About>> {
        self.operate(Need::None, |state: &mut State| {
            let file = state.platter.seen.files.get(path).copied();
            let bytes = state.platter.content(path).map(|content| content.seen.len() as u64).unwrap_or_default();
            Ok(file.map(|file| About { id: (0, file as u64), bytes, is_regular: true, made: SystemTime::UNIX_EPOCH }))
        })
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.create_folder(folder)?;
        folder.ancestors().skip(1).try_for_each(|above| self.sync_folder(above))
    }

    fn below(&self, folder: &Path) -> io::Result<Box<dyn Below>> {
        Ok(Box::new(SimBelow { sim: self.clone(), folder: folder.to_owned() }))
    }
}

#[derive(Debug)]
struct SimBelow {
    sim: Sim,
    folder: PathBuf,
}

impl Below for SimBelow {
    fn append(&self, path: &str) -> io::Result<Box<dyn Output>> {
        let path = self.folder.join(path);
        self.sim.create_folder(path.parent().unwrap_or(&self.folder))?;
        Outputs::append(&self.sim, &path)
    }

    fn shelve(&self, path: &str) -> io::Result<()> {
        let path = self.folder.join(path);
        let next = shelved(&self.sim, &path)?.last().map_or(1, |(number, _)| number + 1);
        self.sim.rename(&path, Path::new(&format!("{}.{next}", path.display())))?;
        self.sim.sync_folder(above(&path))
    }

    fn sync_names(&self, path: &str) -> io::Result<()> {
        let path = self.folder.join(path);
        let all = path.ancestors().skip(1).take_while(|above| above.starts_with(&self.folder));
        all.into_iter().try_for_each(|above| self.sim.sync_folder(above))
    }
}

//! What one process sees of the simulated disk.

use super::*;

fn name_of(path: &Path) -> OsString {
    path.file_name().unwrap().to_owned()
}

impl Process {
    fn opened(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.disk.state.lock();
        state.check(self.number)?;
        let &file = state.seen.get(&name_of(path)).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Open { disk: self.disk.clone(), process: self.number, file }))
    }
}

impl Disk for Process {
    /// Durable, as the real one's is: what there is to lose begins in the folder.
    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        self.disk.state.lock().check(self.number)
    }

    fn names(&self, _folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.disk.state.lock();
        state.check(self.number)?;
        Ok(state.seen.keys().cloned().collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.state.lock().all_or_nothing(self.number, |state| {
            if let Some(&file) = state.seen.get(&name_of(path)) {
                state.change(file, Change::Length(0));
                return file;
            }
            let file = state.files.len();
            state.files.push(File::default());
            state.rename(NameChange::Put(name_of(path), file));
            file
        })?;
        Ok(Box::new(Open { disk: self.disk.clone(), process: self.number, file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.opened(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.opened(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.state.lock().all_or_nothing(self.number, |state| {
            let (from, to) = (name_of(from), name_of(to));
            let file = state.seen[&from];
            state.rename(NameChange::Renamed { from, to, file });
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.state.lock().all_or_nothing(self.number, |state| state.rename(NameChange::Removed(name_of(path))))
    }

    /// When it fails the names stay unsynced, as lengths do.
    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        self.disk.state.lock().all_or_nothing(self.number, |state| {
            state.durable = state.seen.clone();
            state.unsynced.clear();
        })
    }

    fn sync_is_dear(&self) -> bool {
        false
    }
}

impl DiskFile for Open {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.disk.state.lock();
        state.check(self.process)?;
        let at = usize::try_from(at).unwrap();
        let found = state.files[self.file].seen.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.check(self.process)?;
        if state.holding {
            state.held = true;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            while state.held {
                self.disk.let_go.wait(&mut state);
            }
        }
        let fate = state.fate(self.process)?;
        let written = if matches!(fate, Fate::Done) { bytes.len() } else { state.rng.random_range(0..=bytes.len()) };
        let change = Change::Write { at: usize::try_from(at).unwrap(), bytes: bytes[..written].to_vec() };
        state.change(self.file, change);
        match fate {
            Fate::Done => Ok(()),
            Fate::Fails => Err(io::ErrorKind::StorageFull.into()),
            Fate::Ends => Err(gone()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        state.check(self.process)?;
        Ok(state.files[self.file].seen.len() as u64)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let change = Change::Length(usize::try_from(bytes).unwrap());
        self.disk.state.lock().all_or_nothing(self.process, |state| state.change(self.file, change))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let fate = state.fate(self.process)?;
        let whole = matches!(fate, Fate::Done) || (matches!(fate, Fate::Ends) && state.rng.random_bool(0.5));
        if whole {
            // What an earlier sync failed to write is clean by now, and is passed over.
            let File { durable, unsynced, .. } = &mut state.files[self.file];
            unsynced.drain(..).for_each(|change| apply(durable, &change));
        } else if matches!(fate, Fate::Fails) {
            let cuts = state.tear(self.file);
            // Lengths are in the file system's own journal, and that does not forget.
            state.files[self.file].unsynced = cuts;
        }
        match fate {
            Fate::Done => Ok(()),
            Fate::Fails => Err(io::Error::other("input/output error")),
            Fate::Ends => Err(gone()),
        }
    }
}

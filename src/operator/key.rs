//! The local issuer's key: a file in the data folder that its owner alone may read, made once, whoever comes first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
use rand::{CryptoRng, Rng};

const FILE: &str = "operator.key";
/// As long as the hash of HS256 (RFC 7518, 3.2).
const BYTES: usize = 32;

/// The key in `data_dir`, made where there is none.
pub(super) fn open(data_dir: &Path, rng: &mut (impl Rng + CryptoRng)) -> anyhow::Result<[u8; BYTES]> {
    let path = data_dir.join(FILE);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(data_dir, &path, rng).with_context(|| format!("cannot write the operators' key {}", path.display()))?;
        }
        _ => {}
    }
    read(&path)
}

/// Written aside and linked into its place: a reader sees all of it or nothing, and of two makers one wins.
fn make(data_dir: &Path, path: &Path, rng: &mut (impl Rng + CryptoRng)) -> anyhow::Result<()> {
    crate::data_dir::create(data_dir)?;
    let key: [u8; BYTES] = rng.random();
    let draft = data_dir.join(format!("{FILE}.{:016x}", rng.random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = write(&mut file, &key).and_then(|()| fs::hard_link(&draft, path));
    drop(fs::remove_file(&draft));
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    Ok(File::open(data_dir)?.sync_all()?)
}

fn write(file: &mut File, key: &[u8]) -> io::Result<()> {
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn read(path: &Path) -> anyhow::Result<[u8; BYTES]> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the operators' key {}", path.display()))?;
    let mode = fs::metadata(path)?.mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "the operators' key {} may be read by others (mode {mode:03o}): delete it, so that a new one is made and all tokens end",
        path.display()
    );
    let decoded = decode(text.trim());
    decoded.with_context(|| format!("the file {} holds no key: delete it, so that a new one is made", path.display()))
}

fn decode(text: &str) -> Option<[u8; BYTES]> {
    let mut key = [0; BYTES];
    (text.len() == 2 * BYTES && text.is_ascii()).then_some(())?;
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    #[test]
    fn the_first_one_makes_it_and_everybody_gets_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let open = |seed| open(&data_dir, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap();
            let makers: Vec<_> = (0..16).map(|seed| scope.spawn(move || open(seed))).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; BYTES]));
        let left: Vec<_> = fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [FILE], "no draft is left");
        assert_eq!(fs::metadata(data_dir.join(FILE)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        open(folder.path(), &mut rng).unwrap();
        let path = folder.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let told = open(folder.path(), &mut rng).unwrap_err().to_string();
        assert!(told.contains("may be read by others (mode 640): delete it"), "{told}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "00", &"zz".repeat(32), &"é".repeat(32), &"00".repeat(33)] {
            fs::write(&path, text).unwrap();
            let told = open(folder.path(), &mut rng).unwrap_err().to_string();
            assert!(told.contains("holds no key: delete it"), "{text:?} gave {told}");
        }
    }
}

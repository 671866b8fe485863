//! The archive: sealed journal segments, byte for byte, in a folder or in an object store that speaks S3.
//!
//! It promises: what `put` returned from is durable and whole, and a name that holds other bytes is never written over. Objects are
//! called `journal/{replica}/{segment:016}.seg`.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, Error, ObjectStore, ObjectStoreExt, PutMode, RetryConfig};

use crate::config;
use crate::ids::ReplicaId;

/// A store that does not even take a connection in this time is away; who asked tries again later.
const CONNECT_TIMEOUT: &str = "5 seconds";
/// A whole segment over a slow line.
const REQUEST_TIMEOUT: &str = "2 minutes";
/// Short stumbles only: the callers' own loops wait longer.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where sealed segments are kept.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For people: a folder, or `s3://bucket/prefix`.
    place: String,
    shared: bool,
}

/// Under a segment's name lie bytes that are not the segment's: two journals have one name, or one of them was changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "segment {segment} of replica {replica} is in the archive already with other bytes: its journal or the archive was changed, \
     or two data folders are copies of one; nothing was written over"
)]
pub struct OtherBytes {
    /// Whose segment.
    pub replica: ReplicaId,
    /// Its number.
    pub segment: u64,
}

impl Archive {
    /// The archive that the settings name. A folder is made where there is none; nothing is asked of an object store yet.
    pub fn open(settings: &config::Archive, data_dir: &FilePath) -> anyhow::Result<Self> {
        if let Some(rest) = settings.url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            ensure!(
                !bucket.is_empty(),
                "the setting archive.url is \"{}\", but must name a bucket: s3://bucket/prefix",
                settings.url
            );
            let prefix = Path::parse(prefix.trim_end_matches('/'))
                .context("the setting archive.url has a prefix that object stores do not take")?;
            let store = s3(settings, bucket).context("the setting archive.url or one beside it cannot be used")?;
            return Ok(Self { store: Arc::new(store), prefix, place: settings.url.clone(), shared: true });
        }
        let folder = settings.url.strip_prefix("file://").unwrap_or(&settings.url);
        let data_dir = std::path::absolute(data_dir)?;
        let folder = folder.replace("{data_dir}", &data_dir.display().to_string());
        let folder = std::path::absolute(folder)?.display().to_string();
        make(FilePath::new(&folder))
            .with_context(|| format!("the archive's folder {folder} cannot be made: see the setting archive.url"))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .with_context(|| format!("the archive's folder {folder} cannot be opened: see the setting archive.url"))?
            .with_fsync(true);
        Ok(Self { store: Arc::new(store), prefix: Path::default(), place: folder, shared: false })
    }

    /// For people: where it is.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether every replica reaches the same one: an object store, and not a folder of some machine.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// A place beside the journals, for what is kept with them.
    pub fn beside(&self, name: &str) -> (Arc<dyn ObjectStore>, Path) {
        (self.store.clone(), self.prefix.clone().join(name))
    }

    fn name(&self, replica: &ReplicaId, segment: u64) -> Path {
        self.prefix.clone().join("journal").join(replica.as_str()).join(format!("{segment:016}.seg"))
    }

    /// Keeps a segment; durable when this returns. The same bytes again are fine, others are [`OtherBytes`].
    pub async fn put(&self, replica: &ReplicaId, segment: u64, bytes: Bytes) -> anyhow::Result<()> {
        let name = self.name(replica, segment);
        // An upload that a crash interrupted may have arrived.
        if let Some(there) = self.get(replica, segment).await? {
            return same(replica, segment, &there, &bytes);
        }
        let put = self.store.put_opts(&name, bytes.clone().into(), PutMode::Create.into()).await;
        match put {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. }) => match self.get(replica, segment).await? {
                Some(there) => same(replica, segment, &there, &bytes),
                None => bail!("{name} in the archive {} went away while it was written", self.place),
            },
            // Stores from before conditional writes: nobody else writes this name, and it was not there a moment ago.
            Err(error) if error.to_string().contains("NotImplemented") => {
                self.store.put(&name, bytes.into()).await.map(drop).with_context(|| self.failed("written", &name))
            }
            Err(error) => Err(error).with_context(|| self.failed("written", &name)),
        }
    }

    /// A segment's bytes; none when it is not there.
    pub async fn get(&self, replica: &ReplicaId, segment: u64) -> anyhow::Result<Option<Bytes>> {
        let name = self.name(replica, segment);
        let got = match self.store.get(&name).await {
            Ok(got) => got,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.failed("read", &name)),
        };
        got.bytes().await.map(Some).with_context(|| self.failed("read", &name))
    }

    /// Takes a segment away; fine when it is not there.
    pub async fn remove(&self, replica: &ReplicaId, segment: u64) -> anyhow::Result<()> {
        let name = self.name(replica, segment);
        match self.store.delete(&name).await {
            Ok(()) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error).with_context(|| self.failed("removed", &name)),
        }
    }

    fn failed(&self, done: &str, name: &Path) -> String {
        format!("{name} cannot be {done} in the archive {}", self.place)
    }
}

/// Makes a folder and those above it, for their owner alone. Durably: one that is lost takes along whatever was synced in it.
fn make(folder: &FilePath) -> anyhow::Result<()> {
    let missing: Vec<&FilePath> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    crate::data_dir::create(folder)?;
    for above in missing.iter().filter_map(|made| made.parent()) {
        std::fs::File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn same(replica: &ReplicaId, segment: u64, there: &Bytes, ours: &Bytes) -> anyhow::Result<()> {
    if there == ours {
        return Ok(());
    }
    Err(OtherBytes { replica: replica.clone(), segment }.into())
}

/// A bucket that is not there answers 404 like an object, but means a wrong setting.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !error.to_string().contains("NoSuchBucket")
}

fn s3(settings: &config::Archive, bucket: &str) -> anyhow::Result<object_store::aws::AmazonS3> {
    // The client is built without a TLS of its own; one that is installed already does as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    // One by one: client options as a whole would put what the environment says of them aside.
    let mut builder = AmazonS3Builder::from_env()
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIMEOUT)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
        .with_retry(retry)
        .with_bucket_name(bucket);
    for (value, with) in [
        (&settings.endpoint, AmazonS3Builder::with_endpoint as fn(AmazonS3Builder, String) -> AmazonS3Builder),
        (&settings.region, AmazonS3Builder::with_region),
        (&settings.access_key_id, AmazonS3Builder::with_access_key_id),
        (&settings.secret_access_key, AmazonS3Builder::with_secret_access_key),
    ] {
        if !value.is_empty() {
            builder = with(builder, value.clone());
        }
    }
    if settings.allow_http {
        builder = builder.with_allow_http(true);
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &FilePath) -> Archive {
        let settings = config::Settings::defaults(folder).unwrap();
        Archive::open(&settings.archive, folder).unwrap()
    }

    #[tokio::test]
    async fn a_segment_is_kept_under_its_name_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        let replica = ReplicaId::from("rep_1");
        assert_eq!(archive.get(&replica, 7).await.unwrap(), None);
        for _ in 0..2 {
            archive.put(&replica, 7, Bytes::from_static(b"seven")).await.unwrap();
        }
        let error = archive.put(&replica, 7, Bytes::from_static(b"eight")).await.unwrap_err();
        assert!(error.is::<OtherBytes>(), "{error:#}");
        let file = folder.path().join("archive/journal/rep_1/0000000000000007.seg");
        assert_eq!(std::fs::read(file).unwrap(), b"seven");
        assert_eq!(archive.get(&replica, 7).await.unwrap().unwrap(), "seven");
        for _ in 0..2 {
            archive.remove(&replica, 7).await.unwrap();
        }
        assert_eq!(archive.get(&replica, 7).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_folder_may_be_written_as_a_path_or_as_a_file_url() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("with space");
        let replica = ReplicaId::from("rep_1");
        let mut settings = config::Settings::defaults(folder.path()).unwrap().archive;
        for (number, url) in [(1, at.display().to_string()), (2, format!("file://{}", at.display()))] {
            settings.url = url;
            let archive = Archive::open(&settings, folder.path()).unwrap();
            archive.put(&replica, number, Bytes::from_static(b"x")).await.unwrap();
        }
        assert_eq!(std::fs::read_dir(at.join("journal/rep_1")).unwrap().count(), 2);
    }

    #[test]
    fn an_object_store_is_made_of_settings_and_says_what_is_missing() {
        let mut settings = config::Settings::defaults(FilePath::new("/nowhere")).unwrap().archive;
        settings.url = "s3://bucket/some/prefix/".to_owned();
        settings.endpoint = "http://127.0.0.1:9".to_owned();
        settings.region = "eu-central-1".to_owned();
        let archive = Archive::open(&settings, FilePath::new("/nowhere")).unwrap();
        assert_eq!(archive.name(&ReplicaId::from("rep_1"), 3).as_ref(), "some/prefix/journal/rep_1/0000000000000003.seg");
        settings.url = "s3:///prefix".to_owned();
        let error = format!("{:#}", Archive::open(&settings, FilePath::new("/nowhere")).err().unwrap());
        assert!(error.contains("archive.url"), "{error}");
    }
}

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use landfall_oci::digest::Algorithm;
use landfall_testkit::image_builder::digest_of;

use super::*;
use crate::repository::record::RecordChange;

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    /// Makes a registry with an unreferenced blob.
    fn new() -> Fixture {
        let fixture = Fixture {
            directory: tempfile::tempdir().unwrap(),
        };
        fixture.push(&fixture.open(), b"garbage");
        fixture
    }

    fn directories(&self) -> RegistryDirs {
        // The path is longer than a socket's path may be.
        let root = Utf8Path::from_path(self.directory.path()).unwrap();
        RegistryDirs::standalone(&root.join("long".repeat(40)))
    }

    fn open(&self) -> Arc<Registry> {
        let directories = self.directories();
        let store = ContentStore::open(&directories.store).unwrap();
        Arc::new(Registry::open(store, &directories.records).unwrap())
    }

    fn push(&self, registry: &Registry, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let mut upload = registry.store.upload(Algorithm::Sha256);
        upload.append(bytes).unwrap();
        upload.commit(&digest).unwrap();
        digest
    }

    /// Runs a command while this process serves the registry.
    async fn run(&self, registry: &Arc<Registry>, command: AdminCommand) -> Result<Deleted, AdminError> {
        let directories = self.directories();
        while_served(registry, move || run_admin_command(&directories, &command)).await
    }
}

async fn while_served<T: Send + 'static>(registry: &Arc<Registry>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let root = registry.store.root().to_owned();
    let listening = move || fs::File::open(&root).and_then(|root| net::UnixStream::connect(socket_path(&root)));
    let work = tokio::task::spawn_blocking(move || {
        while listening().is_err() {
            std::thread::yield_now();
        }
        work()
    });
    tokio::select! {
        never = serve_admin_socket(registry.clone()) => match never {},
        done = work => done.unwrap(),
    }
}

fn collect() -> AdminCommand {
    AdminCommand::CollectGarbage { grace_seconds: 0 }
}

#[test]
fn an_order_is_carried_out_by_whoever_gives_it_when_nobody_has_the_store() {
    let fixture = Fixture::new();
    let deleted = run_admin_command(&fixture.directories(), &collect()).unwrap();
    assert_eq!((deleted.files, deleted.bytes), (1, 7));
}

#[tokio::test]
async fn an_order_is_carried_out_by_the_process_that_has_the_store() {
    let fixture = Fixture::new();
    let registry = fixture.open();
    let deleted = fixture.run(&registry, collect()).await.unwrap();
    assert_eq!((deleted.files, deleted.bytes), (1, 7));
    // The socket of a killed process exists, and no process listens on it.
    assert!(fixture.directories().store.join(SOCKET).exists());
    let error = run_admin_command(&fixture.directories(), &collect()).unwrap_err();
    assert!(error.to_string().contains("is in use by process "), "{error}");
    let deleted = fixture.run(&registry, collect()).await.unwrap();
    assert_eq!(deleted, Deleted::default(), "and it is replaced");
}

#[tokio::test]
async fn a_damaged_manifest_is_deleted_and_its_tags_stay() {
    let fixture = Fixture::new();
    let registry = fixture.open();
    let name: Repository = "a/b".parse().unwrap();
    let index = br#"{"schemaVersion": 2, "manifests": []}"#;
    let digest = fixture.push(&registry, index);
    let add = |digest: &Digest| RecordChange::AddManifest {
        digest: digest.clone(),
        entry: serde_json::from_str(r#"{"mediaType": "application/vnd.oci.image.index.v1+json", "size": 37}"#).unwrap(),
    };
    let tag = |digest: &Digest| RecordChange::SetTag {
        tag: "v1".parse().unwrap(),
        digest: digest.clone(),
    };
    registry
        .records
        .change(&name, |_| (vec![add(&digest), tag(&digest)], ()))
        .unwrap();
    assert!(registry.can_serve(&name, "v1").unwrap());
    let command = AdminCommand::DeleteDamaged { digest: digest.clone() };
    assert_eq!(
        fixture.run(&registry, command.clone()).await.unwrap(),
        Deleted::default()
    );
    let path = fixture.directories().store.join("blobs/sha256").join(digest.hex());
    std::fs::write(path, "rotten").unwrap();
    let deleted = fixture.run(&registry, command.clone()).await.unwrap();
    assert_eq!((deleted.files, deleted.manifests, deleted.tags), (1, 0, 0));
    assert_eq!(registry.find_manifest(&name, "v1").unwrap(), Some(digest));
    assert!(!registry.can_serve(&name, "v1").unwrap());
    assert_eq!(fixture.run(&registry, command).await.unwrap(), Deleted::default());
}

#[tokio::test]
async fn what_is_no_order_is_answered_and_the_next_one_is_heard() {
    let fixture = Fixture::new();
    let registry = fixture.open();
    let directories = fixture.directories();
    let deleted = while_served(&registry, move || {
        let directory = fs::File::open(&directories.store).unwrap();
        for (said, heard) in [
            (
                "{\"rob\":{}}\n",
                "this is not a request of the admin socket: unknown variant `rob`",
            ),
            ("", "this is not a request of the admin socket: EOF"),
        ] {
            let mut stream = net::UnixStream::connect(socket_path(&directory)).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let answer: Result<Deleted, String> = serde_json::from_reader(stream).unwrap();
            let message = answer.unwrap_err();
            assert!(message.starts_with(heard), "{message}");
        }
        run_admin_command(&directories, &collect()).unwrap()
    });
    assert_eq!(deleted.await.files, 1);
}

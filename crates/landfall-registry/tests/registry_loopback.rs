//! Landfall's client with Landfall's registry over real sockets: images go from an archive into a store, from there
//! into a registry with TLS and a login, and back into another store.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

use std::net::SocketAddr;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::{Timestamp, ToSpan};
use landfall_core::failure::FailureKind;
use landfall_core::reference::{ImageReference, Repository};
use landfall_core::status::NoProgress;
use landfall_net::certificate::{Validity, issue_certificate, make_authority};
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::{Drained, ServeLimits, serve};
use landfall_net::tls::TlsPolicy;
use landfall_oci::archive::open_archive;
use landfall_oci::client::{Endpoint, Login, RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyOptions, copy_image};
use landfall_oci::store::ContentStore;
use landfall_oci::store::endpoints::{StoreSink, StoreSource};
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, Users, registry_service};
use landfall_testkit::image_builder::{FixtureBuilder, docker_archive, multi_platform, oci_archive};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Served {
    address: SocketAddr,
    authority: String,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
    task: JoinSet<Drained>,
}

impl Served {
    async fn start(store: ContentStore, directory: &Utf8Path) -> Served {
        let validity = Validity {
            not_before: Timestamp::now() - 1.hour(),
            not_after: Timestamp::now() + 1.hour(),
        };
        let authority = make_authority("test", validity).unwrap();
        let certificate = issue_certificate(&authority, &["127.0.0.1"], validity).unwrap();
        let registry = Arc::new(Registry::open(store, directory).unwrap());
        let policy = Policy {
            login: Some(Users::User {
                name: "edge".to_owned(),
                password: "canary".into(),
            }),
            ..Policy::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(serve(
            listener,
            Some(CertificateSlot::new(&certificate).unwrap()),
            with_fast_path(registry_service(registry.clone(), policy)),
            ServeLimits::default(),
            shutdown.clone(),
        ));
        Served {
            address,
            authority: authority.certificate,
            registry,
            shutdown,
            task,
        }
    }

    fn client(&self, password: &str) -> RegistryClient {
        let mut endpoint = Endpoint::new(self.address.to_string().parse().unwrap());
        endpoint.tls = TlsPolicy {
            insecure: false,
            certificates: vec![self.authority.clone()],
        };
        endpoint.login = Some(Login {
            username: "edge".to_owned(),
            password: password.into(),
        });
        RegistryClient::new(endpoint).unwrap()
    }

    async fn stop(mut self) -> Drained {
        self.shutdown.cancel();
        self.task.join_next().await.unwrap().unwrap()
    }
}

struct Directory {
    _temporary: tempfile::TempDir,
    path: Utf8PathBuf,
}

fn mk_directory() -> Directory {
    let temporary = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(temporary.path().to_owned()).unwrap();
    Directory {
        _temporary: temporary,
        path,
    }
}

fn repository(path: &str) -> Repository {
    path.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_goes_from_an_archive_through_store_and_registry_into_another_store() {
    let directory = mk_directory();
    let big: Vec<u8> = (0..700_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let amd64 = FixtureBuilder::new()
        .plain_layer(&[("big", &big)])
        .gzip_layer(&[("small", b"x")])
        .build();
    let arm64 = FixtureBuilder::new()
        .platform("linux", "arm64")
        .plain_layer(&[("big", &big)])
        .build();
    let index = multi_platform(&[amd64.clone(), arm64]);
    let name: ImageReference = "reg.example/a/b:1".parse().unwrap();
    let options = CopyOptions::new(4);

    let archive = directory.path.join("images.tar");
    std::fs::write(&archive, oci_archive(&[("reg.example/a/b:1", &index)])).unwrap();
    let images = open_archive(&archive, &directory.path).unwrap();
    let store = ContentStore::open(&directory.path.join("store")).unwrap();
    let sink = StoreSink::new(store.clone());
    let root = images[0].root.digest.clone();
    copy_image(
        images[0].source.as_ref(),
        root.as_str(),
        &sink,
        Some(&name),
        &options,
        &NoProgress,
    )
    .await
    .unwrap();
    assert_eq!(root, index.root.digest);
    assert!(store.is_complete(&root).unwrap());

    // The registry serves from a store of its own, so every blob crosses the connection.
    let far = ContentStore::open(&directory.path.join("far")).unwrap();
    let served = Served::start(far.clone(), &directory.path.join("repositories")).await;
    let sink = RegistrySink::new(
        served.client("canary"),
        repository("project/a/b"),
        Some("1".parse().unwrap()),
    );
    let source = StoreSource::new(store.clone(), name.clone());
    let report = copy_image(&source, "1", &sink, Some(&name), &options, &NoProgress)
        .await
        .unwrap();
    assert_eq!(report.blobs_moved, u64::try_from(index.blobs.len()).unwrap());
    assert!(far.is_complete(&root).unwrap());
    assert_eq!(
        served.registry.find_manifest(&repository("project/a/b"), "1").unwrap(),
        Some(root.clone())
    );
    let again = copy_image(&source, "1", &sink, Some(&name), &options, &NoProgress)
        .await
        .unwrap();
    assert_eq!(again.blobs_moved, 0, "a second run moves nothing");
    assert_eq!(
        served
            .client("canary")
            .list_tags(&repository("project/a/b"))
            .await
            .unwrap(),
        ["1"]
    );
    assert_eq!(
        served.client("canary").list_repositories().await.unwrap(),
        ["project/a/b"]
    );

    let near = ContentStore::open(&directory.path.join("near")).unwrap();
    let source = RegistrySource {
        client: served.client("canary"),
        repository: repository("project/a/b"),
    };
    copy_image(
        &source,
        "1",
        &StoreSink::new(near.clone()),
        Some(&name),
        &options,
        &NoProgress,
    )
    .await
    .unwrap();
    assert!(near.is_complete(&root).unwrap());
    assert_eq!(near.image(&name).unwrap().digest, root);

    let denied = RegistrySource {
        client: served.client("wrong"),
        repository: repository("project/a/b"),
    };
    let error = copy_image(&denied, "1", &StoreSink::new(near), None, &options, &NoProgress)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Unauthorized);
    assert!(!format!("{error:?}").contains("canary"));
    drop((source, sink, denied));
    assert_eq!(served.stop().await, Drained { abandoned: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_over_the_agents_own_store_takes_its_images_without_a_second_copy() {
    let directory = mk_directory();
    let image = FixtureBuilder::new().plain_layer(&[("file", &[7; 300_000])]).build();
    let archive = directory.path.join("saved.tar");
    std::fs::write(&archive, docker_archive(&[(&["a/b:1"], &image)])).unwrap();
    let images = open_archive(&archive, &directory.path).unwrap();
    let store = ContentStore::open(&directory.path.join("store")).unwrap();
    let name: ImageReference = images[0].names[0].parse().unwrap();
    let options = CopyOptions::new(2);
    let sink = StoreSink::new(store.clone());
    copy_image(
        images[0].source.as_ref(),
        "1",
        &sink,
        Some(&name),
        &options,
        &NoProgress,
    )
    .await
    .unwrap();
    let blobs = || std::fs::read_dir(store.root().join("blobs/sha256")).unwrap().count();
    let before = blobs();

    let served = Served::start(store.clone(), &directory.path.join("repositories")).await;
    let sink = RegistrySink::new(
        served.client("canary"),
        repository("spectro-images/docker.io/a/b"),
        Some("1".parse().unwrap()),
    );
    copy_image(
        &StoreSource::new(store.clone(), name.clone()),
        "1",
        &sink,
        Some(&name),
        &options,
        &NoProgress,
    )
    .await
    .unwrap();
    assert_eq!(blobs(), before);
    assert_eq!(
        served.client("canary").list_repositories().await.unwrap(),
        ["spectro-images/docker.io/a/b"]
    );
    served.stop().await;
}

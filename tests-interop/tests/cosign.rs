//! Signatures of images that cosign 3 pushes, in both of its forms, as Landfall verifies them by key: in registries
//! with the referrers API and without it, and in the archive that `landfall copy --referrers` writes. cosign's own
//! `verify` answers the same.
//!
//! Ed25519 is left out: cosign 3.1.3 signs images with the variant Ed25519ph, which its own `verify --key` refuses.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::cosign::{CosignOutcome, ImageRefusal, SignatureForm};
use landfall_core::reference::Digest;
use landfall_net::tls::TlsPolicy;
use landfall_oci::archive::open_archive;
use landfall_oci::bundle::signature::PublicKey;
use landfall_oci::client::{Endpoint, RegistryClient, RegistrySource};
use landfall_oci::cosign::verify_image;
use landfall_oci::image::ImageSource;
use landfall_testkit::image_builder::{ImageFixture, multi_platform, small_image};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::docker_registry::DockerRegistry;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::images::write_layout;
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::program::{Finished, run};
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;
use tempfile::TempDir;

const REPOSITORY: &str = "shop/app";

/// Key pairs of openssl, by the names of their files.
const KEYS: [(&str, &str); 3] = [
    ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
    ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
    ("rsa", "rsa -pkeyopt rsa_keygen_bits:2048"),
];

const FORMS: [SignatureForm; 2] = [SignatureForm::Classic, SignatureForm::Bundle];

/// A directory with keys, and the home of cosign.
struct Desk {
    directory: TempDir,
    cosign: Utf8PathBuf,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk {
            directory: tempfile::tempdir().expect("a temporary directory"),
            cosign: tool("cosign"),
        };
        for (name, algorithm) in KEYS {
            desk.line(&format!(
                "openssl genpkey -quiet -algorithm {algorithm} -out {name}.key && \
                 openssl pkey -in {name}.key -pubout -out {name}.pub"
            ));
            let import = ["import-key-pair", "--yes", "--key", &format!("{name}.key")];
            drop(
                desk.cosign(&[&import[..], &["--output-key-prefix", &format!("cosign-{name}")]].concat())
                    .succeeded(),
            );
        }
        desk
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a temporary directory with a UTF-8 name")
    }

    fn line(&self, line: &str) {
        let mut command = Command::new("sh");
        command.args(["-euc", line]).current_dir(self.path());
        drop(run(command).succeeded());
    }

    fn cosign(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(&self.cosign);
        command
            .args(arguments)
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("COSIGN_PASSWORD", "");
        run(command)
    }

    fn key(&self, name: &str) -> PublicKey {
        let text = fs_err::read_to_string(self.path().join(format!("{name}.pub"))).expect("a key of our own");
        PublicKey::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Signs an image without asking a log, a clock or a root of trust.
    fn sign(&self, image: &str, key: &str, form: SignatureForm) {
        let key = format!("cosign-{key}.key");
        let offline = [
            "--yes",
            "--allow-insecure-registry",
            "--tlog-upload=false",
            "--use-signing-config=false",
        ];
        let signed = self.cosign(&[&["sign", "--key", &key, form_argument(form)], &offline[..], &[image]].concat());
        drop(signed.succeeded());
    }

    /// Returns cosign's own answer.
    fn accepts(&self, image: &str, key: &str, form: SignatureForm) -> bool {
        let key = format!("{key}.pub");
        let offline = ["--allow-insecure-registry", "--insecure-ignore-tlog"];
        let verified = self.cosign(&[&["verify", "--key", &key, form_argument(form)], &offline[..], &[image]].concat());
        verified.code() == Some(0)
    }
}

fn form_argument(form: SignatureForm) -> &'static str {
    match form {
        SignatureForm::Classic => "--new-bundle-format=false",
        SignatureForm::Bundle => "--new-bundle-format=true",
    }
}

fn verify(source: &dyn ImageSource, image: &Digest, key: PublicKey) -> CosignOutcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(verify_image(source, image, &[key]));
    outcome.unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn source_of(host: &str) -> RegistrySource {
    let mut endpoint = Endpoint::new(host.parse().expect("a host"));
    endpoint.tls = TlsPolicy {
        insecure: true,
        certificates: Vec::new(),
    };
    RegistrySource {
        client: RegistryClient::new(endpoint).expect("a client"),
        repository: REPOSITORY.parse().expect("a repository"),
    }
}

/// Pushes an image under a tag.
fn push(desk: &Desk, host: &str, authority: &PrivateAuthority, tag: &str, image: &ImageFixture) {
    let layout = desk.path().join(format!("layout-{tag}"));
    write_layout(&layout, image);
    let access = Access {
        host,
        authority: Some(authority.pem()),
        account: None,
    };
    Skopeo::default().push_layout(&layout, "image", access, &format!("{REPOSITORY}:{tag}"));
}

#[test]
fn landfall_and_cosign_agree_on_who_signed_an_image() {
    let desk = Desk::new();
    let authority = PrivateAuthority::generate("cosign");
    let ours = LandfallRegistry::start(Some(&authority), None);
    let theirs = DockerRegistry::start(&authority, None);
    for host in [ours.host().to_owned(), theirs.host()] {
        for (number, (signer, _)) in KEYS.into_iter().enumerate() {
            for form in FORMS {
                agree(
                    &desk,
                    &host,
                    &authority,
                    signer,
                    KEYS[(number + 1) % KEYS.len()].0,
                    form,
                );
            }
        }
    }
}

fn agree(desk: &Desk, host: &str, authority: &PrivateAuthority, signer: &str, other: &str, form: SignatureForm) {
    let tag = format!("{signer}-{form:?}").to_lowercase();
    let image = small_image(&tag);
    push(desk, host, authority, &tag, &image);
    let (digest, source) = (&image.root.digest, source_of(host));
    let reference = format!("{host}/{REPOSITORY}@{digest}");
    assert_eq!(
        verify(&source, digest, desk.key(signer)),
        CosignOutcome::Refused(ImageRefusal::Unsigned),
        "{tag}"
    );
    desk.sign(&reference, signer, form);
    let key = desk.key(signer);
    let signed = CosignOutcome::Signed {
        key: key.id().clone(),
        form,
    };
    assert_eq!(verify(&source, digest, key), signed, "{tag} in {host}");
    let refused = verify(&source, digest, desk.key(other));
    assert!(
        matches!(refused, CosignOutcome::Refused(ImageRefusal::NotTrusted(_))),
        "{tag} in {host}: {refused:?}"
    );
    let theirs = [signer, other].map(|key| desk.accepts(&reference, key, form));
    // cosign verifies no P-384 key with the hash that it signs with.
    assert_eq!(
        theirs,
        [signer != "p384", false],
        "{tag} in {host}: cosign's own answer"
    );
}

#[test]
fn the_signatures_of_an_index_are_verified_in_an_archive() {
    let desk = Desk::new();
    let authority = PrivateAuthority::generate("cosign");
    let registry = LandfallRegistry::start(Some(&authority), None);
    let host = registry.host();
    for form in FORMS {
        let tag = format!("{form:?}").to_lowercase();
        let image = multi_platform(&[small_image(&tag), small_image(&format!("{tag}-2"))]);
        push(&desk, host, &authority, &tag, &image);
        desk.sign(&format!("{host}/{REPOSITORY}@{}", image.root.digest), "p256", form);
        let archive = desk.path().join(format!("{tag}.tar"));
        let copied = run_landfall(&[
            "copy",
            &format!("{host}/{REPOSITORY}:{tag}"),
            &format!("oci-archive:{archive}"),
            "--referrers",
            "--insecure",
            host,
            "--progress",
            "none",
        ]);
        drop(copied.succeeded());
        let images = open_archive(&archive, desk.path()).unwrap_or_else(|error| panic!("{error}"));
        let [only] = &images[..] else { panic!("{images:?}") };
        let key = desk.key("p256");
        let signed = CosignOutcome::Signed {
            key: key.id().clone(),
            form,
        };
        assert_eq!(verify(&*only.source, &image.root.digest, key), signed, "{tag}");
        let refused = verify(&*only.source, &image.root.digest, desk.key("rsa"));
        assert!(
            matches!(refused, CosignOutcome::Refused(ImageRefusal::NotTrusted(_))),
            "{tag}: {refused:?}"
        );
    }
}

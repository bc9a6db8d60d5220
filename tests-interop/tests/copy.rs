//! `landfall copy` between real registries, with skopeo as the one who looks.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::net::SocketAddr;

use landfall_testkit::image_builder::ImageBuilder;
use landfall_testkit::weak_link::{WeakLink, Weakness};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::docker_registry::DockerRegistry;
use landfall_tests_interop::images::{NamedImage, profile_images, push_images};
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;

fn open_registry<'a>(host: &'a str, authority: &'a PrivateAuthority) -> Access<'a> {
    Access {
        host,
        authority: Some(authority.pem()),
        account: None,
    }
}

/// The blobs that a registry gave and got.
fn transfers(registry: &DockerRegistry, method: &str) -> usize {
    let requests = registry.requests();
    let blobs = requests
        .iter()
        .filter(|request| request.method == method && request.path.contains("/blobs/"));
    blobs.count()
}

#[test]
fn a_list_of_images_arrives_whole_and_a_second_run_moves_nothing() {
    let authority = PrivateAuthority::generate("copy");
    let (from, to) = (
        DockerRegistry::start(&authority, None),
        DockerRegistry::start(&authority, None),
    );
    let (from_host, to_host) = (from.host(), to.host());
    let skopeo = Skopeo::default();
    let images = profile_images();
    push_images(&skopeo, open_registry(&from_host, &authority), "all/", &images);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let list = directory.path().join("images.txt");
    let lines: Vec<String> = images
        .iter()
        .map(|NamedImage { name, .. }| format!("{from_host}/all/{name} {to_host}/mirror/{name}"))
        .collect();
    std::fs::write(&list, lines.join("\n")).expect("a file");
    let list = list.display().to_string();
    let arguments = [
        "copy",
        "--from-file",
        &list,
        "--insecure",
        &from_host,
        "--insecure",
        &to_host,
        "-o",
        "json",
    ];
    drop(run_landfall(&arguments).succeeded());
    for NamedImage { name, image } in &images {
        let pulled = skopeo.pull(open_registry(&to_host, &authority), &format!("mirror/{name}"));
        assert_eq!(pulled, image.root.digest.to_string(), "{name}");
    }
    let (given, got) = (transfers(&from, "GET"), transfers(&to, "PUT"));
    let again = run_landfall(&arguments).succeeded();
    let report: serde_json::Value = serde_json::from_str(&again.stdout()).expect("JSON on stdout");
    assert_eq!(report["summary"]["unchanged"], images.len(), "{report}");
    assert_eq!(
        (transfers(&from, "GET"), transfers(&to, "PUT")),
        (given, got),
        "no blob moves twice"
    );
}

/// This registry loses an upload whose connection breaks; the copy gets through all the same, in pieces.
#[test]
fn a_blob_larger_than_any_connection_lives_gets_through_to_a_registry_that_cannot_resume() {
    let authority = PrivateAuthority::generate("copy");
    let (from, to) = (
        DockerRegistry::start(&authority, None),
        DockerRegistry::start(&authority, None),
    );
    let (from_host, to_host) = (from.host(), to.host());
    let noise: Vec<u8> = (0..6_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let image = ImageBuilder::new().plain_layer(&[("noise", &noise)]).build();
    let name = "big:1";
    let images = [NamedImage { name, image }];
    let skopeo = Skopeo::default();
    push_images(&skopeo, open_registry(&from_host, &authority), "", &images);
    for weakness in [Weakness::Closes(9_000_000), Weakness::Resets(9_000_000)] {
        let target = |host: &str| host.parse::<SocketAddr>().expect("an address and a port");
        let source_link = WeakLink::start(target(&from_host), weakness, u64::MAX);
        let sink_link = WeakLink::start(target(&to_host), weakness, u64::MAX);
        let (source, sink) = (source_link.address().to_string(), sink_link.address().to_string());
        let path = format!("{weakness:?}").to_lowercase().replace(['(', ')'], "");
        let (one, other) = (format!("{source}/big:1"), format!("{sink}/{path}:1"));
        let arguments = ["copy", &one, &other, "--insecure", &source, "--insecure", &sink];
        drop(run_landfall(&arguments).succeeded());
        let pulled = skopeo.pull(open_registry(&to_host, &authority), &format!("{path}:1"));
        assert_eq!(pulled, images[0].image.root.digest.to_string());
    }
}

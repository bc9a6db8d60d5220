//! Collection of graphs in which digests have several roles.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::time::SystemTime;

use landfall_core::oci_types::media_type;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::digest::digest_of;
use crate::store::gc::Roots;
use crate::store::tests::mk_store;

const UNKNOWN: &str = "application/vnd.example.v1+json";

fn write(store: &ContentStore, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    let blob = Descriptor::new("", digest.clone(), bytes.len() as u64);
    store.write_blob_bytes(&blob, bytes).unwrap();
    digest
}

fn describe(bytes: &[u8], media_type: Option<&str>) -> Value {
    let mut value = json!({"digest": digest_of(bytes), "size": bytes.len()});
    if let Some(media_type) = media_type {
        value["mediaType"] = json!(media_type);
    }
    value
}

fn mk_image_manifest(layers: &[Value], nonce: usize) -> Vec<u8> {
    json!({"schemaVersion": 2, "config": describe(b"{}", Some(media_type::OCI_CONFIG)), "layers": layers,
           "annotations": {"nonce": nonce.to_string()}})
    .to_string()
    .into_bytes()
}

fn collect(store: &ContentStore, manifests: &[Digest]) {
    let roots = || {
        Ok(Roots {
            manifests: manifests.to_vec(),
            blobs: Vec::new(),
        })
    };
    store.gc(roots, SystemTime::now()).unwrap();
}

#[test]
fn a_manifest_that_is_also_a_layer_or_an_entry_of_unknown_type_keeps_what_it_names() {
    for (role, media_type) in [
        ("layers", Some("application/json")),
        ("manifests", None),
        ("manifests", Some(UNKNOWN)),
        ("manifests", Some(media_type::OCI_MANIFEST)),
    ] {
        // The order of the walk goes by the roots: both orders are tried.
        for image_first in [true, false] {
            let (_directory, store) = mk_store();
            write(&store, b"{}");
            let layer = write(&store, b"layer");
            let image = mk_image_manifest(&[describe(b"layer", Some(media_type::OCI_LAYER))], 0);
            let other = match role {
                "layers" => mk_image_manifest(&[describe(&image, media_type)], 1),
                _ => json!({"schemaVersion": 2, "manifests": [describe(&image, media_type)]})
                    .to_string()
                    .into_bytes(),
            };
            let mut roots = vec![write(&store, &image), write(&store, &other)];
            if !image_first {
                roots.reverse();
            }
            collect(&store, &roots);
            assert!(
                store.blob_size(&layer).unwrap().is_some(),
                "{role} {media_type:?} {image_first}"
            );
            if role == "manifests" {
                collect(&store, &[digest_of(&other)]);
                assert!(
                    store.blob_size(&layer).unwrap().is_some(),
                    "only the index is a root: {media_type:?}"
                );
                let missing = store.first_missing(&digest_of(&other), |_| ()).unwrap();
                assert_eq!(missing, None);
                std::fs::remove_file(store.blob_path(&layer)).unwrap();
                let missing = store.first_missing(&digest_of(&other), |_| ()).unwrap();
                assert_eq!(missing, Some(layer), "{media_type:?}");
            }
        }
    }
}

#[test]
fn an_entry_of_an_index_that_is_no_manifest_is_complete_without_more() {
    let (_directory, store) = mk_store();
    write(&store, b"no manifest");
    let index = json!({"schemaVersion": 2, "manifests": [describe(b"no manifest", Some(UNKNOWN))]}).to_string();
    let index = write(&store, index.as_bytes());
    assert!(store.is_complete(&index).unwrap());
    let reachable = store.reachable([index]).unwrap();
    assert_eq!((reachable.content.len(), reachable.unreadable.len()), (2, 0));
}

#[test]
fn a_root_and_an_entry_that_must_be_a_manifest_are_incomplete_if_they_are_none() {
    let (_directory, store) = mk_store();
    let none = write(&store, b"no manifest");
    assert!(!store.is_complete(&none).unwrap());
    let index = json!({"schemaVersion": 2, "manifests": [describe(b"no manifest", Some(media_type::OCI_MANIFEST))]});
    let index = write(&store, index.to_string().as_bytes());
    assert!(!store.is_complete(&index).unwrap());
    let reachable = store.reachable([index]).unwrap();
    assert_eq!(reachable.unreadable, BTreeSet::from([none]));
}

#[test]
fn an_entry_of_an_index_that_is_damaged_is_told_though_it_need_not_be_a_manifest() {
    let (_directory, store) = mk_store();
    let entry = write(&store, b"no manifest");
    let index = json!({"schemaVersion": 2, "manifests": [describe(b"no manifest", Some(UNKNOWN))]}).to_string();
    let index = write(&store, index.as_bytes());
    std::fs::write(store.blob_path(&entry), b"rotten").unwrap();
    let reachable = store.reachable([index]).unwrap();
    assert_eq!(reachable.unreadable, BTreeSet::from([entry]));
}

#[test]
fn a_damaged_manifest_is_told_and_protects_what_can_still_be_read() {
    let (_directory, store) = mk_store();
    write(&store, b"{}");
    let layer = write(&store, b"layer");
    let image = mk_image_manifest(&[describe(b"layer", Some(media_type::OCI_LAYER))], 7);
    let digest = write(&store, &image);
    let rotten = String::from_utf8(image).unwrap().replace("nonce", "nunce");
    std::fs::write(store.blob_path(&digest), rotten).unwrap();
    let missing = digest_of(b"never pushed");
    let reachable = store.reachable([digest.clone(), missing.clone()]).unwrap();
    assert!(reachable.content.contains(&layer));
    assert_eq!(reachable.unreadable, BTreeSet::from([digest, missing]));
}

/// A node of a random graph: a blob or a document, with children among the earlier nodes and their types.
#[derive(Debug, Clone)]
struct Node {
    kind: u8,
    children: Vec<(prop::sample::Index, Option<&'static str>)>,
}

fn any_node() -> impl Strategy<Value = Node> {
    let media_type = prop::sample::select(vec![
        None,
        Some(UNKNOWN),
        Some(media_type::OCI_LAYER),
        Some(media_type::OCI_MANIFEST),
        Some(media_type::OCI_INDEX),
    ]);
    let children = prop::collection::vec((any::<prop::sample::Index>(), media_type), 0..4);
    (0..3u8, children).prop_map(|(kind, children)| Node { kind, children })
}

/// Returns the digests that a client needs for this node: the rule of the specification, written a second time.
fn needed(node: usize, nodes: &[(Node, Vec<u8>)], found: &mut BTreeSet<Digest>) {
    let (Node { kind, children }, bytes) = &nodes[node];
    found.insert(digest_of(bytes));
    if *kind == 1 {
        found.insert(digest_of(b"{}"));
    }
    for (child, media_type) in children.iter().filter(|_| *kind > 0 && node > 0) {
        let child = child.index(node);
        let is_walked =
            *kind == 2 || media_type.is_some_and(|known| known.contains("manifest") || known.contains("index"));
        if is_walked {
            needed(child, nodes, found);
        } else {
            found.insert(digest_of(&nodes[child].1));
        }
    }
}

proptest! {
    // Each case writes a store to the disk.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn all_that_a_tag_reaches_outlives_a_collection(
        nodes in prop::collection::vec(any_node(), 1..14),
        tagged in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (_directory, store) = mk_store();
        write(&store, b"{}");
        let mut made: Vec<(Node, Vec<u8>)> = Vec::new();
        for (number, node) in nodes.into_iter().enumerate() {
            let children: Vec<Value> = node
                .children
                .iter()
                .filter(|_| number > 0)
                .map(|(child, media_type)| describe(&made[child.index(number)].1, *media_type))
                .collect();
            let bytes = match node.kind {
                0 => format!("blob {number}").into_bytes(),
                1 => mk_image_manifest(&children, number),
                _ => json!({"schemaVersion": 2, "manifests": children, "annotations": {"nonce": number.to_string()}})
                    .to_string()
                    .into_bytes(),
            };
            write(&store, &bytes);
            made.push((node, bytes));
        }
        let tagged: Vec<usize> = tagged.into_iter().map(|tagged| tagged.index(made.len())).collect();
        let mut expected = BTreeSet::new();
        for &node in &tagged {
            needed(node, &made, &mut expected);
        }
        let roots: Vec<Digest> = tagged.iter().map(|node| digest_of(&made[*node].1)).collect();
        collect(&store, &roots);
        let kept: BTreeSet<Digest> = store.blobs().unwrap().into_iter().collect();
        prop_assert_eq!(kept, expected);
    }
}
